"""A recipe -> a trained net and its run directory."""
