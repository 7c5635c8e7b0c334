"""A user's picture -> uint8 (28, 28) as the data set has it."""
