"""What training counts and measures: where a run stands, and the result of each epoch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class EpochResult:
    """What one epoch measured."""

    epoch: int  # 1 is the first
    train_loss: float  # mean over the training images, each at its batch's weights
    train_acc: float  # likewise
    test_acc: float  # after the epoch
    train_seconds: float
    eval_seconds: float

    def __str__(self) -> str:
        """The line the book prints; its time includes the test pass."""
        return (
            f"epoch {self.epoch}, loss {self.train_loss:.4f}, train acc {self.train_acc:.3f}, "
            f"test acc {self.test_acc:.3f}, time {self.train_seconds + self.eval_seconds:.1f} sec"
        )

    def to_json(self) -> str:
        """One line of metrics.jsonl."""
        return json.dumps(asdict(self))


@dataclass
class Progress:
    """Where a run stands: what `run_epochs` goes on from, and keeps up to date while it runs."""

    epoch: int = 1  # the epoch under way
    batch: int = 0  # its batches done so far
    loss_sum: float = 0.0  # over the images of those batches
    num_correct: float = 0.0
    num_examples: int = 0
    train_seconds: float = 0.0
