"""A sequential Gluon net -> the table of layers that `blocks.py` works through, and every map's place in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

import numpy as np
from mxnet.gluon import Parameter, nn
from mxnet.gluon.loss import Loss, SoftmaxCrossEntropyLoss

from gluon_lenet.fused.blocks import (
    CONVOLUTION,
    DENSE,
    DISTANCES,
    LAYER,
    MAX_POOLING,
    NO_POOLING,
    SUM_POOLING,
)
from gluon_lenet.fused.tiles import GRADIENT_OUTPUTS, NO_ACTIVATION, RELU, SCALED_TANH, SIGMOID, TABLE, TANH, K
from gluon_lenet.fused.vectors import LANES
from gluon_lenet.layers import RBFOutput, ScaledTanh, Subsampling, TableConv2D
from gluon_lenet.losses import MAPLoss

ACTIVATIONS = {"sigmoid": SIGMOID, "tanh": TANH, "relu": RELU}
SERVED = (
    "the fused kernels serve a flat Sequential of Conv2D 5x5 (stride 1, padding 0 or 2), MaxPool2D and AvgPool2D 2x2 "
    "(stride 2, after a convolution), sigmoid, tanh, relu, Flatten, Dense and the layers of 1998"
)


class Unsupported(ValueError):
    """The fused kernels cannot serve this net; the message names the layer that stands in the way."""


@dataclass
class Step:
    """A convolution or dense layer of the net, or its RBFOutput, with what follows it: one row of the table."""

    block: nn.HybridBlock  # the Conv2D, TableConv2D, Dense or RBFOutput
    kind: int
    in_shape: tuple[int, int, int]  # channels, height, width; neurons, 1, 1
    out_shape: tuple[int, int, int]  # after pooling
    height: int = 1  # of the convolution's output, as far as pooling uses it
    width: int = 1
    padding: int = 0
    map_activation: int = NO_ACTIVATION  # before SUM_POOLING
    pooling: int = NO_POOLING
    activation: int = NO_ACTIVATION
    parameters: dict[str, Parameter] = field(default_factory=dict)  # by their names in the table

    @property
    def padded(self) -> tuple[int, int, int]:
        """The input's shape with the padding."""
        channels, height, width = self.in_shape
        return channels, height + 2 * self.padding, width + 2 * self.padding


def read_net(net: nn.Block, input_shape: tuple[int, int, int]) -> list[Step]:
    """The net's layers, in order, for inputs (channels, height, width).

    Raises:
        Unsupported: the kernels cannot serve the net.
    """
    if not isinstance(net, nn.Sequential | nn.HybridSequential):
        raise Unsupported(f"{type(net).__name__} is not a Sequential; {SERVED}")
    steps: list[Step] = []
    shape = tuple(input_shape)
    for number, block in enumerate(net._children.values()):
        block = getattr(block, "_block", block)  # a child may be a weak reference in some versions
        described = " ".join(repr(block).split())
        shape = _read(block, f"layer {number}, {described},", steps, shape)
    if not steps or steps[-1].kind == CONVOLUTION:
        raise Unsupported(f"the last layer must be a Dense or RBFOutput that gives the logits; {SERVED}")
    if steps[-1].activation != NO_ACTIVATION:
        raise Unsupported(f"the last layer, {described}, has an activation; the kernels want logits")
    if np.prod(input_shape) < LANES:
        raise Unsupported(f"images of shape {tuple(input_shape)} are too small: at least {LANES} pixels")
    return steps


def _read(block, name, steps, shape):
    """Add a layer to the steps: its input's shape -> its output's."""
    if steps and steps[-1].kind == DISTANCES:
        raise Unsupported(f"{name} comes after an RBFOutput; {SERVED}")
    if type(block) is nn.Conv2D:
        return _read_convolution(block, name, steps, shape)
    if type(block) is TableConv2D:
        return _read_table_convolution(block, name, steps, shape)
    if type(block) is Subsampling:
        return _read_subsampling(block, name, steps)
    if type(block) is RBFOutput:
        return _read_distances(block, name, steps, shape)
    if type(block) is nn.Dense:
        return _read_dense(block, name, steps, shape)
    if type(block) in (nn.MaxPool2D, nn.AvgPool2D):
        return _read_pooling(block, name, steps, shape)
    if type(block) is nn.Activation:
        _add_activation(block._act_type, name, steps)
        return shape
    if type(block) is ScaledTanh:
        _set_activation(SCALED_TANH, name, steps)
        return shape
    if type(block) is nn.Flatten:
        return shape  # a Dense flattens what it gets, in the same order
    raise Unsupported(f"{name} is of a kind the kernels do not know; {SERVED}")


def _read_convolution(block, name, steps, shape):
    options = block._kwargs
    if options["kernel"] != (K, K) or options["stride"] != (1, 1) or options["dilate"] != (1, 1):
        raise Unsupported(f"{name} is not a 5x5 convolution with stride 1 and dilation 1; {SERVED}")
    if options["pad"] not in ((0, 0), (2, 2)):
        raise Unsupported(f"{name} has padding {options['pad']}; {SERVED}")
    if options["num_group"] != 1 or options.get("layout", "NCHW") != "NCHW":
        raise Unsupported(f"{name} has groups or a layout other than NCHW; {SERVED}")
    _check_input(block, name, block.weight.shape, shape[0])
    _add_convolution(block, name, steps, shape, block._channels, options["pad"][0])
    steps[-1].parameters = _weight_and_bias(block)
    _add_activation(block.act and block.act._act_type, name, steps)
    return steps[-1].out_shape


def _read_table_convolution(block, name, steps, shape):
    outputs, _, *kernel = block.kernel_shape
    if kernel != [K, K]:
        raise Unsupported(f"{name} is not a 5x5 convolution; {SERVED}")
    _check_input(block, name, block.kernel_shape, shape[0])
    _add_convolution(block, name, steps, shape, outputs, padding=0)
    steps[-1].parameters = {"bias": block.bias}
    return steps[-1].out_shape


def _add_convolution(block, name, steps, shape, outputs, padding):
    if steps and steps[-1].kind == DENSE:
        raise Unsupported(f"{name} is a convolution after a dense layer; {SERVED}")
    channels, height, width = shape
    height, width = height + 2 * padding - K + 1, width + 2 * padding - K + 1
    if (height, width) == (1, 1) and padding == 0:  # a dense layer in disguise: the kernel is as large as the input
        steps.append(Step(block, DENSE, (channels * K * K, 1, 1), (outputs, 1, 1)))
    elif min(height, width) < 2:
        raise Unsupported(f"{name} gets an input of {shape}, too small for it")
    else:
        steps.append(Step(block, CONVOLUTION, shape, (outputs, height, width), height, width, padding))


def _read_dense(block, name, steps, shape):
    inputs = int(np.prod(shape))
    if not block._flatten:
        raise Unsupported(f"{name} does not flatten its input; {SERVED}")
    _check_input(block, name, block.weight.shape, inputs)
    parameters = _weight_and_bias(block)
    steps.append(Step(block, DENSE, (inputs, 1, 1), (block._units, 1, 1), parameters=parameters))
    _add_activation(block.act and block.act._act_type, name, steps)
    return steps[-1].out_shape


def _read_distances(block, name, steps, shape):
    inputs, centres = int(np.prod(shape)), block.centres
    _check_input(block, name, centres.shape, inputs)
    out_shape = centres.shape[0], 1, 1
    steps.append(Step(block, DISTANCES, (inputs, 1, 1), out_shape, parameters={"weight": centres}))
    return out_shape


def _weight_and_bias(block):
    return {"weight": block.weight} | ({} if block.bias is None else {"bias": block.bias})


def _read_pooling(block, name, steps, shape):
    options = block._kwargs
    if options["kernel"] != (2, 2) or options["stride"] != (2, 2) or options["pad"] != (0, 0) or options["global_pool"]:
        raise Unsupported(f"{name} does not pool 2x2 with stride 2 and padding 0; {SERVED}")
    if options["pooling_convention"] != "valid" or options.get("layout", "NCHW") != "NCHW":
        raise Unsupported(f"{name} has ceil_mode or a layout other than NCHW; {SERVED}")
    return _add_pooling(MAX_POOLING if type(block) is nn.MaxPool2D else SUM_POOLING, name, steps)


def _read_subsampling(block, name, steps):
    shape = _add_pooling(SUM_POOLING, name, steps)
    _check_input(block, name, (0, *block.bias.shape), shape[0])
    steps[-1].parameters |= {"coefficient": block.coefficient, "pool_bias": block.bias}
    return shape


def _add_pooling(pooling, name, steps):
    if not steps or steps[-1].kind != CONVOLUTION or steps[-1].pooling != NO_POOLING:
        raise Unsupported(f"{name} does not follow a convolution; {SERVED}")
    step = steps[-1]
    channels, height, width = step.out_shape
    step.pooling = pooling
    if pooling == SUM_POOLING:
        # max(activation(x)) = activation(max(x)), as the activations never fall: so max pooling always comes first
        step.map_activation, step.activation = step.activation, NO_ACTIVATION
    step.out_shape = channels, height // 2, width // 2
    step.height, step.width = height // 2 * 2, width // 2 * 2
    return step.out_shape


def _add_activation(kind: str | None, name, steps):
    if not kind:
        return
    if kind not in ACTIVATIONS:
        raise Unsupported(f"{name} has the activation {kind}; {SERVED}")
    _set_activation(ACTIVATIONS[kind], name, steps)


def _set_activation(activation: int, name, steps):
    if not steps:
        raise Unsupported(f"{name} is an activation before the first convolution or dense layer; {SERVED}")
    if steps[-1].activation != NO_ACTIVATION:
        raise Unsupported(f"{name} is a second activation in a row; {SERVED}")
    steps[-1].activation = activation


def _check_input(block, name, weight_shape, inputs):
    known = weight_shape[1] if weight_shape else 0
    if known not in (0, inputs):
        raise Unsupported(f"{name} expects {known} inputs but gets {inputs}")


def read_loss(loss: Loss | None) -> float:
    """A loss -> the logit of the class that it adds to the net's in the softmax; minus infinity adds none.

    None is softmax cross-entropy. `MAPLoss` is the same with a class more, of the constant penalty j.

    Raises:
        Unsupported: the kernels cannot compute this loss.
    """
    if type(loss) is MAPLoss:
        return -loss.j
    if loss is None or (
        type(loss) is SoftmaxCrossEntropyLoss
        and (loss._sparse_label, loss._from_logits, loss._axis, loss._weight) == (True, False, -1, None)
    ):
        return -inf
    raise Unsupported(f"they compute softmax cross-entropy of class numbers or MAPLoss, not {type(loss).__name__}")


class Program:
    """The table of layers of a net, and how much memory a thread needs."""

    def __init__(self, net: nn.Block, input_shape: tuple[int, int, int]):
        self.steps, self._input_shape = read_net(net, input_shape), input_shape
        self.layers = np.zeros(len(self.steps), LAYER)
        self._size = 0  # floats given away so far
        for step, layer in zip(self.steps, self.layers, strict=True):
            self._describe(step, layer)
        self.sums_size = self._place_sums()
        self.scratch = self._take(3 * LANES)
        self._place_maps()
        self._place_parameters()
        self.size = self._size

    @property
    def num_classes(self) -> int:
        """Number of logits an image."""
        return int(self.layers[-1]["outputs"])

    def parameters(self) -> list[tuple[str, int, Parameter]]:
        """(name in the table, number of the layer, parameter) for each parameter that has a place there."""
        return [
            (name, i, parameter) for i, step in enumerate(self.steps) for name, parameter in step.parameters.items()
        ]

    def table_convolutions(self) -> list[tuple[int, TableConv2D]]:
        """(number of the layer, block) for the convolutions whose kernel has to be put together."""
        return [(i, step.block) for i, step in enumerate(self.steps) if type(step.block) is TableConv2D]

    def _take(self, floats: int) -> int:
        """Room for so many floats, rounded up to whole squares of vectors, as the tiles read and write those."""
        start, square = self._size, LANES * LANES
        self._size += -(-floats // square) * square
        return start

    @staticmethod
    def _describe(step, layer):
        layer["kind"], layer["pooling"] = step.kind, step.pooling
        layer["map_activation"], layer["activation"] = step.map_activation, step.activation
        layer["inputs"], layer["outputs"] = step.in_shape[0], step.out_shape[0]
        layer["height"], layer["width"] = step.height, step.width
        layer["pooled_height"], layer["pooled_width"] = step.out_shape[1:]

    def _place_sums(self) -> int:
        for step, layer in zip(self.steps, self.layers, strict=True):
            outputs = int(layer["outputs"])
            for sums in ("weight_sums", "bias_sums", "coefficient_sums", "pool_bias_sums", "output_bias_sums"):
                layer[sums] = -1
            if step.kind == DISTANCES:  # the centres are fixed
                continue
            layer["bias_sums"] = layer["output_bias_sums"] = self._take(outputs * LANES)
            if step.pooling == SUM_POOLING:  # the convolution's bias is added up where its map is
                layer["coefficient_sums"], layer["pool_bias_sums"] = (self._take(outputs * LANES) for _ in range(2))
                needed = "pool_bias" in step.parameters or step.activation != NO_ACTIVATION
                layer["output_bias_sums"] = layer["pool_bias_sums"] if needed else -1
            if step.kind == DENSE:
                layer["sums_row"] = _up(layer["inputs"], LANES)
                layer["weight_sums"] = self._take(_up(outputs, GRADIENT_OUTPUTS) * layer["sums_row"])
            else:
                layer["sums_row"] = layer["inputs"] * K * K
                layer["weight_sums"] = self._take(outputs * layer["sums_row"])
        return self._size

    def _place_maps(self):
        for i, (step, layer) in enumerate(zip(self.steps, self.layers, strict=True)):
            channels, height, width = step.padded
            layer["input_row"], layer["input_plane"] = width * LANES, height * width * LANES
            layer["input_size"] = channels * layer["input_plane"]
            layer["input"] = self._take(layer["input_size"])
            layer["input_gradient"] = self._take(layer["input_size"]) if i else -1
            if step.kind == DENSE:
                layer["transposed_input"] = self._take(LANES * _up(layer["inputs"], LANES))
                layer["transposed_gradient"] = self._take(LANES * _up(layer["outputs"], LANES) + LANES)
            elif step.pooling == SUM_POOLING:
                layer["map_row"], layer["map_plane"] = step.width * LANES, step.height * step.width * LANES
                layer["map"] = self._take(layer["outputs"] * layer["map_plane"])
            elif step.pooling == MAX_POOLING:
                layer["choices"] = self._take(int(np.prod(step.out_shape)) * LANES // 4)
        for i, (step, layer) in enumerate(zip(self.steps, self.layers, strict=True)):
            if i + 1 < len(self.steps) and self.steps[i + 1].kind == CONVOLUTION:
                following = self.layers[i + 1]
                layer["output_row"], layer["output_plane"] = following["input_row"], following["input_plane"]
                inside = self.inside(i + 1)
                layer["output"] = following["input"] + inside
                layer["output_gradient"] = following["input_gradient"] + inside
            else:
                _, height, width = step.out_shape
                layer["output_row"], layer["output_plane"] = width * LANES, height * width * LANES
                if i + 1 < len(self.steps):
                    layer["output"] = self.layers[i + 1]["input"]
                    layer["output_gradient"] = self.layers[i + 1]["input_gradient"]
                else:
                    layer["output"] = self._take(layer["outputs"] * LANES)
                    layer["output_gradient"] = self._take(layer["outputs"] * LANES)
        self.staging = self._take(int(np.prod(self.steps[0].in_shape)) * LANES)

    def input_places(self) -> tuple[int, int, int]:
        """Where the net's input is inside the padded one, and how far its rows and its planes are apart, in floats."""
        _, height, width = self._input_shape
        first = self.layers[0]
        if self.steps[0].kind == CONVOLUTION:
            return int(first["input"]) + self.inside(0), int(first["input_row"]), int(first["input_plane"])
        return int(first["input"]), width * LANES, height * width * LANES

    def inside(self, i: int) -> int:
        """How far the first pixel of layer i's input is from the corner of the padded one, in floats."""
        padding = self.steps[i].padding
        return padding * int(self.layers[i]["input_row"]) + padding * LANES

    def _place_parameters(self):
        for layer in self.layers:
            layer["packed_bias"] = self._take(layer["outputs"])
            layer["packed_coefficient"], layer["packed_pool_bias"] = (self._take(layer["outputs"]) for _ in range(2))
            if layer["kind"] == CONVOLUTION:
                layer["packed_weight"] = self._take(layer["outputs"] * layer["inputs"] * K * K)
            if layer["pooling"] == MAX_POOLING and layer["input_gradient"] >= 0:
                layer["tables"] = self._take(layer["outputs"] * layer["inputs"] * TABLE)


def _up(number, step):
    return -(-number // step) * step
