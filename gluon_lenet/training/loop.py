"""A net, its trainer and an engine -> the trained net, and the result of each epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import mxnet as mx
from mxnet import gluon

from gluon_lenet.engines.base import Engine, Pending, Totals, behind
from gluon_lenet.errors import InputError
from gluon_lenet.training.metrics import EpochResult, Progress


class DivergedError(ArithmeticError):
    """The loss or a weight became NaN or infinite; the message names the epoch and the batch."""


class Data(NamedTuple):
    """The loaders of one training, each of which yields X float32 (b, c, h, w), y (b,)."""

    train: Iterable
    test: Iterable  # scored after each epoch
    validation: Iterable | None = None  # held-out training data, likewise


class Watcher:
    """Is notified of the training's progress, and may stop it. This base class does nothing."""

    def batch(self, num_examples: int) -> None:
        """Called when the device has finished a batch of this many images."""

    def should_stop(self) -> bool:
        """Called before each batch: whether to stop the training there."""
        return False


class Loop:
    """The loop that `train_ch5`, `train_ch6`, the command line and the notebooks run: batch, step, watcher.

    Args:
        trainer: a `gluon.Trainer` of the net's parameters.
        engine: computes with the net; it may give the trainer an updater that computes the same bits (`Engine.adopt`).
        batch_size: the divisor of summed gradients; None divides by the size of each batch, so that a smaller last
            batch has full weight.
        seed: from which, with the epoch and the batch, the net's random numbers (dropout) follow; None leaves MXNet's
            generator alone, which `mx.random.seed` governs.
    """

    def __init__(self, trainer: gluon.Trainer, engine: Engine, batch_size: int | None = None, seed: int | None = None):
        self.trainer, self.engine, self.batch_size, self.seed = trainer, engine, batch_size, seed
        engine.adopt(trainer)

    def epochs(
        self, data: Data, num_epochs: int, progress: Progress | None = None, watcher: Watcher | None = None
    ) -> Iterator[EpochResult]:
        """Train to the end of epoch `num_epochs`; yields each epoch's result after its test pass.

        Args:
            data: `data.train` must begin with the pass of the current epoch.
            num_epochs: counted from the start of the training.
            progress: where to start, updated in place; by default at the first batch.
            watcher: if it stops the training, the iterator ends; `progress` and the weights are those after the last
                finished batch.

        Raises:
            DivergedError: the loss or a weight is NaN or infinite.
            InputError: there are no batches, or labels that are not classes of the net.
        """
        progress, watcher = progress or Progress(), watcher or Watcher()
        while progress.epoch <= num_epochs:
            mx.nd.waitall()
            start = time.perf_counter()
            is_whole = self._train(data.train, progress, watcher)
            progress.train_seconds += time.perf_counter() - start
            if not is_whole:
                return
            result = self._measure(data, progress)
            progress.begin_next_epoch()
            yield result

    def _train(self, train_iter: Iterable, progress: Progress, watcher: Watcher) -> bool:
        """The rest of one pass over the training data, added to `progress`; False if it was stopped early."""
        stopped, first = False, progress.batch

        def steps() -> Iterator[Pending]:
            nonlocal stopped
            for number, batch in enumerate(islice(self.engine.batches(train_iter), first, None), first):
                stopped = watcher.should_stop()
                if stopped:
                    return
                if self.seed is not None:
                    self.engine.seed(self.seed, progress.epoch, number)
                yield self.engine.step(batch, self.trainer, self.batch_size)

        for step in behind(steps()):
            watcher.batch(_count(step, progress))
        if not stopped and not progress.num_examples:
            raise InputError(
                f"epoch {progress.epoch}: the training data have no batches; they must have some every epoch"
            )
        return not stopped

    def _measure(self, data: Data, progress: Progress) -> EpochResult:
        """Evaluate after an epoch; returns its result."""
        start = time.perf_counter()
        train = self.engine.combine(Totals(progress.loss_sum, progress.num_correct, progress.num_examples))
        test = self.engine.evaluate(data.test)
        validation = self.engine.evaluate(data.validation) if data.validation else None
        return EpochResult(
            epoch=progress.epoch,
            train_loss=float(train.loss_sum / train.num_examples),
            train_acc=float(train.num_correct / train.num_examples),
            test_acc=test.num_correct / test.num_examples,
            train_seconds=progress.train_seconds,
            eval_seconds=time.perf_counter() - start,
            val_loss=validation and validation.loss_sum / validation.num_examples,
            val_acc=validation and validation.num_correct / validation.num_examples,
        )


def _count(step: Pending, progress: Progress) -> int:
    """Wait for a step and add it to `progress`; returns its number of images."""
    (loss_sum, num_correct, num_examples), is_finite = step.wait()
    progress.batch += 1
    where = f"epoch {progress.epoch}, batch {progress.batch}"
    if not math.isfinite(loss_sum):
        raise DivergedError(f"{where}: the loss is {loss_sum}; try a smaller lr")
    if not is_finite:
        # NaN weights can hide behind max pooling and ReLU: the loss stays finite
        raise DivergedError(f"{where}: a weight is NaN or infinite; try a smaller lr")
    progress.loss_sum += loss_sum
    progress.num_correct += num_correct
    progress.num_examples += num_examples
    return num_examples
