"""Convolution k x k, then max pooling 2x2, and its gradients.

The input is (inputs, 2 h + k - 1, 2 w + k - 1), the output (outputs, h, w); k as in `convolution.py`.
Three of four pixels of the convolution have no gradient; the tiles here never compute with those.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from gluon_lenet.engines.fused.convolution import (
    Packed,
    add_taps,
    is_connected,
    packed_from,
    patches_fitting,
    sums_of,
    window,
)
from gluon_lenet.engines.fused.memory import FLOAT32, at_address, fill, fitting
from gluon_lenet.engines.fused.sizes import KERNELS, LANES, MAXPOOL_CHANNELS, OUTPUTS, STRIPS
from gluon_lenet.engines.fused.tables import (
    NOWHERE,
    Map,
    Size,
    convolved_gradient,
    input_gradient_map,
    input_map,
    moved,
    patch_of,
)
from gluon_lenet.engines.fused.vectors import Choice, Floats, Int, Variable, byte_vector, loop, tile, vector

# What is stored about a window: which of its 4 pixels is the largest. Bit 3 says below, bit 0 says left: as it is, the
# number is a place in the tables of `input_gradient`.
CODES = (1, 0, 9, 8)
ROW = 16  # floats of a row of the table that `input_gradient` has for one patch and one output channel


class Chosen(NamedTuple):
    """Where CODES are: `at` bytes after the float `start`; to the next channel it is `plane` bytes."""

    start: Int
    at: Int
    plane: Int


class Table(NamedTuple):
    """Where a row of the tables of one patch is, for output channel 0 of `outputs`, `step` floats apart."""

    at: Int
    step: Int
    outputs: Int


@njit
def chosen(layer, channel, y, x):
    """What was chosen in a channel, from window (y, x) on."""
    plane = layer.pooled_height * layer.pooled_width * LANES
    return Chosen(layer.choices, channel * plane + (y * layer.pooled_width + x) * LANES, plane)


# --- forward ----------------------------------------------------------------------------------------------------------


@tile
def convolve_maxpool(
    kernel: Choice(KERNELS),
    outputs: Choice(OUTPUTS),
    memory: Floats,
    x: Map,
    packed: Packed,
    y: Map,
    chosen: Chosen,
):
    """Convolution, then max pooling: (channels, kernel + 1, kernel + 1) at x -> (outputs,) at y.

    Which of the four pixels is the largest (the first, if there are several) is stored for the backward pass.
    """
    codes = memory.bytes_at(chosen.start)
    for o, pixels in enumerate(window(kernel, outputs, memory, x, packed)):
        best, code = pixels[0], byte_vector(CODES[0])
        for pixel in range(1, 4):
            larger = pixels[pixel] > best
            best = pixels[pixel].where(larger, best)
            code = byte_vector(CODES[pixel]).where(larger, code)
        memory.store(y.at + y.plane * o, best)
        codes.store(chosen.at + chosen.plane * o, code)


@njit
def forward(memory, layer):
    """From the layer's input to its output and `choices`."""
    image, result = input_map(layer), Map(layer.output, layer.output_row, layer.output_plane)
    for y in range(layer.pooled_height):
        for x in range(layer.pooled_width):
            field = moved(image, 0, 2 * y, 2 * x)
            o = 0
            while o < layer.outputs:
                group, pixel = fitting(OUTPUTS, layer.outputs - o), moved(result, o, y, x)
                packed, choices = packed_from(layer, o), chosen(layer, o, y, x)
                convolve_maxpool(layer.kernel, group, memory, field, packed, pixel, choices)
                o += group


# --- gradient of the weights ------------------------------------------------------------------------------------------


@tile
def weight_gradient(
    kernel: Choice(KERNELS),
    memory: Floats,
    x: Map,
    gradient: Map,
    chosen: Chosen,
    size: Size,
    sums: Int,
):
    """The gradient of the weights between an input map and an output map, added to as many floats at `sums`.

    Only one pixel of each window has a gradient: the lanes pick the input under that pixel (two selections per tap),
    and the taps need one multiplication per window instead of four. `size` is the pooled map's, whose gradient this
    takes.
    """
    codes = memory.bytes_at(chosen.start)
    for strip in STRIPS[kernel]:
        taps = [Variable(vector(0)) for _ in range(len(strip) * kernel)]
        with loop(size.height) as y, loop(size.width) as column:
            value = memory.load(gradient.at + gradient.row * y + column * LANES)
            code = codes.load(chosen.at + (y * size.width + column) * LANES)
            left, below = (code & 1) > 0, (code & 8) > 0
            at = x.at + x.row * (y * 2) + column * (2 * LANES)
            upper = None
            for i in range(strip[0], strip[-1] + 2):
                field = [memory.load(at + x.row * i + j * LANES) for j in range(kernel + 1)]
                lower = [field[j].where(left, field[j + 1]) for j in range(kernel)]
                if upper:
                    for kx in range(kernel):
                        tap = taps[(i - 1 - strip[0]) * kernel + kx]
                        tap.add_product(value, lower[kx].where(below, upper[kx]))
                upper = lower
        add_taps(memory, taps, sums + strip[0] * kernel)


@njit
def add_weight_gradient(memory, layer):
    """Add the block's gradient of the weights to `weight_sums`: (outputs, patches, k * k)."""
    image, gradient = input_map(layer), convolved_gradient(layer)
    for patch in range(layer.patches):  # outermost, so that its map stays in the cache
        for o in range(layer.outputs):
            if is_connected(layer, o, patch):
                x, dy, choices = patch_of(image, layer, patch), moved(gradient, o, 0, 0), chosen(layer, o, 0, 0)
                size, sums = Size(layer.pooled_height, layer.pooled_width), sums_of(layer, o, patch)
                weight_gradient(layer.kernel, memory, x, dy, choices, size, sums)


# --- gradient of the input --------------------------------------------------------------------------------------------


@tile
def input_gradient(
    kernel: Choice(KERNELS),
    channels: Choice(MAXPOOL_CHANNELS),
    memory: Floats,
    gradient: Map,
    chosen: Chosen,
    table: Table,
    x_gradient: Map,
):
    """What one pooled pixel's gradient adds to one row of its receptive field, in `channels` input channels.

    Only one of the window's pixels has a gradient; which one, says where in the field the kernel lies. So every lane
    looks up its weight: the table for an output and an input channel has a row for each row i of the field, for 5x5

        0  w[i, 0] ... w[i, 4]  0 0   0  w[i-1, 0] ... w[i-1, 4]  0 0      (16 floats; w[-1] = w[5] = 0)

    and for a smaller kernel with more zeros; column j of the field needs number code + j of it: the code is 1 if the
    pixel above left is chosen, 0 above right, 9 below left, 8 below right (CODES). `table` is at row i.
    """
    sums = [
        [Variable(memory.load(x_gradient.at + x_gradient.plane * c + j * LANES)) for j in range(kernel + 1)]
        for c in range(channels)
    ]
    codes = memory.bytes_at(chosen.start)
    with loop(table.outputs) as output:
        value = memory.load(gradient.at + gradient.plane * output)
        code = codes.load(chosen.at + chosen.plane * output).widened()
        row = table.at + table.step * output
        for j in range(kernel + 1):
            for c in range(channels):
                sums[c][j].add_product(value, memory.look_up(row + c * (kernel + 1) * ROW, code + j))
    for c in range(channels):
        for j in range(kernel + 1):
            memory.store(x_gradient.at + x_gradient.plane * c + j * LANES, sums[c][j].get())


@njit
def write_input_gradient(memory, layer):
    """The gradient of the padded input, from that of the output."""
    fill(memory, layer.input_gradient, layer.input_size, np.float32(0))
    gradient, size, patch = convolved_gradient(layer), table_size(layer.kernel), 0
    while patch < layer.patches:
        group = patches_fitting(MAXPOOL_CHANNELS, layer, patch)
        target = patch_of(input_gradient_map(layer), layer, patch)
        for i in range(layer.kernel + 1):
            table = Table(layer.tables + patch * size + i * ROW, layer.patches * size, layer.outputs)
            for y in range(layer.pooled_height):
                for x in range(layer.pooled_width):
                    dy, dx = moved(gradient, 0, y, x), moved(target, 0, 2 * y + i, 2 * x)
                    input_gradient(layer.kernel, group, memory, dy, chosen(layer, 0, y, x), table, dx)
        patch += group


@njit
def pack(memory, layer):
    """Copy the weights into the tables of `input_gradient`; what is 0 there is 0 from the beginning."""
    size, kernels = layer.kernel, layer.outputs * layer.patches
    weights = at_address(FLOAT32, layer.weight, kernels * size * size)
    for kernel in range(kernels):
        table = layer.tables + kernel * table_size(size)
        for ky in range(size):
            for kx in range(size):
                weight = weights[(kernel * size + ky) * size + kx]
                memory[table + ky * ROW + 1 + kx] = weight
                memory[table + (ky + 1) * ROW + 9 + kx] = weight


@njit
def table_size(kernel):
    """Floats of the table for one patch and one output channel."""
    return (kernel + 1) * ROW


@njit
def backward(memory, layer):
    """From the gradient of what `forward` wrote: adds to the weights' sums, writes the input's gradient."""
    add_weight_gradient(memory, layer)
    if layer.input_gradient != NOWHERE:
        write_input_gradient(memory, layer)
