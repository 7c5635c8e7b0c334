"""A recipe's settings -> MXNet's objects: variants of the net, initializers, losses, learning rate schedules.

Each is a tagged msgspec.Struct: in config.json it is an object with a "type". MXNet is imported where it is used, since
recipes are read before MXNet is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from gluon_lenet.fields import Natural, Positive, Share

if TYPE_CHECKING:
    import mxnet as mx
    from mxnet.gluon import nn
    from mxnet.gluon.loss import Loss

Channels = Annotated[tuple[Natural, Natural], Meta(description="two numbers of channels: [6, 16]")]
Units = Annotated[tuple[Natural, ...], Meta(max_length=8, description="the outputs of at most 8 layers: [120, 84]")]


class Variant(msgspec.Struct, frozen=True):
    """The arguments of `nets.zoo.lenet_variant`, which describes them."""

    kernel_size: Natural = 5
    channels: Channels = (6, 16)
    activation: Literal["sigmoid", "tanh", "relu", "softrelu", "softsign"] = "sigmoid"
    units: Units = (120, 84)

    def build(self, classes: int) -> nn.HybridSequential:
        """The net, uninitialized, with `classes` outputs."""
        from gluon_lenet.nets.zoo import lenet_variant

        return lenet_variant(self.kernel_size, self.channels, self.activation, self.units, classes)


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


class Normal(msgspec.Struct, frozen=True, tag="normal"):
    """Normally distributed weights with mean 0 and standard deviation `sigma`."""

    sigma: Positive = 0.01

    def build(self) -> mx.init.Initializer:
        """The initializer for `net.initialize`."""
        import mxnet as mx

        return mx.init.Normal(self.sigma)


class MSRA(msgspec.Struct, frozen=True, tag="msra"):
    """Normally distributed weights for rectifiers (He et al. 2015): MXNet's `MSRAPrelu`."""

    def build(self) -> mx.init.Initializer:
        """The initializer for `net.initialize`."""
        import mxnet as mx

        return mx.init.MSRAPrelu()


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
