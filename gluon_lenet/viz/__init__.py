"""Arrays and results -> figures, with Chinese text."""
