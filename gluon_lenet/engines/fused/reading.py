"""A sequential Gluon net and a loss -> the steps that the kernels compute, or why they cannot."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, prod
from typing import NamedTuple

import numpy as np
from mxnet.gluon import Parameter, nn
from mxnet.gluon.loss import Loss, SoftmaxCrossEntropyLoss

from gluon_lenet.engines.fused.activations import NO_ACTIVATION, NUMBERS
from gluon_lenet.engines.fused.sizes import KERNELS, LANES
from gluon_lenet.engines.fused.tables import CONVOLUTION, DENSE, DISTANCES, MAX_POOLING, NO_POOLING, SUM_POOLING
from gluon_lenet.engines.proof import Record
from gluon_lenet.engines.reasons import Reason, enumerated
from gluon_lenet.nets.layers import RBFOutput, ScaledTanh, Subsampling, TableConv2D
from gluon_lenet.nets.losses import MAPLoss, SmoothedCrossEntropy

SERVED = Reason(
    "the fused kernels serve a flat Sequential of Conv2D (stride 1), MaxPool2D and AvgPool2D 2x2 "
    "(stride 2, after a convolution), {activations}, Flatten, Dense, Dropout, and LeNet-5's TableConv2D, Subsampling, "
    "ScaledTanh and RBFOutput",
    activations=enumerated(kind for kind in NUMBERS if isinstance(kind, str)),
)


class Unsupported(ValueError):
    """The fused kernels cannot serve this net; the message, a `Reason`, names the layer that stands in the way."""


@dataclass
class Step:
    """A convolution or dense layer of the net, or its RBFOutput, with what follows it: one row of the table."""

    block: nn.HybridBlock  # the Conv2D, TableConv2D, Dense or RBFOutput
    kind: int
    in_shape: tuple[int, int, int]  # channels, height, width; neurons, 1, 1
    out_shape: tuple[int, int, int]  # after pooling
    height: int = 1  # of the convolution's output, as far as pooling uses it
    width: int = 1
    padded: tuple[int, int] = (1, 1)  # height and width of the input with what a convolution reads around it
    padding: tuple[int, int] = (0, 0)  # rows above the input, and columns to its left
    kernel: int = KERNELS[0]  # height and width of the tiles' kernel
    patches: tuple[int, int] = (1, 1)  # of kernel x kernel, down and across, that a convolution's window is cut into
    map_activation: int = NO_ACTIVATION  # before SUM_POOLING
    pooling: int = NO_POOLING
    activation: int = NO_ACTIVATION
    dropout: float = 0.0  # after the activation: the probability of being dropped
    parameters: dict[str, Parameter] = field(default_factory=dict)  # by their names in the table
    # For a kernel that is put together, of shape `kernel_shape`: the parameters, and their places in it.
    parts: list[tuple[Parameter, tuple]] = field(default_factory=list)
    connected: np.ndarray | None = None  # uint8 (outputs * inputs,): 0 for pairs of maps without weights

    @property
    def kernel_shape(self) -> tuple[int, int]:
        """The shape of the kernel that is put together of `parts`: (outputs * channels, weights of all patches)."""
        size = prod(self.patches) * self.kernel**2
        # a dense layer in disguise has as many neurons as there are weights
        channels = self.in_shape[0] if self.kind == CONVOLUTION else self.in_shape[0] // size
        return self.out_shape[0] * channels, size


def read_net(net: nn.Block, input_shape: tuple[int, int, int], record: Record) -> list[Step]:
    """The net's layers, in order, for inputs (channels, height, width); `record` takes what they were read from.

    Raises:
        Unsupported: the kernels cannot serve the net, or it may not compute what its layers' types say.
    """
    if type(net) not in (nn.Sequential, nn.HybridSequential):
        raise _unserved(Reason("{type} is not a Sequential", type=type(net).__name__))
    _add_to(record, net, Reason("the net"))
    steps: list[Step] = []
    shape = tuple(input_shape)
    for number, block in enumerate(net._children.values()):
        described = " ".join(repr(block).split())
        shape = _read(block, Reason("layer {number}, {layer},", number=number, layer=described), steps, shape, record)
    if not steps or steps[-1].kind == CONVOLUTION:
        raise _unserved(Reason("the last layer must be a Dense or RBFOutput that gives the logits"))
    if steps[-1].activation != NO_ACTIVATION or steps[-1].dropout:
        raise Unsupported(
            Reason("the last layer, {layer}, has an activation or dropout; the kernels want logits", layer=described)
        )
    if len(shape) != 1:
        raise Unsupported(
            Reason(
                "the last layer, {layer}, gives maps of shape {shape}; the kernels want logits",
                layer=described,
                shape=shape,
            )
        )
    if np.prod(input_shape) < LANES:
        raise Unsupported(
            Reason(
                "images of shape {shape} are too small: at least {least} pixels", shape=tuple(input_shape), least=LANES
            )
        )
    return steps


def _unserved(why: Reason) -> Unsupported:
    """An error that also says what the kernels serve."""
    return Unsupported(Reason("{why}; {served}", why=why, served=SERVED))


def _add_to(record, block, name):
    try:
        record.add(block)
    except ValueError as error:
        why = error.args[0]
        raise Unsupported(Reason("{name} may not compute what its type says: {why}", name=name, why=why)) from None


def _read(block, name, steps, shape, record):
    """Add a layer to the steps: its input's shape -> its output's."""
    if steps and steps[-1].kind == DISTANCES:
        raise _unserved(Reason("{name} comes after an RBFOutput", name=name))
    if type(block) not in _READERS:
        raise _unserved(Reason("{name} is of a kind the kernels do not know", name=name))
    _add_to(record, block, name)
    activation = getattr(block, "act", None)
    if activation is not None:
        if type(activation) is not nn.Activation:
            kind = type(activation).__name__
            raise _unserved(Reason("{name} has the activation {activation}", name=name, activation=kind))
        _add_to(record, activation, Reason("the activation of {name}", name=name))
    return _READERS[type(block)](block, name, steps, shape)


def _read_convolution(block, name, steps, shape):
    _check_maps(name, shape)
    options = dict(block._kwargs)
    outputs, kernel, padding = (options.pop(option) for option in ("num_filter", "kernel", "pad"))
    if len(kernel) != 2 or options.pop("stride") != (1, 1) or options.pop("dilate") != (1, 1):
        raise _unserved(Reason("{name} has a stride or a dilation other than 1", name=name))
    if options != {"num_group": 1, "layout": "NCHW", "no_bias": block.bias is None}:
        raise _unserved(
            Reason("{name} has groups, a layout other than NCHW or options the kernels do not know", name=name)
        )
    if block._op_name != "Convolution":
        raise _unserved(Reason("{name} computes {operation}", name=name, operation=block._op_name))
    _check_shape(name, block.weight.shape, outputs, shape[0])
    step = _add_convolution(block, name, steps, shape, (outputs, *kernel), padding)
    step.parameters = _weight_and_bias(block)
    if step.kind == CONVOLUTION and kernel != (step.kernel, step.kernel):
        # in the upper left of patches that are 0 elsewhere, it computes the same
        (down, y), (across, x) = (np.divmod(np.arange(size), step.kernel) for size in kernel)
        patch = down[:, None] * step.patches[1] + across
        taps = (patch * step.kernel + y[:, None]) * step.kernel + x  # (kernel height, width)
        step.parts = [(step.parameters.pop("weight"), (slice(None), taps))]
    _add_activation(block.act and block.act._act_type, name, steps)
    return step.out_shape


def _read_table_convolution(block, name, steps, shape):
    _check_maps(name, shape)
    outputs, inputs, *kernel = block.kernel_shape
    if kernel[0] != kernel[1] or kernel[0] not in KERNELS:
        raise _unserved(Reason("{name} is a convolution neither 3x3 nor 5x5", name=name))
    _check_shape(name, block.kernel_shape, outputs, shape[0])
    step = _add_convolution(block, name, steps, shape, (outputs, *kernel), padding=(0, 0))
    step.kernel = kernel[0]  # also of a dense layer in disguise
    step.parameters, step.connected = {"bias": block.bias}, np.zeros(outputs * inputs, np.uint8)
    for fan_in, pairs in block.pairs.items():
        rows = np.array([o * inputs + i for o, i in pairs])
        step.connected[rows] = 1
        step.parts.append((getattr(block, f"weight{fan_in}"), (rows,)))
    return step.out_shape


def _add_convolution(block, name, steps, shape, kernel, padding) -> Step:
    if steps and steps[-1].kind == DENSE:  # a convolution whose kernel is as large as its input
        raise _unserved(Reason("{name} is a convolution of 1x1 maps", name=name))
    (channels, *size), (outputs, *window) = shape, kernel
    height, width = (n + 2 * p - k + 1 for n, p, k in zip(size, padding, window, strict=True))
    if window == size and padding == (0, 0):  # a dense layer in disguise: the kernel is as large as the input
        steps.append(Step(block, DENSE, (channels * prod(window), 1, 1), (outputs, 1, 1)))
    elif min(height, width) < 2:
        raise Unsupported(Reason("{name} gets an input of {shape}, too small for it", name=name, shape=shape))
    else:
        kernel = min(KERNELS, key=lambda kernel: prod(_patches(window, kernel)) * kernel**2)
        patches = _patches(window, kernel)
        padded = tuple(n + number * kernel - 1 for n, number in zip((height, width), patches, strict=True))
        shapes = shape, (outputs, height, width)
        steps.append(Step(block, CONVOLUTION, *shapes, height, width, padded, padding, kernel, patches))
    return steps[-1]


def _patches(window, kernel) -> tuple[int, int]:
    """How many kernels, down and across, it takes to cover a window."""
    return tuple(-(-size // kernel) for size in window)


def _read_dense(block, name, steps, shape):
    inputs = int(np.prod(shape))
    if not block._flatten:
        raise _unserved(Reason("{name} does not flatten its input", name=name))
    _check_shape(name, block.weight.shape, block._units, inputs)
    parameters = _weight_and_bias(block)
    steps.append(Step(block, DENSE, (inputs, 1, 1), (block._units, 1, 1), parameters=parameters))
    _add_activation(block.act and block.act._act_type, name, steps)
    return (block._units,)


def _read_distances(block, name, steps, shape):
    if len(shape) != 1:
        raise Unsupported(Reason("{name} gets maps of shape {shape}, not a vector", name=name, shape=shape))
    (inputs,), centres = shape, block.centres
    _check_shape(name, centres.shape, block._classes, inputs)
    steps.append(Step(block, DISTANCES, (inputs, 1, 1), (block._classes, 1, 1), parameters={"weight": centres}))
    return (block._classes,)


def _weight_and_bias(block):
    return {"weight": block.weight} | ({} if block.bias is None else {"bias": block.bias})


def _read_pooling(block, name, steps, shape):
    _check_maps(name, shape)
    options = dict(block._kwargs)
    options.pop("count_include_pad", None)  # there is no padding to count
    window = [options.pop(option) for option in ("kernel", "stride", "pad", "global_pool")]
    if window != [(2, 2), (2, 2), (0, 0), False]:
        raise _unserved(Reason("{name} does not pool 2x2 with stride 2 and padding 0", name=name))
    pooling, pool_type = (MAX_POOLING, "max") if type(block) is nn.MaxPool2D else (SUM_POOLING, "avg")
    if options != {"pool_type": pool_type, "pooling_convention": "valid", "layout": "NCHW"}:
        raise _unserved(
            Reason("{name} has ceil_mode, a layout other than NCHW or options the kernels do not know", name=name)
        )
    return _add_pooling(pooling, name, steps)


def _read_subsampling(block, name, steps, shape):
    _check_maps(name, shape)
    shape = _add_pooling(SUM_POOLING, name, steps)
    _check_shape(name, (block._channels, *block.bias.shape), shape[0], shape[0])
    steps[-1].parameters |= {"coefficient": block.coefficient, "pool_bias": block.bias}
    return shape


def _add_pooling(pooling, name, steps):
    if not steps or steps[-1].kind != CONVOLUTION or steps[-1].pooling != NO_POOLING or steps[-1].dropout:
        raise _unserved(Reason("{name} does not follow a convolution", name=name))
    step = steps[-1]
    channels, height, width = step.out_shape
    step.pooling = pooling
    if pooling == SUM_POOLING:
        # max(activation(x)) = activation(max(x)), as the activations never fall: so max pooling always comes first
        step.map_activation, step.activation = step.activation, NO_ACTIVATION
    step.out_shape = channels, height // 2, width // 2
    step.height, step.width = height // 2 * 2, width // 2 * 2
    return step.out_shape


def _add_activation(kind: str | type | None, name, steps):
    if not kind:
        return
    if kind not in NUMBERS:
        raise _unserved(Reason("{name} has the activation {activation}", name=name, activation=kind))
    if not steps:
        raise _unserved(Reason("{name} is an activation before the first convolution or dense layer", name=name))
    if steps[-1].activation != NO_ACTIVATION or steps[-1].dropout:
        raise _unserved(Reason("{name} comes right after an activation or dropout", name=name))
    steps[-1].activation = NUMBERS[kind]


def _read_dropout(block, name, steps, shape):
    if block._axes or not 0 <= block._rate < 1:
        raise _unserved(Reason("{name} has axes, or a rate that is not from 0 to 1", name=name))
    if block._rate > 0:
        if not steps or steps[-1].dropout or steps[-1].kind == DISTANCES:
            raise _unserved(
                Reason("{name} does not follow a convolution, pooling, dense layer or activation", name=name)
            )
        steps[-1].dropout = block._rate
    return shape


def _read_activation(block, name, steps, shape):
    _add_activation(block._act_type, name, steps)
    return shape


def _read_scaled_tanh(block, name, steps, shape):
    _add_activation(ScaledTanh, name, steps)
    return shape


def _read_flatten(block, name, steps, shape):
    return (int(np.prod(shape)),)  # a Dense flattens what it gets, in the same order


_READERS = {  # of a layer: its input's shape -> its output's
    nn.Conv2D: _read_convolution,
    TableConv2D: _read_table_convolution,
    Subsampling: _read_subsampling,
    RBFOutput: _read_distances,
    nn.Dense: _read_dense,
    nn.MaxPool2D: _read_pooling,
    nn.AvgPool2D: _read_pooling,
    nn.Activation: _read_activation,
    nn.Dropout: _read_dropout,
    ScaledTanh: _read_scaled_tanh,
    nn.Flatten: _read_flatten,
}


def _check_maps(name, shape):
    if len(shape) != 3:
        raise Unsupported(Reason("{name} gets a vector of {length} numbers, not maps", name=name, length=shape[0]))


def _check_shape(name, shape, outputs, inputs):
    """Whether weights of this shape, where 0 is what is not known yet, are for so many outputs and inputs."""
    if shape and shape[0] not in (0, outputs):
        raise Unsupported(
            Reason(
                "{name} has weights for {expected} outputs, and {outputs} outputs",
                name=name,
                expected=shape[0],
                outputs=outputs,
            )
        )
    if shape and shape[1] not in (0, inputs):
        raise Unsupported(
            Reason("{name} expects {expected} inputs but gets {inputs}", name=name, expected=shape[1], inputs=inputs)
        )


class LossNumbers(NamedTuple):
    """A loss as the kernels compute it: softmax cross-entropy of class numbers, with two numbers that change it."""

    rubbish: float = -inf  # logit of a class that the loss adds to the net's; minus infinity adds none
    smoothing: float = 0.0  # of the labels


def read_loss(loss: Loss, record: Record) -> LossNumbers:
    """A loss -> its numbers. `MAPLoss` adds a class of the constant penalty j. `record` takes the loss.

    Raises:
        Unsupported: the kernels cannot compute this loss, or it may not compute what its type says.
    """
    kind = type(loss).__name__
    if type(loss) not in (MAPLoss, SmoothedCrossEntropy, SoftmaxCrossEntropyLoss):
        raise Unsupported(
            Reason(
                "they compute softmax cross-entropy of class numbers, SmoothedCrossEntropy or MAPLoss, not {loss}",
                loss=kind,
            )
        )
    name = Reason("the loss, {loss},", loss=kind)
    _add_to(record, loss, name)
    if (loss._weight, loss._batch_axis) != (None, 0):
        raise Unsupported(Reason("{name} has a weight, or a batch axis other than 0", name=name))
    if type(loss) is MAPLoss:
        return LossNumbers(rubbish=-loss.j)
    if type(loss) is SmoothedCrossEntropy:
        if not 0 <= loss.smoothing <= 1:
            raise Unsupported(
                Reason(
                    "{name} has a smoothing that is not from 0 to 1, {smoothing}", name=name, smoothing=loss.smoothing
                )
            )
        return LossNumbers(smoothing=loss.smoothing)
    if (loss._sparse_label, loss._from_logits, loss._axis) != (True, False, -1):
        raise Unsupported(Reason("they compute {loss} of class numbers along the last axis of logits only", loss=kind))
    return LossNumbers()
