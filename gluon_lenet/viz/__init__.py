"""Arrays and results -> figures, in Chinese too."""
