"""A net and its batches -> loss sum, correct count, and gradients in `param.grad()`: by autograd or by fused kernels.

This is the one place where a training step can be computed in two ways. `trainer.step(batch_size)` follows either, so
every optimizer, schedule and weight decay works with both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby

import mxnet as mx
import numpy as np
from mxnet import autograd, nd
from mxnet.gluon import Block, Trainer, nn
from mxnet.gluon.loss import Loss, SoftmaxCrossEntropyLoss
from mxnet.gluon.utils import split_and_load

from gluon_lenet.data.batches import Batches
from gluon_lenet.errors import InputError

MODES = ("auto", "autograd", "fused")

# How many batches the loop may be ahead of the device: reading numbers of a batch that old stalls nothing, and it
# bounds the memory of what is queued.
_LEAD = 8

_MOST_AGGREGATED = 60  # arrays that one of MXNet's `multi_sgd_update` operations can hold


class Autograd:
    """Forward and backward by MXNet; serves every net on every device, and several devices that share each batch."""

    def __init__(self, net: Block, contexts: list[mx.Context], loss: Loss | None = None, why: str = ""):
        self.net, self.contexts, self.why = net, contexts, why
        self.loss = loss or SoftmaxCrossEntropyLoss()
        blocks = []
        net.apply(blocks.append)
        self.draws = any(isinstance(block, nn.Dropout) for block in blocks)

    def __str__(self) -> str:
        return "autograd" + (f" (not the fused kernels: {self.why})" if self.why else "")

    def seed(self, seed: int, epoch: int, batch: int) -> None:
        """Let the random numbers of the next batch follow from these three.

        MXNet's generator cannot be saved, so that a run goes on to the bit only if it is seeded anew for each batch.
        That takes 1.2 ms of a CPU, in the background: nets that draw no random numbers are spared it.
        """
        if self.draws:
            mx.random.seed(net_seed(seed, epoch, batch))

    def batches(self, data_iter: Iterable) -> Iterator:
        """The batches of one pass, as `backprop` takes them: X float32 (b, c, h, w), y (b,)."""
        return iter(data_iter)

    def backprop(self, batch: tuple[nd.NDArray, nd.NDArray]) -> tuple[list, list, int]:
        """Loss sums and correct counts, one a device and not waited for, and the number of images.

        The loss is summed over the batch, so that `trainer.step(batch_size)` takes the step of the mean. Labels
        must be below the number of classes: MXNet clips others without a word.
        """
        losses, corrects = [], []
        for X, y in self._split(*batch):
            with autograd.record():
                y_hat = self.net(X)
                loss_sum = self.loss(y_hat, y).sum()
            loss_sum.backward()
            losses.append(loss_sum)
            corrects.append(_count_correct(y_hat, y))
        return losses, corrects, len(batch[1])

    @staticmethod
    def read(parts: list[nd.NDArray]) -> float:
        """The sum over the devices of what `backprop` returned; waits for it."""
        return float(sum(part.asscalar() for part in parts))

    @staticmethod
    def step(trainer: Trainer, batch_size: int) -> nd.NDArray:
        """`trainer.step(batch_size)`, not waited for, and whether all weights are finite after it, for `are_finite`."""
        _step(trainer, batch_size)
        return _sums_of_squares(trainer)

    @staticmethod
    def are_finite(checked: nd.NDArray) -> bool:
        """What `step` found; waits for it."""
        return bool(np.isfinite(checked.asnumpy()).all())

    def evaluate(self, data_iter: Iterable) -> tuple[float, int, int]:
        """Over one pass: the loss sum, the number of correct predictions, the number of images."""

        def forward(X, y):
            y_hat = self.net(X)
            return self.loss(y_hat, y).sum(), _count_correct(y_hat, y)

        results = (
            (list(zip(*(forward(X, y) for X, y in self._split(*batch)), strict=True)), len(batch[1]))
            for batch in data_iter
        )
        loss_sum = num_correct = num_examples = 0
        for (losses, corrects), size in behind(results):
            loss_sum += self.read(losses)
            num_correct += int(self.read(corrects))
            num_examples += size
        return loss_sum, num_correct, num_examples

    def logits(self, data_iter: Iterable) -> np.ndarray:
        """The net's outputs over one pass, float32 (n, classes), on the first device."""
        return np.concatenate([y_hat.asnumpy() for y_hat in behind(self.net(self._on_first(X)) for X, _ in data_iter)])

    def _on_first(self, array):
        return array.as_in_context(self.contexts[0])

    def _split(self, X, y):
        """The batch's parts, one a device, as even as they go."""
        contexts = self.contexts
        if len(contexts) == 1:
            return [(self._on_first(X), self._on_first(y))]
        if len(X) < len(contexts):
            raise InputError(
                f"a batch of {len(X)} images cannot be shared by {len(contexts)} devices; change the batch size"
            )
        parts = (split_and_load(array, contexts, even_split=False) for array in (X, y))
        return zip(*parts, strict=True)


class Fused:
    """Forward and backward by the fused CPU kernels (fused/), straight from the uint8 images."""

    def __init__(self, net: Block, image_shape: tuple[int, int, int], loss: Loss | None = None):
        from gluon_lenet.fused import FusedNet  # here: Numba takes a while to import

        self.fused = FusedNet(net, image_shape, loss=loss)
        self.fused.forward(np.zeros((1, *image_shape), np.float32))  # compiles or loads the kernels before anyone times

    def __str__(self) -> str:
        return "the fused kernels"

    def seed(self, seed: int, epoch: int, batch: int) -> None:
        """See `Autograd.seed`; the kernels draw no random numbers."""

    def batches(self, data_iter: Batches) -> Iterator:
        """The batches of one pass, as `backprop` takes them: images, which of them, labels, what to make of them."""
        before = resized = None
        for images, rows, labels in data_iter.raw():
            if images is not before:  # the data set's own, resized only once, or augmented ones, for a few batches
                before, is_whole = images, images is data_iter.images
                resized = data_iter.resized_images if is_whole else data_iter.transform.resized(images)
            yield resized, rows, labels, data_iter.transform

    def backprop(self, batch: tuple) -> tuple[float, int, int]:
        """Loss sum, correct count and number of images; see `Autograd.backprop`."""
        return *self.fused.backprop(*batch), len(batch[1])

    @staticmethod
    def read(number: float) -> float:
        """What `backprop` returned; there is nothing to wait for."""
        return number

    @staticmethod
    def step(trainer: Trainer, batch_size: int) -> bool:
        """`trainer.step(batch_size)`, by the kernels where they serve, and whether all weights are finite after it."""
        if type(trainer._updaters[0]) is mx.optimizer.Updater:
            from gluon_lenet.fused import KernelUpdater

            trainer._updaters[0] = KernelUpdater(trainer._updaters[0])
        _step(trainer, batch_size)
        all_finite = getattr(trainer._updaters[0], "all_finite", None)
        return Autograd.are_finite(_sums_of_squares(trainer)) if all_finite is None else all_finite

    @staticmethod
    def are_finite(checked: bool) -> bool:
        """What `step` found."""
        return checked

    def evaluate(self, data_iter: Batches) -> tuple[float, int, int]:
        """As `Autograd.evaluate`; images that are stored together take one call, whatever the batch size."""
        results = [self.fused.evaluate(*batch) for batch in self._joined(data_iter)]
        return *map(sum, zip(*results, strict=True)), data_iter.num_examples

    def logits(self, data_iter: Batches) -> np.ndarray:
        """As `Autograd.logits`."""
        parts = [self.fused.forward(images, rows, transform) for images, rows, _, transform in self._joined(data_iter)]
        return np.concatenate(parts)

    def _joined(self, data_iter: Batches) -> Iterator:
        """The batches of one pass, those from the same array of images as one batch."""
        for _, batches in groupby(self.batches(data_iter), key=lambda batch: id(batch[0])):
            batches = list(batches)  # holds the array, so that no other can have its id meanwhile
            images, _, labels, transform = batches[0]
            yield images, np.concatenate([rows for _, rows, _, _ in batches]), labels, transform


def choose(
    net: Block, contexts: list[mx.Context], data_iter: Iterable, mode: str = "auto", loss: Loss | None = None
) -> Autograd | Fused:
    """How to compute gradients: `auto` takes the fused kernels where they serve, `autograd` and `fused` insist.

    Args:
        net, contexts: the net and the devices it is on.
        data_iter: batches like those it will be fed.
        mode: one of MODES.
        loss: maps logits (b, classes) and labels (b,) to losses (b,); softmax cross-entropy by default.

    Raises:
        InputError: an unknown mode, or `fused` for what the kernels do not serve; the message names what stands in
            the way.
    """
    if mode not in MODES:
        raise InputError(f"unknown backprop {mode!r}; choose from {', '.join(MODES)}")
    if mode == "autograd":
        return Autograd(net, contexts, loss)
    if contexts != [mx.cpu()]:
        why = f"they run on cpu(0), not on {', '.join(map(str, contexts))}"
    elif not isinstance(data_iter, Batches):
        why = f"they take gluon_lenet's batches, not a {type(data_iter).__name__}"
    else:
        from gluon_lenet.fused import Unsupported

        try:
            return Fused(net, data_iter.image_shape, loss)
        except Unsupported as error:
            why = str(error)
    if mode == "fused":
        raise InputError(f"the fused kernels cannot serve: {why}")
    return Autograd(net, contexts, loss, why)


def net_seed(seed: int, epoch: int, batch: int) -> int:
    """What MXNet's generator is seeded with for a run's seed, an epoch (1 the first), and the batches done in it."""
    return int(np.random.SeedSequence([seed, epoch, batch]).generate_state(1)[0] >> 1)  # 31 bits: MXNet takes a C int


def behind(results: Iterable) -> Iterator:
    """The results in order, each only after `_LEAD` more were asked for, when the device has long computed it."""
    ahead = deque()
    for result in results:
        ahead.append(result)
        if len(ahead) > _LEAD:
            yield ahead.popleft()
    yield from ahead


def _step(trainer: Trainer, batch_size: int) -> None:
    """`trainer.step`, whose operations MXNet's threads get in one go."""
    num_params = len(trainer._params)
    if type(trainer._optimizer) is mx.optimizer.SGD:  # others do not group, or compute something else in groups
        trainer._optimizer.aggregate_num = min(num_params, _MOST_AGGREGATED)  # by default 4 parameters an operation
    with mx.engine.bulk(num_params):
        trainer.step(batch_size)


def _sums_of_squares(trainer: Trainer) -> nd.NDArray:
    """Of each parameter's weights: NaN or infinite if one of them is. Not waited for."""
    weights = [param.list_data()[0] for param in trainer._params]
    # `multi_all_finite` is the function for it, and takes ten times as long (benchmarks/README.md). A square
    # overflows where a weight is above 1e19, which has diverged too.
    return nd.multi_sum_sq(*weights, num_arrays=len(weights))


def _count_correct(y_hat: nd.NDArray, y: nd.NDArray) -> nd.NDArray:
    """How many rows of the logits y_hat (b, classes) have their maximum at the label y (b,): float32 of shape (1,)."""
    return (y_hat.argmax(axis=1) == y.astype("float32")).sum()
