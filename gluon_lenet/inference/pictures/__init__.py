"""A user's picture -> uint8 (28, 28) in the form of a data set."""
