"""A net and a batch -> loss, correct count and gradients, by MXNet's autograd: any net, on any device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import mxnet as mx
import numpy as np
from mxnet import autograd, nd
from mxnet.gluon import Block, Trainer, nn
from mxnet.gluon.loss import Loss, SoftmaxCrossEntropyLoss
from mxnet.gluon.utils import split_and_load

from gluon_lenet.data.batches import Batch, check_labels
from gluon_lenet.engines import base
from gluon_lenet.engines.base import StepResult, Totals
from gluon_lenet.engines.proof import half_frozen
from gluon_lenet.errors import InputError


class Queued:
    """A batch that MXNet computes in the background: see `base.Pending`."""

    def __init__(self, losses: list[nd.NDArray], corrects: list[nd.NDArray], num_examples: int):
        self.losses, self.corrects, self.num_examples = losses, corrects, num_examples  # one array per device
        self.sums_of_squares = None  # of the weights after the step, if one was taken

    def wait(self) -> StepResult:
        """See `base.Pending`."""
        totals = Totals(_sum(self.losses), int(_sum(self.corrects)), self.num_examples)
        return StepResult(totals, self.sums_of_squares is None or base.are_finite(self.sums_of_squares))


class Autograd:
    """Forward and backward by MXNet, for any net on any device, or on several devices that share each batch.

    Args:
        net, contexts: the net and the devices it is on.
        loss: maps logits (b, classes) and labels (b,) to losses (b,); softmax cross-entropy by default.
        why: why the fused kernels were not chosen, for `str`.
    """

    name = "autograd"

    def __init__(self, net: Block, contexts: list[mx.Context], loss: Loss | None = None, why: str = ""):
        self.net, self.contexts, self.why = net, contexts, why
        self.loss = loss or SoftmaxCrossEntropyLoss()
        self.look()

    def look(self) -> None:
        """Check whether the net, as it is now, draws random numbers."""
        blocks = []
        self.net.apply(blocks.append)
        self.draws = any(isinstance(block, nn.Dropout) for block in blocks)

    def __str__(self) -> str:
        return self.name + (f" (not the fused kernels: {self.why})" if self.why else "")

    def adopt(self, trainer: Trainer) -> None:
        """See `base.Engine`; MXNet's own updater stays."""

    def seed(self, seed: int, epoch: int, batch: int) -> None:
        """See `base.Engine`.

        MXNet's generator cannot be saved, so a run can be resumed bit for bit only if it is reseeded for each batch.
        That takes 1.2 ms of CPU time in the background, so it is done only for nets that draw random numbers.
        """
        if self.draws:
            mx.random.seed(base.dropout_seed(seed, epoch, batch))

    def batches(self, data_iter: Iterable) -> Iterator:
        """See `base.Engine`; yields what the loader yields."""
        return iter(data_iter)

    def backprop(self, batch: Batch | tuple[nd.NDArray, nd.NDArray]) -> Queued:
        """See `base.Engine`; also raises InputError for a net for which MXNet computes wrong gradients."""
        if why := half_frozen(self.net):
            raise InputError(why)
        X, y = batch.arrays() if isinstance(batch, Batch) else batch
        losses, corrects = [], []
        for part, labels in self._split(X, y):
            with autograd.record():
                y_hat = self.net(part)
                _check_batch(y_hat, labels)
                loss_sum = self.loss(y_hat, labels).sum()
            loss_sum.backward()
            losses.append(loss_sum)
            corrects.append(_count_correct(y_hat, labels))
        return Queued(losses, corrects, len(y))

    def step(self, batch: Batch | tuple, trainer: Trainer, batch_size: int | None = None) -> Queued:
        """See `base.Engine`."""
        queued = self.backprop(batch)
        base.update(trainer, batch_size, queued.num_examples)
        queued.sums_of_squares = base.sums_of_squares(trainer)
        return queued

    def evaluate(self, data_iter: Iterable) -> Totals:
        """See `base.Engine`."""
        base.check_finite(self.net)
        loss_sum = num_correct = num_examples = 0
        for queued in base.behind(map(self._score, data_iter)):
            totals = queued.wait().totals
            loss_sum += totals.loss_sum
            num_correct += totals.num_correct
            num_examples += totals.num_examples
        if not num_examples:
            raise InputError("there are no batches to evaluate")
        return Totals(loss_sum, num_correct, num_examples)

    def _score(self, batch) -> Queued:
        X, y = batch
        losses, corrects = [], []
        for part, labels in self._split(X, y):
            y_hat = self.net(part)
            _check_batch(y_hat, labels)
            losses.append(self.loss(y_hat, labels).sum())
            corrects.append(_count_correct(y_hat, labels))
        return Queued(losses, corrects, len(y))

    def combine(self, totals: Totals) -> Totals:
        """See `base.Engine`."""
        return totals

    def logits(self, data_iter: Iterable) -> np.ndarray:
        """See `base.Engine`; on the first device."""
        outputs = base.behind(self.net(self._on_first(X)) for X, _ in data_iter)
        return np.concatenate([y_hat.asnumpy() for y_hat in outputs])

    def _on_first(self, array):
        return array.as_in_context(self.contexts[0])

    def _split(self, X, y):
        """The batch in parts of nearly equal size, one per device."""
        contexts = self.contexts
        if len(contexts) == 1:
            return [(self._on_first(X), self._on_first(y))]
        if len(X) < len(contexts):
            raise InputError(
                f"a batch of {len(X)} images cannot be shared by {len(contexts)} devices; change the batch size"
            )
        parts = (split_and_load(array, contexts, even_split=False) for array in (X, y))
        return zip(*parts, strict=True)


def _sum(parts: list[nd.NDArray]) -> float:
    """The sum over the devices; waits for them."""
    return float(sum(part.asscalar() for part in parts))


def _check_batch(y_hat: nd.NDArray, y: nd.NDArray) -> None:
    """Raise InputError unless y (b,) has one class of the logits y_hat (b, classes) for each image."""
    if y_hat.ndim != 2 or y.shape != y_hat.shape[:1]:
        raise InputError(f"labels of shape {y.shape} for outputs of shape {y_hat.shape}; must be (b,) for (b, classes)")
    check_labels(y.asnumpy(), y_hat.shape[1])


def _count_correct(y_hat: nd.NDArray, y: nd.NDArray) -> nd.NDArray:
    """How many rows of the logits y_hat (b, classes) have their maximum at the label y (b,): float32 of shape (1,)."""
    return (y_hat.argmax(axis=1) == y.astype("float32")).sum()
