"""The steps of a net -> the table of its layers that the kernels work through, and everything's place in memory.

`tables.py` describes the table and draws the memory of a thread. A part of the layout is a function of the steps and of
the parts that it needs, so that they cannot be placed in the wrong order.
"""

from __future__ import annotations

from math import prod

import numpy as np
from mxnet.gluon import Parameter, nn
from mxnet.gluon.loss import Loss

from gluon_lenet.engines.fused.activations import NO_ACTIVATION
from gluon_lenet.engines.fused.dropout import CHANCES
from gluon_lenet.engines.fused.maxpool import table_size
from gluon_lenet.engines.fused.memory import whole_vectors
from gluon_lenet.engines.fused.reading import Step, Unsupported, read_loss, read_net
from gluon_lenet.engines.fused.receptive import field_steps
from gluon_lenet.engines.fused.sizes import GRADIENT_OUTPUTS, LANES
from gluon_lenet.engines.fused.tables import (
    CONVOLUTION,
    DENSE,
    DISTANCES,
    MAX_POOLING,
    NOWHERE,
    SUM_POOLING,
    empty_layers,
)
from gluon_lenet.engines.proof import Record


class Program:
    """The table of layers of a net, how much memory a thread needs, and a record of what it was read from.

    Args:
        net, input_shape, loss: as `read_net` and `read_loss` take them.
        image_gradient: whether the gradient of the images has a place, too.

    Attributes:
        input_shape: (channels, height, width) of what the net sees.
        steps: the net's layers, as they were read.
        layers: a table `tables.LAYER`, one row per step; the addresses are still 0.
        fields: the same for the receptive fields of a single image, see `receptive.py`; it may have no rows.
        size: floats of a thread's memory.
        sums_size: how many of them, at its start, are sums of gradients.
        scratch: the place of three vectors.
        kept: the place of what the backward pass needs of the forward pass, `kept_size` floats.
        staging: the place of a block's images, close together.
        image: (at, row, plane) of the net's input inside the first layer's padded input, as in `tables.Map`.
        loss: what `read_loss` found.
        draws: whether training draws random numbers.
        record: the net and the loss, as they were.
    """

    def __init__(self, net: nn.Block, input_shape: tuple[int, int, int], loss: Loss, image_gradient: bool = False):
        self.input_shape = input_shape
        self.record = Record()
        self.steps = read_net(net, input_shape, self.record)
        self.loss = read_loss(loss, self.record)
        self.draws = any(step.dropout for step in self.steps)
        try:
            self.record.check_caches()
        except ValueError as error:
            raise Unsupported(error.args[0]) from None
        arena = Arena()
        sums = [_place_sums(step, arena) for step in self.steps]  # the first, so that one `fill` clears them
        self.sums_size = arena.size
        self.scratch = arena.take(3 * LANES)
        self.kept = arena.size
        inputs = [_place_input(step, arena) | _place_map(step, arena) for step in self.steps]
        self.kept_size = arena.size - self.kept
        for fields in inputs if image_gradient else inputs[1:]:
            fields["input_gradient"] = arena.take(fields["input_size"])
        self.staging = arena.take(prod(input_shape) * LANES)
        self.image = _inside(self.steps[0], inputs[0]["input"], inputs[0], input_shape)
        self.layers = empty_layers(len(self.steps))
        self.layers["number"] = range(len(self.steps))
        following = [*zip(self.steps[1:], inputs[1:], strict=True), None]
        for layer, step, *known, behind in zip(self.layers, self.steps, sums, inputs, following, strict=True):
            own = (
                _place_output(step, behind, arena),
                _place_transposed(step, arena),
                _place_packed(step, known[1], arena),
            )
            for fields in (_sizes(step), *known, *own):
                for name, value in fields.items():
                    layer[name] = value
        self.fields = _place_fields(field_steps(self.steps), self.layers, arena)
        self.size = arena.size

    @property
    def is_padded(self) -> bool:
        """Whether the first layer's padded input is larger than the net's input."""
        return self.steps[0].kind == CONVOLUTION and self.steps[0].padded != self.steps[0].in_shape[1:]

    @property
    def num_classes(self) -> int:
        """Number of logits of an image."""
        return int(self.layers[-1]["outputs"])

    def parameters(self) -> list[tuple[str, int, Parameter]]:
        """(name in the table, number of the layer, parameter) for each parameter that has a place there."""
        return [
            (name, i, parameter) for i, step in enumerate(self.steps) for name, parameter in step.parameters.items()
        ]


class Arena:
    """A thread's memory, given away from its start on.

    Attributes:
        size: floats given away so far.
    """

    def __init__(self):
        self.size = 0

    def take(self, floats: int) -> int:
        """The place of so many floats, rounded up to whole squares of vectors, as the tiles read and write those."""
        start = self.size
        self.size += whole_vectors(floats, LANES * LANES)
        return start


def _sizes(step: Step) -> dict[str, int]:
    pooled_height, pooled_width = step.out_shape[1:]
    return {
        "kind": step.kind,
        "map_activation": step.map_activation,
        "pooling": step.pooling,
        "activation": step.activation,
        "dropout": round(step.dropout * CHANCES),
        "inputs": step.in_shape[0],
        "outputs": step.out_shape[0],
        "kernel": step.kernel,
        "patches": step.in_shape[0] * prod(step.patches),
        "patches_down": step.patches[0],
        "patches_across": step.patches[1],
        "height": step.height,
        "width": step.width,
        "pooled_height": pooled_height,
        "pooled_width": pooled_width,
    }


def _place_sums(step: Step, arena: Arena) -> dict[str, int]:
    """The sums of the gradients."""
    inputs, outputs = step.in_shape[0], step.out_shape[0]
    if step.kind == DISTANCES:  # the centres are fixed
        return {}
    fields = dict.fromkeys(["bias_sums", "output_bias_sums"], arena.take(outputs * LANES))
    if step.pooling == SUM_POOLING:  # the convolution's bias is added up where its map is
        fields["coefficient_sums"], fields["pool_bias_sums"] = (arena.take(outputs * LANES) for _ in range(2))
        needed = "pool_bias" in step.parameters or step.activation != NO_ACTIVATION
        fields["output_bias_sums"] = fields["pool_bias_sums"] if needed else NOWHERE
    if step.kind == DENSE:
        rows, fields["sums_row"] = whole_vectors(outputs, GRADIENT_OUTPUTS), whole_vectors(inputs, LANES)
    else:
        rows, fields["sums_row"] = outputs, inputs * prod(step.patches) * step.kernel**2
    return fields | {"weight_sums": arena.take(rows * fields["sums_row"])}


def _place_input(step: Step, arena: Arena) -> dict[str, int]:
    """The padded input."""
    height, width = step.padded
    size = step.in_shape[0] * height * width * LANES
    row, plane = width * LANES, height * width * LANES
    return {"input": arena.take(size), "input_row": row, "input_plane": plane, "input_size": size}


def _place_map(step: Step, arena: Arena) -> dict[str, int]:
    """What a pooling layer keeps of the convolution before it."""
    outputs = step.out_shape[0]
    if step.pooling == SUM_POOLING:
        row, plane = step.width * LANES, step.height * step.width * LANES
        return {"map": arena.take(outputs * plane), "map_row": row, "map_plane": plane}
    if step.pooling == MAX_POOLING:
        return {"choices": arena.take(prod(step.out_shape) * LANES // 4)}
    return {}


def _inside(step: Step, start: int, fields: dict[str, int], shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """(at, row, plane) of maps (channels, height, width) inside a step's padded input, or its gradient, at `start`."""
    if step.kind == CONVOLUTION:
        above, left = step.padding
        return start + above * fields["input_row"] + left * LANES, fields["input_row"], fields["input_plane"]
    _, height, width = shape  # a dense layer takes them as one vector
    return start, width * LANES, height * width * LANES


def _place_output(step: Step, following: tuple[Step, dict[str, int]] | None, arena: Arena) -> dict[str, int]:
    """The output and its gradient, which are inside the input of the following step; of the last one, the logits."""
    if following is None:
        at, gradient = (arena.take(step.out_shape[0] * LANES) for _ in range(2))
        return {"output": at, "output_gradient": gradient, "output_row": LANES, "output_plane": LANES}
    next_step, fields = following
    at, row, plane = _inside(next_step, fields["input"], fields, step.out_shape)
    gradient, _, _ = _inside(next_step, fields["input_gradient"], fields, step.out_shape)
    return {"output": at, "output_gradient": gradient, "output_row": row, "output_plane": plane}


def _place_transposed(step: Step, arena: Arena) -> dict[str, int]:
    """A dense layer's input and its output's gradient, image by image."""
    if step.kind != DENSE:
        return {}
    inputs, outputs = step.in_shape[0], step.out_shape[0]
    return {
        "transposed_input": arena.take(LANES * whole_vectors(inputs, LANES)),
        "transposed_gradient": arena.take(LANES * whole_vectors(outputs, LANES) + LANES),
    }


def _place_packed(step: Step, its_input: dict[str, int], arena: Arena) -> dict[str, int]:
    """Copies of the parameters."""
    outputs = step.out_shape[0]
    kernels = outputs * step.in_shape[0] * prod(step.patches)  # of a convolution
    fields = {name: arena.take(outputs) for name in ("packed_bias", "packed_coefficient", "packed_pool_bias")}
    if step.kind == CONVOLUTION:
        fields["packed_weight"] = arena.take(kernels * step.kernel**2)
    if step.pooling == MAX_POOLING and "input_gradient" in its_input:
        fields["tables"] = arena.take(kernels * table_size(step.kernel))
    return fields


def _place_fields(steps: list[Step], layers: np.ndarray, arena: Arena) -> np.ndarray:
    """A table of the first layers for receptive fields: with places of their own, but the layers' packed parameters."""
    rows = layers[: len(steps)].copy()
    inputs = [_place_input(step, arena) | _place_map(step, arena) | {"input_gradient": NOWHERE} for step in steps]
    for i, (row, step) in enumerate(zip(rows, steps, strict=True)):
        following = (steps[i + 1], inputs[i + 1]) if i + 1 < len(steps) else None
        for fields in (_sizes(step), inputs[i], _place_output(step, following, arena)):
            for name, value in fields.items():
                row[name] = value
    return rows
