"""Several processes -> one training, or none left running."""
