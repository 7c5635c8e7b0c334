"""A net and its batches -> loss sum, correct count, and gradients in `param.grad()`: by autograd or by fused kernels.

This is the one place where a training step can be computed in two ways. `trainer.step(batch_size)` follows either, so
every optimizer, schedule and weight decay works with both.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby

import mxnet as mx
import numpy as np
from mxnet import autograd, nd
from mxnet.gluon import Block, Trainer, nn
from mxnet.gluon.loss import Loss, SoftmaxCrossEntropyLoss
from mxnet.gluon.utils import split_and_load

from gluon_lenet.data.batches import Batches, RawBatch, check_labels
from gluon_lenet.data.transforms import Transform
from gluon_lenet.errors import InputError
from gluon_lenet.proof import half_frozen, why_not_genuine

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
        self.look()

    def look(self) -> None:
        """See whether the net, as it is now, draws random numbers."""
        blocks = []
        self.net.apply(blocks.append)
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

        The loss is summed over the batch, so that `trainer.step(batch_size)` takes the step of the mean.

        Raises:
            InputError: labels that are no classes of the net, before there are gradients; or a net of which MXNet
                computes wrong ones.
        """
        if why := half_frozen(self.net):
            raise InputError(why)
        losses, corrects = [], []
        for X, y in self._split(*batch):
            with autograd.record():
                y_hat = self.net(X)
                _check_batch(y_hat, y)
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
        """Over one pass: the loss sum, the number of correct predictions, the number of images.

        Raises:
            InputError: a weight is NaN or infinite, or a label no class of the net.
        """

        def forward(X, y):
            y_hat = self.net(X)
            _check_batch(y_hat, y)
            return self.loss(y_hat, y).sum(), _count_correct(y_hat, y)

        _check_finite(self.net)
        results = (
            (list(zip(*(forward(X, y) for X, y in self._split(*batch)), strict=True)), len(batch[1]))
            for batch in data_iter
        )
        loss_sum = num_correct = num_examples = 0
        for (losses, corrects), size in behind(results):
            loss_sum += self.read(losses)
            num_correct += int(self.read(corrects))
            num_examples += size
        if not num_examples:
            raise InputError("there are no batches to evaluate")
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
    """Forward and backward by the fused CPU kernels (fused/), straight from the uint8 images.

    What they cannot serve, a net that changed into one they do not know or batches from another loader, is computed by
    MXNet, with a warning that says why; or refused, if the kernels are insisted on.

    Args:
        net: as `FusedNet` takes it.
        image_shape: (c, h, w) of what the net sees.
        loss: as `FusedNet` takes it.
        insist: whether to raise InputError instead of leaving anything to MXNet.

    Raises:
        Unsupported: the kernels cannot serve the net or the loss.
    """

    def __init__(self, net: Block, image_shape: tuple[int, int, int], loss: Loss | None = None, insist: bool = False):
        from gluon_lenet.fused import FusedNet  # here: Numba takes a while to import

        self.insist = insist
        self.fused = FusedNet(net, image_shape, loss=loss)
        self.fused.forward(np.zeros((1, *image_shape), np.float32))  # compiles or loads the kernels before anyone times
        self._autograd = Autograd(net, [mx.cpu()], loss)
        self._seeds = None
        self._warned = set()

    def __str__(self) -> str:
        return "the fused kernels"

    def seed(self, seed: int, epoch: int, batch: int) -> None:
        """See `Autograd.seed`; the kernels draw no random numbers, but MXNet might have to take over."""
        self._seeds = seed, epoch, batch

    def batches(self, data_iter: Iterable) -> Iterator:
        """The batches of one pass, as `backprop` takes them: stored ones for the kernels, or as `Autograd` takes them.

        Raises:
            InputError: labels that are no classes of the net, before the first batch.
        """
        if not self._serves(data_iter):
            return self._autograd.batches(data_iter)
        check_labels(data_iter.labels, self.fused.num_classes)
        return data_iter.stored()

    def backprop(self, batch: RawBatch | tuple[nd.NDArray, nd.NDArray]) -> tuple:
        """Loss sum, correct count and number of images; see `Autograd.backprop`."""
        if isinstance(batch, RawBatch):
            from gluon_lenet.fused import Unsupported

            try:
                return *self.fused.backprop(*batch), len(batch.rows)
            except Unsupported as error:
                self._leave_to_mxnet(error)
            batch = batch.arrays()
        if self._seeds is not None:
            self._autograd.look()
            self._autograd.seed(*self._seeds)
        return self._autograd.backprop(batch)

    @staticmethod
    def read(number: float | list) -> float:
        """What `backprop` returned; there is nothing to wait for where the kernels computed it."""
        return Autograd.read(number) if isinstance(number, list) else number

    @staticmethod
    def step(trainer: Trainer, batch_size: int) -> bool:
        """`trainer.step(batch_size)`, by the kernels where they serve, and whether all weights are finite after it."""
        updater = trainer._updaters[0]
        if type(updater) is mx.optimizer.Updater and why_not_genuine(updater) is None:
            from gluon_lenet.fused import KernelUpdater

            trainer._updaters[0] = KernelUpdater(updater)
        _step(trainer, batch_size)
        all_finite = getattr(trainer._updaters[0], "all_finite", None)
        return Autograd.are_finite(_sums_of_squares(trainer)) if all_finite is None else all_finite

    @staticmethod
    def are_finite(checked: bool) -> bool:
        """What `step` found."""
        return checked

    def evaluate(self, data_iter: Iterable) -> tuple[float, int, int]:
        """As `Autograd.evaluate`; images that are stored together take one call, whatever the batch size."""
        if not self._serves(data_iter):
            return self._autograd.evaluate(data_iter)
        _check_finite(self.fused.net)
        check_labels(data_iter.labels, self.fused.num_classes)
        results = [self.fused.evaluate(*batch) for batch in self._joined(data_iter)]
        return *map(sum, zip(*results, strict=True)), data_iter.num_examples

    def logits(self, data_iter: Iterable) -> np.ndarray:
        """As `Autograd.logits`."""
        if not self._serves(data_iter):
            return self._autograd.logits(data_iter)
        return np.concatenate(
            [self.fused.forward(images, rows, transform) for images, rows, _, transform in self._joined(data_iter)]
        )

    def _serves(self, data_iter: Iterable) -> bool:
        """Whether the kernels can serve a pass over these batches, with the net as it is now."""
        from gluon_lenet.fused import Unsupported

        why = why_not_served(data_iter)
        if why is None and data_iter.image_shape != self.fused.input_shape:
            why = f"they were made for images of shape {self.fused.input_shape}, not {data_iter.image_shape}"
        if why is None:
            try:
                self.fused.follow()
                return True
            except Unsupported as error:
                why = str(error)
        self._leave_to_mxnet(why)
        return False

    def _leave_to_mxnet(self, why) -> None:
        if self.insist:
            raise InputError(f"the fused kernels cannot serve: {why}")
        if str(why) not in self._warned:
            self._warned.add(str(why))
            warnings.warn(f"computed by MXNet's autograd from here on, not the fused kernels: {why}", stacklevel=3)

    @staticmethod
    def _joined(data_iter: Batches) -> Iterator[RawBatch]:
        """The batches of one pass, those from the same array of images as one batch."""
        for _, batches in groupby(data_iter.stored(), key=lambda batch: id(batch.images)):
            batches = list(batches)  # holds the array, so that no other can have its id meanwhile
            yield batches[0]._replace(rows=np.concatenate([batch.rows for batch in batches]))


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
    else:
        why = why_not_served(data_iter)
    if why is None:
        from gluon_lenet.fused import Unsupported

        try:
            return Fused(net, data_iter.image_shape, loss, insist=mode == "fused")
        except Unsupported as error:
            why = str(error)
    if mode == "fused":
        raise InputError(f"the fused kernels cannot serve: {why}")
    return Autograd(net, contexts, loss, why)


def why_not_served(data_iter: Iterable) -> str | None:
    """Why the kernels cannot take the images of these batches as they are stored; None if they can."""
    if type(data_iter) is not Batches:
        return f"they take gluon_lenet's Batches, not a {type(data_iter).__name__}"
    if type(data_iter.transform) is not Transform:
        return f"they know gluon_lenet's Transform, not a {type(data_iter.transform).__name__}"
    for thing in (data_iter, data_iter.transform):
        if why := why_not_genuine(thing):
            return f"the {type(thing).__name__} may not do what its type says: {why}"
    if data_iter.images.dtype != np.uint8 or data_iter.labels.dtype != np.int32:
        return f"its images are {data_iter.images.dtype} and its labels {data_iter.labels.dtype}, not uint8 and int32"
    return None


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


def _check_batch(y_hat: nd.NDArray, y: nd.NDArray) -> None:
    """Raise InputError unless y (b,) has one class of the logits y_hat (b, classes) for each image."""
    if y_hat.ndim != 2 or y.shape != y_hat.shape[:1]:
        raise InputError(f"labels of shape {y.shape} for outputs of shape {y_hat.shape}; must be (b,) for (b, classes)")
    check_labels(y.asnumpy(), y_hat.shape[1])


def _check_finite(net: Block) -> None:
    """Raise InputError if a weight is NaN or infinite: max pooling and ReLU hide it, and an accuracy means nothing."""
    for parameter in net.collect_params().values():
        if parameter._data is not None and not np.isfinite(parameter.list_data()[0].asnumpy()).all():
            raise InputError(f"{parameter.name} is NaN or infinite somewhere; the net diverged, or was not trained")


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
