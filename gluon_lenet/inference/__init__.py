"""A run directory and images -> predictions."""
