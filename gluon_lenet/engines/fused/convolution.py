"""Convolution k x k, stride 1: input (inputs, h + k - 1, w + k - 1) -> output (outputs, h, w), and its gradients.

k is one of KERNELS. A larger window is the sum of several k x k side by side, its patches, as if each were an input
channel of its own; `reading.py` chooses k.
With max pooling behind it, `maxpool.py` computes both at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from gluon_lenet.engines.fused.memory import FLOAT32, UINT8, at_address, fill, fitting
from gluon_lenet.engines.fused.sizes import (
    CHANNELS,
    COLUMNS_OF_3,
    COLUMNS_OF_5,
    KERNELS,
    LANES,
    OUTPUTS,
    STRIPS,
)
from gluon_lenet.engines.fused.tables import (
    NOWHERE,
    Map,
    Size,
    convolved,
    convolved_gradient,
    input_gradient_map,
    input_map,
    moved,
    patch_of,
)
from gluon_lenet.engines.fused.vectors import (
    Address,
    Choice,
    Floats,
    Int,
    Value,
    Variable,
    loop,
    sums_of_lanes,
    tile,
    vector,
)


class Packed(NamedTuple):
    """A group of output channels' parameters in memory: weights (patches, k, k, outputs), biases (outputs,)."""

    channels: Int  # of the input, each of patches (down, across)
    down: Int
    across: Int
    weights: Int
    bias: Int


class Taps(NamedTuple):
    """Weights of one patch in MXNet's array: those of `outputs` output channels, `step` floats apart.

    Of each kernel the rows `first` ... `stop` - 1.
    """

    address: Address
    at: Int
    step: Int
    outputs: Int
    first: Int
    stop: Int


# --- forward ----------------------------------------------------------------------------------------------------------


def window(kernel: int, outputs: int, memory: Floats, x: Map, packed: Packed) -> list[list[Value]]:
    """`outputs` channels of the convolution in a window of 2x2 pixels: [output][pixel], pixels row by row.

    The window's receptive field begins at x; a row of a patch of it, kernel + 1 vectors, serves 2 pixels and all the
    outputs.
    """
    sums = [[Variable(memory.broadcast(packed.bias + o)) for _ in range(4)] for o in range(outputs)]
    with loop(packed.channels) as channel, loop(packed.down) as down, loop(packed.across) as across, loop(kernel) as ky:
        above = x.at + channel * x.plane + (down * kernel + ky) * x.row + across * (kernel * LANES)
        field = [[memory.load(above + x.row * i + j * LANES) for j in range(kernel + 1)] for i in range(2)]
        patch = (channel * packed.down + down) * packed.across + across
        taps = packed.weights + (patch * kernel + ky) * (kernel * outputs)
        for kx in range(kernel):
            for o in range(outputs):
                weight = memory.broadcast(taps + (kx * outputs + o))
                for pixel in range(4):
                    sums[o][pixel].add_product(field[pixel // 2][kx + pixel % 2], weight)
    return [[variable.get() for variable in pixels] for pixels in sums]


@tile
def convolve(kernel: Choice(KERNELS), outputs: Choice(OUTPUTS), memory: Floats, x: Map, packed: Packed, y: Map):
    """Convolution plus bias: (channels, kernel + 1, kernel + 1) at x -> (outputs, 2, 2) at y."""
    for o, pixels in enumerate(window(kernel, outputs, memory, x, packed)):
        for pixel, value in enumerate(pixels):
            memory.store(y.at + y.plane * o + y.row * (pixel // 2) + (pixel % 2) * LANES, value)


@njit
def forward(memory, layer):
    """From the layer's input to its output, or to its `map` before SUM_POOLING."""
    image, result = input_map(layer), convolved(layer)
    for y in range(0, layer.height, 2):
        y = min(y, layer.height - 2)  # the last window may overlap the one before
        for x in range(0, layer.width, 2):
            x = min(x, layer.width - 2)
            o = 0
            while o < layer.outputs:
                group, field = fitting(OUTPUTS, layer.outputs - o), moved(image, 0, y, x)
                convolve(layer.kernel, group, memory, field, packed_from(layer, o), moved(result, o, y, x))
                o += group


@njit
def pack(memory, layer):
    """Copy the weights into the order in which `window` reads them, group by group."""
    taps = layer.patches * layer.kernel**2
    weights = at_address(FLOAT32, layer.weight, layer.outputs * taps)
    first = 0
    while first < layer.outputs:
        group = fitting(OUTPUTS, layer.outputs - first)
        start = layer.packed_weight + first * taps
        for o in range(group):
            for tap in range(taps):
                memory[start + tap * group + o] = weights[(first + o) * taps + tap]
        first += group


@njit
def packed_from(layer, output):
    """The packed parameters of the group that begins with an output channel."""
    weights = layer.packed_weight + output * layer.patches * layer.kernel**2
    return Packed(layer.inputs, layer.patches_down, layer.patches_across, weights, layer.packed_bias + output)


# --- gradient of the weights ------------------------------------------------------------------------------------------


@tile
def weight_gradient(kernel: Choice(KERNELS), memory: Floats, x: Map, gradient: Map, size: Size, sums: Int):
    """The gradient of the weights between a patch and an output map, added to as many floats at `sums`.

    sums[ky, kx] += sum over images and pixels of gradient[y, x] * input[y + ky, x + kx].
    `size` is the gradient's.
    """
    for strip in STRIPS[kernel]:
        taps = [Variable(vector(0)) for _ in range(len(strip) * kernel)]

        def pixels(at, gradient_at, count, strip=strip, taps=taps):  # side by side: they share what they read
            gradients = [memory.load(gradient_at + i * LANES) for i in range(count)]
            for j, ky in enumerate(strip):
                for column in range(kernel + count - 1):
                    value = memory.load(at + x.row * ky + column * LANES)
                    for i in range(count):
                        if 0 <= column - i < kernel:
                            taps[j * kernel + column - i].add_product(gradients[i], value)

        with loop(size.height) as y:
            at, gradient_at = x.at + x.row * y, gradient.at + gradient.row * y
            pairs = size.width // 2
            with loop(pairs) as pair:
                pixels(at + pair * (2 * LANES), gradient_at + pair * (2 * LANES), 2)
            with loop(size.width, start=pairs * 2) as column:
                pixels(at + column * LANES, gradient_at + column * LANES, 1)
        add_taps(memory, taps, sums + strip[0] * kernel)


def add_taps(memory: Floats, taps: list[Variable], sums: Value):
    """Add the lanes of each tap, and add the results to the floats at `sums`."""
    for start in range(0, len(taps), LANES):
        first = max(0, min(start, len(taps) - LANES))  # the last vector may overlap the one before: 0 is added there
        rows = [taps[i].get() if start <= i < len(taps) else vector(0) for i in range(first, first + LANES)]
        memory.store(sums + first, memory.load(sums + first) + sums_of_lanes(rows))


@njit
def add_weight_gradient(memory, layer):
    """Add the block's gradient of the weights to `weight_sums`: (outputs, patches, k * k)."""
    image, gradient = input_map(layer), convolved_gradient(layer)
    for patch in range(layer.patches):  # outermost, so that its map stays in the cache
        for o in range(layer.outputs):
            if is_connected(layer, o, patch):
                x, dy, sums = patch_of(image, layer, patch), moved(gradient, o, 0, 0), sums_of(layer, o, patch)
                weight_gradient(layer.kernel, memory, x, dy, Size(layer.height, layer.width), sums)


@njit(inline="always")
def is_connected(layer, output, patch):
    """Whether there are weights between an output and a patch."""
    if layer.connected == 0:
        return True
    return at_address(UINT8, layer.connected, layer.outputs * layer.patches)[output * layer.patches + patch] != 0


@njit(inline="always")
def sums_of(layer, output, patch):
    """The place of the sums of the weights between an output and a patch."""
    return layer.weight_sums + (output * layer.patches + patch) * layer.kernel**2


@njit(inline="always")
def patches_fitting(sizes, layer, patch):
    """From a patch on, the largest size of a tile that takes patches side by side: whole input channels only."""
    return fitting(sizes, layer.patches - patch) if layer.patches == layer.inputs else 1


# --- gradient of the input --------------------------------------------------------------------------------------------


@tile
def input_gradient(
    kernel: Choice(KERNELS),
    columns: Choice(COLUMNS_OF_3),
    channels: Choice(CHANNELS),
    memory: Floats,
    taps: Taps,
    gradient: Map,
    x_gradient: Map,
):
    """What `columns` pixels of the output's gradient add to one row of the input's, in `channels` input channels.

    x_gradient[c, x + kx] += gradient[o, y - ky, x] * weight[o, c, ky, kx], over the outputs o, the rows ky of `taps`,
    all kx and the columns x; `gradient` is at [0, y, x], `x_gradient` at [c, x].
    """
    if kernel == 5 and columns not in COLUMNS_OF_5:
        return  # never asked for, see `columns_fitting`
    sums = [
        [Variable(memory.load(x_gradient.at + x_gradient.plane * c + j * LANES)) for j in range(columns + kernel - 1)]
        for c in range(channels)
    ]
    with loop(taps.stop, start=taps.first) as ky, loop(taps.outputs) as output:
        weights = taps.at + output * taps.step + ky * kernel
        at = gradient.at + gradient.plane * output - gradient.row * ky
        values = [memory.load(at + column * LANES) for column in range(columns)]
        for kx in range(kernel):
            for c in range(channels):
                factor = taps.address.floats().broadcast(weights + (c * kernel * kernel + kx))
                for column in range(columns):
                    sums[c][column + kx].add_product(values[column], factor)
    for c in range(channels):
        for j in range(columns + kernel - 1):
            memory.store(x_gradient.at + x_gradient.plane * c + j * LANES, sums[c][j].get())


@njit
def write_input_gradient(memory, layer):
    """The gradient of the padded input, from that of the output, or of `map` before SUM_POOLING."""
    fill(memory, layer.input_gradient, layer.input_size, np.float32(0))
    for y in range(layer.height + layer.kernel - 1):
        patch = 0
        while patch < layer.patches:
            group = patches_fitting(CHANNELS, layer, patch) if layer.connected == 0 else 1
            first, stop = connected_outputs(layer, patch, 0)
            while first < stop:
                add_row_gradient(memory, layer, (patch, group), (first, stop - first), y)
                first, stop = connected_outputs(layer, patch, stop)
            patch += group


@njit
def connected_outputs(layer, patch, start):
    """The first outputs side by side, from `start` on, that a patch has weights to: number, number after."""
    first, stop = start, layer.outputs
    if layer.connected != 0:
        while first < layer.outputs and not is_connected(layer, first, patch):
            first += 1
        stop = first
        while stop < layer.outputs and is_connected(layer, stop, patch):
            stop += 1
    return first, stop


@njit(inline="always")
def add_row_gradient(memory, layer, inputs, outputs, y):
    """Add what some outputs contribute to the gradient of row y of some patches; both (first, number)."""
    (patch, group), (output, count) = inputs, outputs
    gradient = moved(convolved_gradient(layer), output, y, 0)
    target = moved(patch_of(input_gradient_map(layer), layer, patch), 0, y, 0)
    first, stop = max(0, y - layer.height + 1), min(layer.kernel, y + 1)  # rows of the kernel within the output
    size = layer.kernel**2
    step = layer.patches * size
    taps = Taps(layer.weight, output * step + patch * size, step, count, first, stop)
    x = 0
    while x < layer.width:
        columns = columns_fitting(layer, layer.width - x)
        dy, dx = moved(gradient, 0, 0, x), moved(target, 0, 0, x)
        input_gradient(layer.kernel, columns, group, memory, taps, dy, dx)
        x += columns


@njit(inline="always")
def columns_fitting(layer, left):
    """The largest size of `input_gradient` for a row of which `left` columns are left."""
    return fitting(COLUMNS_OF_5, left) if layer.kernel == 5 else fitting(COLUMNS_OF_3, left)


@njit
def backward(memory, layer):
    """From the gradient of what `forward` wrote: adds to the weights' sums, writes the input's gradient."""
    add_weight_gradient(memory, layer)
    if layer.input_gradient != NOWHERE:
        write_input_gradient(memory, layer)
