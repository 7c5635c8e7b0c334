"""Labels and predictions -> counts of correct and wrong predictions, by class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Scores:
    """Counts of correct and wrong predictions, by class."""

    confusion: np.ndarray  # int64 (classes, classes): rows are actual classes, columns predicted ones

    @classmethod
    def of(cls, labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> Scores:
        """Count the pairs of label and prediction, each 0 to num_classes - 1."""
        pairs = labels.astype(np.int64) * num_classes + predictions
        return cls(np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes))

    @property
    def num_examples(self) -> int:
        """The number of images."""
        return int(self.confusion.sum())

    @property
    def num_correct(self) -> int:
        """The number of images predicted correctly."""
        return int(self.confusion.trace())

    @property
    def accuracy(self) -> float:
        """The fraction of images predicted correctly."""
        return self.num_correct / self.num_examples

    @property
    def by_class(self) -> list[tuple[int, int]]:
        """For each class: the number of images, and how many of them are predicted correctly."""
        return list(zip(self.confusion.sum(axis=1).tolist(), self.confusion.diagonal().tolist(), strict=True))
