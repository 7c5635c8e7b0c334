"""A recipe and values for its settings -> many trainings, their results in one file, a table and a plot."""
