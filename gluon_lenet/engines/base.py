"""What an engine promises: a batch in, gradients in `param.grad()`, loss sum and correct count out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import mxnet as mx
import numpy as np
from mxnet import nd
from mxnet.gluon import Block, Trainer

from gluon_lenet.data.batches import Batch
from gluon_lenet.errors import InputError

# How many batches the loop may be ahead of the device: reading numbers of a batch that old stalls nothing, and it
# bounds the memory of what is queued.
LEAD = 8

_MOST_AGGREGATED = 60  # arrays that one of MXNet's `multi_sgd_update` operations can hold


class Totals(NamedTuple):
    """Sums over the images of a batch or of a pass."""

    loss_sum: float
    num_correct: int
    num_examples: int


class StepResult(NamedTuple):
    """What one training step came to."""

    totals: Totals
    is_finite: bool  # whether all weights are finite after the step


class Pending(Protocol):
    """Numbers that the device may still be computing."""

    def wait(self) -> StepResult:
        """The numbers, when they are there."""


class Engine(Protocol):
    """Computes with one net. Everything but the gradients is MXNet's: `Trainer`, optimizers, schedules, weight decay.

    A batch is what `batches` yields: a `Batch` of gluon_lenet's `Batches`, or what any other loader yields, X float32
    (b, c, h, w) and y (b,).
    """

    name: str  # as config.json and `--backprop` call it

    def adopt(self, trainer: Trainer) -> None:
        """Called once before the first step: the engine may give the trainer an updater that computes the same bits."""

    def batches(self, data_iter: Iterable) -> Iterator:
        """The batches of one pass."""

    def seed(self, seed: int, epoch: int, batch: int) -> None:
        """Let the random numbers of the next batch, those of dropout, follow from these three."""

    def backprop(self, batch: Batch | tuple[nd.NDArray, nd.NDArray]) -> Pending:
        """One forward and backward pass; the gradients are left in each parameter's `grad()`.

        The loss is summed over the batch, so that `trainer.step(batch_size)` takes the step of the mean.

        Raises:
            InputError: labels that are no classes of the net, before there are gradients.
        """

    def step(self, batch: Batch | tuple, trainer: Trainer, batch_size: int | None = None) -> Pending:
        """`backprop` and `trainer.step(batch_size)`, by default the number of images in the batch."""

    def evaluate(self, data_iter: Iterable) -> Totals:
        """Totals over one pass, forward only.

        Raises:
            InputError: a weight is NaN or infinite, or a label no class of the net.
        """

    def logits(self, data_iter: Iterable) -> np.ndarray:
        """The net's outputs over one pass: float32 (n, classes)."""


def dropout_seed(seed: int, epoch: int, batch: int) -> int:
    """What MXNet's generator is seeded with for a run's seed, an epoch (1 the first), and the batches done in it."""
    return int(np.random.SeedSequence([seed, epoch, batch]).generate_state(1)[0] >> 1)  # 31 bits: MXNet takes a C int


def behind(results: Iterable) -> Iterator:
    """The results in order, each only after LEAD more were asked for, when the device has long computed it."""
    ahead = deque()
    for result in results:
        ahead.append(result)
        if len(ahead) > LEAD:
            yield ahead.popleft()
    yield from ahead


def update(trainer: Trainer, batch_size: int) -> None:
    """`trainer.step(batch_size)`, whose operations MXNet's threads get in one go."""
    num_params = len(trainer._params)
    if type(trainer._optimizer) is mx.optimizer.SGD:  # others do not group, or compute something else in groups
        trainer._optimizer.aggregate_num = min(num_params, _MOST_AGGREGATED)  # by default 4 parameters an operation
    with mx.engine.bulk(num_params):
        trainer.step(batch_size)


def sums_of_squares(trainer: Trainer) -> nd.NDArray:
    """Of each parameter's weights: NaN or infinite if one of them is. Not waited for."""
    weights = [param.list_data()[0] for param in trainer._params]
    # `multi_all_finite` is the function for it, and takes ten times as long (benchmarks/README.md). A square
    # overflows where a weight is above 1e19, which has diverged too.
    return nd.multi_sum_sq(*weights, num_arrays=len(weights))


def are_finite(sums: nd.NDArray) -> bool:
    """Whether the weights are whose `sums_of_squares` these are; waits for them."""
    return bool(np.isfinite(sums.asnumpy()).all())


def check_finite(net: Block) -> None:
    """Raise InputError if a weight is NaN or infinite: max pooling and ReLU hide it, and an accuracy means nothing."""
    for parameter in net.collect_params().values():
        if parameter._data is not None and not np.isfinite(parameter.list_data()[0].asnumpy()).all():
            raise InputError(f"{parameter.name} is NaN or infinite somewhere; the net diverged, or was not trained")
