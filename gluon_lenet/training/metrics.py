"""What training counts and measures: progress, the result of each epoch, sums and stopwatches."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate

from gluon_lenet.fields import Count, Natural, NotNegative, Number, Share


@dataclass(frozen=True)
class EpochResult:
    """The results of one epoch."""

    epoch: Natural  # from 1
    train_loss: Number  # mean over the training images, each with the weights at its batch
    train_acc: Share  # likewise
    test_acc: Share  # after the epoch
    train_seconds: NotNegative
    eval_seconds: NotNegative
    val_loss: Number | None = None  # on held-out training images, after the epoch; None if there are none
    val_acc: Share | None = None

    def __str__(self) -> str:
        """The line the book prints; its time includes the test pass."""
        validation = "" if self.val_acc is None else f"val loss {self.val_loss:.4f}, val acc {self.val_acc:.3f}, "
        return (
            f"epoch {self.epoch}, loss {self.train_loss:.4f}, train acc {self.train_acc:.3f}, {validation}"
            f"test acc {self.test_acc:.3f}, time {self.train_seconds + self.eval_seconds:.1f} sec"
        )

    def to_json(self) -> str:
        """One line of metrics.jsonl."""
        return json.dumps({name: value for name, value in asdict(self).items() if value is not None}, allow_nan=False)


def best_epoch(history: Sequence[EpochResult]) -> EpochResult:
    """The epoch with the best validation accuracy, the first of equals; the last epoch without validation images.

    `history` must not be empty.
    """
    if history[0].val_acc is None:
        return history[-1]
    return max(history, key=lambda result: result.val_acc)


@dataclass
class Progress:
    """How far a training has got; `Loop.epochs` starts from it and updates it."""

    epoch: Natural = 1  # the current epoch, from 1
    batch: Count = 0  # number of its batches done
    loss_sum: Number = 0.0  # over the images of those batches
    num_correct: NotNegative = 0.0
    num_examples: Count = 0
    train_seconds: NotNegative = 0.0

    def begin_next_epoch(self) -> None:
        """Move to the start of the next epoch."""
        vars(self).update(vars(Progress(epoch=self.epoch + 1)))


class Accumulator:
    """Sums over `n` numbers at once, as the d2l course has it: `metric.add(loss, correct, count); metric[1]`."""

    def __init__(self, n: int):
        self.data = [0.0] * n

    def add(self, *args) -> None:
        """Add a number to each sum."""
        self.data = [total + float(number) for total, number in zip(self.data, args, strict=True)]

    def reset(self) -> None:
        """Set all sums to 0."""
        self.data = [0.0] * len(self.data)

    def __getitem__(self, i: int) -> float:
        return self.data[i]


class Timer:
    """A stopwatch of several laps, in seconds, as the d2l course has it; starts running when created.

    MXNet computes in the background: call `mx.nd.waitall()` before `start` and `stop`.
    """

    def __init__(self):
        self.times = []
        self.start()

    def start(self) -> None:
        """Start a lap."""
        self._began = time.perf_counter()

    def stop(self) -> float:
        """End the lap; returns its seconds."""
        self.times.append(time.perf_counter() - self._began)
        return self.times[-1]

    def sum(self) -> float:
        """Seconds of all laps."""
        return sum(self.times)

    def avg(self) -> float:
        """Mean seconds per lap; raises ZeroDivisionError before the end of the first."""
        return sum(self.times) / len(self.times)

    def cumsum(self) -> list[float]:
        """Cumulative seconds at the end of each lap, without the time between laps."""
        return list(accumulate(self.times))


def accuracy(y_hat, y) -> float:
    """How many rows of the predictions y_hat (b, classes) have their maximum at the label y (b,): a count."""
    return float((y_hat.asnumpy().argmax(axis=1) == y.asnumpy()).sum())
