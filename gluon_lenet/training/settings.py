"""A recipe's settings -> MXNet's objects: initializers, losses, learning rate schedules.

Each is a tagged msgspec.Struct: in config.json it is an object with a "type". MXNet is imported where it is used, since
recipes are read before MXNet is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gluon_lenet.fields import Natural, Positive, Share

if TYPE_CHECKING:
    import mxnet as mx
    from mxnet.gluon.loss import Loss


class Xavier(msgspec.Struct, frozen=True, tag="xavier"):
    """Uniform weights within +-sqrt(6 / (fan-in + fan-out)) (Glorot and Bengio 2010)."""

    def build(self) -> mx.init.Initializer:
        """The initializer for `net.initialize`."""
        import mxnet as mx

        return mx.init.Xavier()


class LeCun1998(msgspec.Struct, frozen=True, tag="lecun1998"):
    """Uniform weights within +-2.4 / fan-in (LeCun et al. 1998, appendix A)."""

    def build(self) -> mx.init.Initializer:
        """The initializer for `net.initialize`."""
        from gluon_lenet.nets.layers import LeCun1998

        return LeCun1998()


class CrossEntropy(msgspec.Struct, frozen=True, tag="cross_entropy", omit_defaults=True):
    """Softmax cross-entropy."""

    smoothing: Share = 0.0  # of the labels, see `losses.SmoothedCrossEntropy`

    def build(self) -> Loss:
        """Maps logits (b, classes) and labels (b,) to losses (b,)."""
        from mxnet.gluon.loss import SoftmaxCrossEntropyLoss

        from gluon_lenet.nets.losses import SmoothedCrossEntropy

        return SmoothedCrossEntropy(self.smoothing) if self.smoothing else SoftmaxCrossEntropyLoss()


class MAP(msgspec.Struct, frozen=True, tag="map"):
    """LeNet-5's loss, "maximum a posteriori" (LeCun et al. 1998, equation 9)."""

    j: Positive = 0.1  # constant penalty of the rubbish class

    def build(self) -> Loss:
        """Maps logits (b, classes) and labels (b,) to losses (b,)."""
        from gluon_lenet.nets.losses import MAPLoss

        return MAPLoss(self.j)


class Step(msgspec.Struct, frozen=True, tag="step"):
    """The learning rate times `factor` every `num_epochs` epochs."""

    num_epochs: Natural = 10
    factor: Share = 0.1

    def build(self, lr: float, num_batches: int, num_epochs: int) -> mx.lr_scheduler.LRScheduler:
        """From `lr`, for a training of `num_epochs` epochs of `num_batches` batches."""
        import mxnet as mx

        # one more than is reached, since the scheduler requires at least one
        steps = [num_batches * epoch for epoch in range(self.num_epochs, num_epochs + self.num_epochs, self.num_epochs)]
        return mx.lr_scheduler.MultiFactorScheduler(steps, factor=self.factor, base_lr=lr)


class Cosine(msgspec.Struct, frozen=True, tag="cosine"):
    """The learning rate falls along half a cosine, to 0 at the last batch of the training."""

    def build(self, lr: float, num_batches: int, num_epochs: int) -> mx.lr_scheduler.LRScheduler:
        """From `lr`, for a training of `num_epochs` epochs of `num_batches` batches."""
        import mxnet as mx

        return mx.lr_scheduler.CosineScheduler(num_batches * num_epochs, base_lr=lr, final_lr=0)
