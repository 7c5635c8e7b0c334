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

# How many batches the loop may be ahead of the device: reading the results of a batch that old does not stall, and the
# queue's memory stays bounded.
_LEAD = 8

_MOST_AGGREGATED = 60  # arrays that one of MXNet's `multi_sgd_update` operations can hold


class Totals(NamedTuple):
    """Sums over the images of a batch or of a pass."""

    loss_sum: float
    num_correct: int
    num_examples: int


class StepResult(NamedTuple):
    """The result of one training step."""

    totals: Totals
    is_finite: bool  # whether all weights are finite after the step


class Pending(Protocol):
    """Results that the device may still be computing."""

    def wait(self) -> StepResult:
        """Wait for the results and return them."""


class Engine(Protocol):
    """Computes with one net. Only gradients are its task: `Trainer`, optimizers, schedules, weight decay are MXNet's.

    A batch is what `batches` yields: a `Batch` of gluon_lenet's `Batches`, or X float32 (b, c, h, w) and y (b,) of any
    other loader.
    """

    name: str  # in config.json and `--backprop`

    def adopt(self, trainer: Trainer) -> None:
        """Called once before the first step; may install an updater in the trainer that computes the same bits."""

    def batches(self, data_iter: Iterable) -> Iterator:
        """The batches of one pass."""

    def seed(self, seed: int, epoch: int, batch: int) -> None:
        """Seed the random numbers of the next batch, those of dropout, from these three numbers."""

    def backprop(self, batch: Batch | tuple[nd.NDArray, nd.NDArray]) -> Pending:
        """One forward and backward pass; the gradients are left in each parameter's `grad()`.

        The loss is summed over the batch, so that `trainer.step(batch_size)` takes the step of the mean.

        Raises:
            InputError: labels that are not classes of the net; no gradients are written.
        """

    def step(self, batch: Batch | tuple, trainer: Trainer, batch_size: int | None = None) -> Pending:
        """`backprop` and `trainer.step(batch_size)`, by default the number of images in the batch."""

    def evaluate(self, data_iter: Iterable) -> Totals:
        """Totals over one pass, forward only.

        Raises:
            InputError: a weight is NaN or infinite, or a label is not a class of the net.
        """

    def combine(self, totals: Totals) -> Totals:
        """The totals of an epoch's steps, over all processes that train the net together: the same, if it is one."""

    def logits(self, data_iter: Iterable) -> np.ndarray:
        """The net's outputs over one pass: float32 (n, classes)."""


def dropout_seed(seed: int, epoch: int, batch: int) -> int:
    """The seed of MXNet's generator for a run's seed, an epoch (from 1), and the number of batches done in it."""
    return int(np.random.SeedSequence([seed, epoch, batch]).generate_state(1)[0] >> 1)  # 31 bits: MXNet takes a C int


def behind(results: Iterable) -> Iterator:
    """The results in order, each delayed until _LEAD more were requested: by then the device has computed it."""
    ahead = deque()
    for result in results:
        ahead.append(result)
        if len(ahead) > _LEAD:
            yield ahead.popleft()
    yield from ahead


def update(trainer: Trainer, batch_size: int | None, num_examples: int) -> None:
    """`trainer.step(batch_size)`, by default `num_examples`, its operations handed to MXNet's threads in bulk."""
    num_params = len(trainer._params)
    if type(trainer._optimizer) is mx.optimizer.SGD:  # others do not aggregate, or compute something else if they do
        trainer._optimizer.aggregate_num = min(num_params, _MOST_AGGREGATED)  # default: 4 parameters per operation
    with mx.engine.bulk(num_params):
        trainer.step(num_examples if batch_size is None else batch_size)


def sums_of_squares(trainer: Trainer) -> nd.NDArray:
    """The sum of squares of each parameter: NaN or infinite if one of its weights is. Does not wait for the device."""
    weights = [param.list_data()[0] for param in trainer._params]
    # `multi_all_finite`, made for this, takes ten times as long (benchmarks/README.md). A square also overflows for
    # weights above 1e19; those have diverged, too.
    return nd.multi_sum_sq(*weights, num_arrays=len(weights))


def are_finite(sums: nd.NDArray) -> bool:
    """Whether all weights with these `sums_of_squares` are finite; waits for the device."""
    return bool(np.isfinite(sums.asnumpy()).all())


def check_finite(net: Block) -> None:
    """Raise InputError if a weight is NaN or infinite: max pooling and ReLU can hide it, but the accuracy is void."""
    for parameter in net.collect_params().values():
        if parameter._data is not None and not np.isfinite(parameter.list_data()[0].asnumpy()).all():
            raise InputError(f"{parameter.name} is NaN or infinite somewhere; the net diverged, or was not trained")
