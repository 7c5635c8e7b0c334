"""A net and a batch -> loss, correct count and gradients by the fused CPU kernels, straight from the uint8 images."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

import mxnet as mx
import numpy as np
from mxnet import nd
from mxnet.gluon import Block, Trainer
from mxnet.gluon.loss import Loss

from gluon_lenet.data.batches import Batch, check_labels
from gluon_lenet.engines import base
from gluon_lenet.engines.autograd import Autograd
from gluon_lenet.engines.base import Pending, StepResult, Totals
from gluon_lenet.engines.fused import updater
from gluon_lenet.engines.fused.net import FusedNet
from gluon_lenet.engines.fused.reading import Unsupported
from gluon_lenet.engines.proof import why_not_served
from gluon_lenet.errors import InputError


class Done:
    """A batch that the kernels have computed: see `base.Pending`."""

    def __init__(self, totals: Totals, is_finite: bool = True):
        self._result = StepResult(totals, is_finite)

    def wait(self) -> StepResult:
        """See `base.Pending`; there is nothing to wait for."""
        return self._result


class Fused:
    """Forward and backward by the fused CPU kernels.

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

    name = "fused"

    def __init__(self, net: Block, image_shape: tuple[int, int, int], loss: Loss | None = None, insist: bool = False):
        self.insist = insist
        self.fused = FusedNet(net, image_shape, loss=loss)
        self.fused.forward(np.zeros((1, *image_shape), np.float32))  # compiles or loads the kernels before anyone times
        self._autograd = Autograd(net, [mx.cpu()], loss)
        self._seeds = None
        self._warned = set()

    def __str__(self) -> str:
        return "the fused kernels"

    def adopt(self, trainer: Trainer) -> None:
        """See `base.Engine`: steps of SGD and Adam by the kernels (`KernelUpdater`), if the updater is MXNet's own."""
        updater.install(trainer)

    def seed(self, seed: int, epoch: int, batch: int) -> None:
        """See `base.Engine`; kept for MXNet, too, which might have to take over."""
        self._seeds = seed, epoch, batch

    def batches(self, data_iter: Iterable) -> Iterator:
        """See `base.Engine`: stored batches for the kernels, or what the loader yields, for MXNet.

        Raises:
            InputError: labels that are no classes of the net, before the first batch.
        """
        if not self._serves(data_iter):
            return self._autograd.batches(data_iter)
        check_labels(data_iter.labels, self.fused.num_classes)
        return data_iter.batches()

    def backprop(self, batch: Batch | tuple[nd.NDArray, nd.NDArray]) -> Pending:
        """See `base.Engine`."""
        if isinstance(batch, Batch):
            try:
                draws = self.fused.draws and self._seeds is not None
                seed = base.dropout_seed(*self._seeds) if draws else None  # takes longer than all else here
                return Done(Totals(*self.fused.backprop(*batch, seed), len(batch.rows)))
            except Unsupported as error:
                self._leave_to_mxnet(error)
        if self._seeds is not None:
            self._autograd.look()
            self._autograd.seed(*self._seeds)
        return self._autograd.backprop(batch)

    def step(self, batch: Batch | tuple, trainer: Trainer, batch_size: int | None = None) -> Pending:
        """See `base.Engine`."""
        totals = self.backprop(batch).wait().totals
        base.update(trainer, batch_size, totals.num_examples)
        all_finite = getattr(trainer._updaters[0], "all_finite", None)
        if all_finite is None:  # MXNet's own updater took the step
            all_finite = base.are_finite(base.sums_of_squares(trainer))
        return Done(totals, all_finite)

    def evaluate(self, data_iter: Iterable) -> Totals:
        """See `base.Engine`; images that are stored together take one call, whatever the batch size."""
        if not self._serves(data_iter):
            return self._autograd.evaluate(data_iter)
        base.check_finite(self.fused.net)
        check_labels(data_iter.labels, self.fused.num_classes)
        results = [self.fused.evaluate(*part) for part in data_iter.parts()]
        return Totals(*map(sum, zip(*results, strict=True)), data_iter.num_examples)

    def combine(self, totals: Totals) -> Totals:
        """See `base.Engine`."""
        return totals

    def logits(self, data_iter: Iterable) -> np.ndarray:
        """See `base.Engine`."""
        if not self._serves(data_iter):
            return self._autograd.logits(data_iter)
        return np.concatenate(
            [self.fused.forward(images, rows, transform) for images, rows, _, transform in data_iter.parts()]
        )

    def _serves(self, data_iter: Iterable) -> bool:
        """Whether the kernels can serve a pass over these batches, with the net as it is now."""
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
