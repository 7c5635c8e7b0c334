"""A table of layers and a batch of images -> logits, loss, correct count and gradients: loops over the register tiles.

A block is LANES images. Each thread takes its share of the blocks, one after the other: it runs a block forward through
all layers and backward again while everything about it is in the cache, and adds the gradients to sums of its own. At
the end the threads' sums are added up, always in the same order, so the same number of threads gives the same bits.

Every thread has one row of `memory`, in which `program.py` has given every map its place; a `layer` below is one row of
the table `program.py` makes, whose fields are described at `LAYER`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import carray, njit, prange, types
from numba.extending import intrinsic

from gluon_lenet.fused import tiles
from gluon_lenet.fused.tiles import NO_ACTIVATION, RELU, SIGMOID, TANH, K
from gluon_lenet.fused.vectors import LANES

CONVOLUTION, DENSE = range(2)
NO_POOLING, MAX_POOLING, AVERAGE_POOLING = range(3)

# A layer: a convolution or dense layer with the activation and the pooling that follow it. Sizes are numbers of
# elements; places are offsets in a thread's row of `memory`, in floats; rows and planes are distances there, in floats.
LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            "kind",  # CONVOLUTION or DENSE
            "activation",  # NO_ACTIVATION, SIGMOID, TANH or RELU
            "pooling",  # NO_POOLING, MAX_POOLING or AVERAGE_POOLING, of 2x2
            "activate_first",  # 1: activation before average pooling; 0: after pooling
            "inputs",  # channels of a convolution, neurons of a dense layer
            "outputs",
            "height",  # of the convolution's output, as far as pooling uses it
            "width",
            "pooled_height",  # of what the next layer sees
            "pooled_width",
            # the input, padded: (inputs, rows, columns, LANES)
            "input",
            "input_row",
            "input_plane",
            "input_gradient",  # likewise; -1 if nobody needs it
            "input_size",  # floats of the padded input
            # the output, inside the next layer's padded input
            "output",
            "output_row",
            "output_plane",
            "output_gradient",  # likewise
            # the convolution's own output before average pooling; in the backward pass its gradient
            "map",
            "map_row",
            "map_plane",
            "choices",  # which pixel of each window max pooling chose: bytes (outputs, pooled_height, pooled_width, LANES)
            "weight_sums",  # the gradients' sums over images; the shape depends on the kind
            "bias_sums",  # (outputs, LANES)
            "unused",  # room for a vector that nobody reads
            "transposed_input",  # dense: (LANES, columns rounded up to LANES)
            "transposed_gradient",
            "sums_row",  # dense: length of a row of weight_sums
            # in `packed`, which the threads share
            "packed_weight",  # convolution: groups of 4 (or the rest) outputs, each (inputs, 5, 5, outputs of the group)
            "packed_bias",  # zeros without a bias
            # addresses of MXNet's arrays; 0 where there is none
            "weight",
            "bias",
            "weight_gradient",
            "bias_gradient",
        )
    ]
)

OUTPUTS_A_TILE = 4  # of a convolution
DENSE_OUTPUTS, DENSE_INPUTS = 12, 16  # a tile of a dense layer, forward and backward
GRADIENT_OUTPUTS, GRADIENT_VECTORS = 6, 4  # a tile of a dense layer's weight gradient

# Columns of `totals`, one row a thread.
LOSS, CORRECT, BAD_LABELS, BAD_ROWS = range(4)


@intrinsic
def _pointer(typing_context, address):
    """An int64 as a pointer to floats."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), generate


@njit
def floats_at(address, count):
    """The `count` floats at an address, as an array."""
    return carray(_pointer(address), (count,))


# --- forward ----------------------------------------------------------------------------------------------------------


@njit
def pack(layers, packed):
    """Copy convolution weights into the order `tiles.convolve` reads them in, and biases beside them."""
    for i in range(layers.size):
        layer = layers[i]
        if layer.bias != 0:
            packed[layer.packed_bias : layer.packed_bias + layer.outputs] = floats_at(layer.bias, layer.outputs)
        if layer.kind == CONVOLUTION:
            taps = layer.inputs * K * K
            weights = floats_at(layer.weight, layer.outputs * taps)
            for first in range(0, layer.outputs, OUTPUTS_A_TILE):
                group = min(OUTPUTS_A_TILE, layer.outputs - first)
                start = layer.packed_weight + first * taps
                for o in range(group):
                    for tap in range(taps):
                        packed[start + tap * group + o] = weights[(first + o) * taps + tap]


@njit
def read_images(memory, images, is_float, starts, pixels, target):
    """Gather LANES images of `pixels` floats or bytes, which begin at `starts`: (pixels, LANES) at target."""
    for first in range(0, pixels, LANES):
        pixel = min(first, pixels - LANES)  # the last LANES pixels may overlap those before
        if is_float:
            tiles.gather_floats(memory, images, starts, pixel, target + pixel * LANES)
        else:
            tiles.gather_bytes(memory, images, starts, pixel, target + pixel * LANES)


@njit
def copy_map(memory, source, target, channels, height, width, row, plane):
    """(channels, height, width, LANES), close together -> the same inside a padded map."""
    length = width * LANES
    for channel in range(channels):
        for y in range(height):
            at = target + channel * plane + y * row
            memory[at : at + length] = memory[source : source + length]
            source += length


@njit
def _activate(memory, activation, count, y):
    if activation == SIGMOID:
        tiles.activate(SIGMOID, memory, count, y)
    elif activation == TANH:
        tiles.activate(TANH, memory, count, y)
    elif activation == RELU:
        tiles.activate(RELU, memory, count, y)


@njit
def activate_output(memory, layer):
    """Apply the activation function to the layer's output, in place."""
    if layer.activation != NO_ACTIVATION:
        for o in range(layer.outputs):
            for y in range(layer.pooled_height):
                at = layer.output + o * layer.output_plane + y * layer.output_row
                _activate(memory, layer.activation, layer.pooled_width, at)


@njit
def convolution_forward(memory, packed, layer):
    """Convolution, then max pooling, or neither: from the layer's input to its output or its `map`."""
    taps = layer.inputs * K * K
    places = layer.pooled_height * layer.pooled_width * LANES
    to_map = layer.pooling == AVERAGE_POOLING
    y_start = layer.map if to_map else layer.output
    y_row = layer.map_row if to_map else layer.output_row
    y_plane = layer.map_plane if to_map else layer.output_plane
    for y in range(0, layer.height, 2):
        y = min(y, layer.height - 2)  # the last window may overlap the one before
        for column in range(0, layer.width, 2):
            column = min(column, layer.width - 2)
            x = layer.input + y * layer.input_row + column * LANES
            for o in range(0, layer.outputs, OUTPUTS_A_TILE):
                weights, bias = layer.packed_weight + o * taps, layer.packed_bias + o
                group = min(OUTPUTS_A_TILE, layer.outputs - o)
                if layer.pooling == MAX_POOLING:
                    at = layer.output + o * layer.output_plane + y // 2 * layer.output_row + column // 2 * LANES
                    choice = o * places + (y // 2 * layer.pooled_width + column // 2) * LANES
                    _convolve_and_choose(
                        group, memory, packed, layer, x, weights, bias, at, choice, places
                    )
                else:
                    at = y_start + o * y_plane + y * y_row + column * LANES
                    _convolve(group, memory, packed, layer, x, weights, bias, at, y_row, y_plane)


@njit(inline="always")
def _convolve(group, memory, packed, layer, x, weights, bias, y, y_row, y_plane):
    channels, row, plane = layer.inputs, layer.input_row, layer.input_plane
    if group == 4:
        tiles.convolve(4, memory, packed, channels, x, row, plane, weights, bias, y, y_row, y_plane)
    elif group == 3:
        tiles.convolve(3, memory, packed, channels, x, row, plane, weights, bias, y, y_row, y_plane)
    elif group == 2:
        tiles.convolve(2, memory, packed, channels, x, row, plane, weights, bias, y, y_row, y_plane)
    else:
        tiles.convolve(1, memory, packed, channels, x, row, plane, weights, bias, y, y_row, y_plane)


@njit(inline="always")
def _convolve_and_choose(group, memory, packed, layer, x, weights, bias, y, choice, places):
    channels, row, plane = layer.inputs, layer.input_row, layer.input_plane
    y_plane, choices = layer.output_plane, layer.choices
    if group == 4:
        tiles.convolve_and_choose(
            4, memory, packed, channels, x, row, plane, weights, bias, y, y_plane, choices, choice, places
        )
    elif group == 3:
        tiles.convolve_and_choose(
            3, memory, packed, channels, x, row, plane, weights, bias, y, y_plane, choices, choice, places
        )
    elif group == 2:
        tiles.convolve_and_choose(
            2, memory, packed, channels, x, row, plane, weights, bias, y, y_plane, choices, choice, places
        )
    else:
        tiles.convolve_and_choose(
            1, memory, packed, channels, x, row, plane, weights, bias, y, y_plane, choices, choice, places
        )


@njit
def average_forward(memory, layer):
    """Average pooling of the layer's map into its output, the activation function before it or not at all."""
    first = layer.activation if layer.activate_first else NO_ACTIVATION
    for o in range(layer.outputs):
        for y in range(layer.pooled_height):
            x = layer.map + o * layer.map_plane + 2 * y * layer.map_row
            at = layer.output + o * layer.output_plane + y * layer.output_row
            if first == SIGMOID:
                tiles.average(SIGMOID, memory, layer.pooled_width, x, layer.map_row, at)
            elif first == TANH:
                tiles.average(TANH, memory, layer.pooled_width, x, layer.map_row, at)
            elif first == RELU:
                tiles.average(RELU, memory, layer.pooled_width, x, layer.map_row, at)
            else:
                tiles.average(NO_ACTIVATION, memory, layer.pooled_width, x, layer.map_row, at)


@njit
def dense_forward(memory, packed, layer):
    """A dense layer without its activation."""
    o = 0
    while o < layer.outputs:
        bias, y = layer.packed_bias + o, layer.output + o * LANES
        if layer.outputs - o >= DENSE_OUTPUTS:
            tiles.dense(DENSE_OUTPUTS, memory, layer.weight, layer.inputs, layer.input, o, packed, bias, y)
            o += DENSE_OUTPUTS
        elif layer.outputs - o >= 4:
            tiles.dense(4, memory, layer.weight, layer.inputs, layer.input, o, packed, bias, y)
            o += 4
        else:
            tiles.dense(1, memory, layer.weight, layer.inputs, layer.input, o, packed, bias, y)
            o += 1


@njit
def forward(memory, packed, layers):
    """One block through all layers."""
    for i in range(layers.size):
        layer = layers[i]
        if layer.kind == DENSE:
            dense_forward(memory, packed, layer)
        else:
            convolution_forward(memory, packed, layer)
        if layer.pooling == AVERAGE_POOLING:
            average_forward(memory, layer)
        if not layer.activate_first:
            activate_output(memory, layer)


# --- loss -------------------------------------------------------------------------------------------------------------


@njit
def loss_and_gradient(memory, layer, scratch, labels, rows, count, totals):
    """Softmax cross-entropy of the block's first `count` images, its gradient, and how many are right.

    `layer` is the last one, whose output gradient is written; lanes from `count` on get gradient 0.
    """
    classes, gradient = layer.outputs, layer.output_gradient
    maxima, sums = scratch, scratch + LANES
    tiles.softmax(memory, classes, layer.output, gradient, maxima, sums)
    for lane in range(LANES):
        label = labels[rows[lane]] if lane < count else 0
        if label < 0 or label >= classes:
            totals[BAD_LABELS] += 1
        elif lane < count:
            logit = memory[layer.output + label * LANES + lane]
            memory[gradient + label * LANES + lane] -= np.float32(1)
            totals[LOSS] += math.log(memory[sums + lane]) + memory[maxima + lane] - logit
            best = logit == memory[maxima + lane]
            for o in range(label):  # of several largest logits the first is the answer, as in argmax
                best = best and memory[layer.output + o * LANES + lane] != logit
            totals[CORRECT] += best
        else:
            for o in range(classes):
                memory[gradient + o * LANES + lane] = 0


# --- backward ---------------------------------------------------------------------------------------------------------


@njit
def activation_backward(memory, layer):
    """Take the output's gradient through the activation after pooling, in place; adds up the bias's gradient."""
    for o in range(layer.outputs):
        bias_sum = layer.bias_sums + o * LANES
        for y in range(layer.pooled_height):
            step = o * layer.output_plane + y * layer.output_row
            value, gradient = layer.output + step, layer.output_gradient + step
            if layer.activation == SIGMOID:
                tiles.activate_backward(SIGMOID, memory, layer.pooled_width, value, gradient, bias_sum)
            elif layer.activation == TANH:
                tiles.activate_backward(TANH, memory, layer.pooled_width, value, gradient, bias_sum)
            elif layer.activation == RELU:
                tiles.activate_backward(RELU, memory, layer.pooled_width, value, gradient, bias_sum)
            else:
                tiles.activate_backward(NO_ACTIVATION, memory, layer.pooled_width, value, gradient, bias_sum)


@njit
def average_backward(memory, layer):
    """The output's gradient -> that of the convolution, in `map`; adds up the bias's gradient."""
    first = layer.activation if layer.activate_first else NO_ACTIVATION
    for o in range(layer.outputs):
        bias_sum = layer.bias_sums + o * LANES if layer.activate_first else layer.unused
        for y in range(layer.pooled_height):
            x = layer.map + o * layer.map_plane + 2 * y * layer.map_row
            gradient = layer.output_gradient + o * layer.output_plane + y * layer.output_row
            if first == SIGMOID:
                tiles.average_backward(SIGMOID, memory, layer.pooled_width, x, layer.map_row, gradient, bias_sum)
            elif first == TANH:
                tiles.average_backward(TANH, memory, layer.pooled_width, x, layer.map_row, gradient, bias_sum)
            elif first == RELU:
                tiles.average_backward(RELU, memory, layer.pooled_width, x, layer.map_row, gradient, bias_sum)
            else:
                tiles.average_backward(NO_ACTIVATION, memory, layer.pooled_width, x, layer.map_row, gradient, bias_sum)


@njit
def choose_backward(memory, layer):
    """The output's gradient -> that of the convolution, in `map`, at the pixels max pooling chose."""
    for o in range(layer.outputs):
        for y in range(layer.pooled_height):
            choice = (o * layer.pooled_height + y) * layer.pooled_width * LANES
            x = layer.map + o * layer.map_plane + 2 * y * layer.map_row
            gradient = layer.output_gradient + o * layer.output_plane + y * layer.output_row
            tiles.choose_backward(memory, layer.pooled_width, gradient, layer.choices, choice, x, layer.map_row)


@njit
def weight_gradient(memory, layer):
    """Add the block's gradient of a convolution's weights to `weight_sums`: (outputs, inputs, 25, LANES)."""
    places = layer.pooled_height * layer.pooled_width * LANES
    for o in range(layer.outputs):
        for channel in range(layer.inputs):
            x = layer.input + channel * layer.input_plane
            sums = layer.weight_sums + (o * layer.inputs + channel) * (K * K * LANES)
            if layer.pooling == MAX_POOLING:
                tiles.weight_gradient_of_chosen(
                    memory,
                    x,
                    layer.input_row,
                    layer.output_gradient + o * layer.output_plane,
                    layer.output_row,
                    layer.choices,
                    o * places,
                    layer.pooled_height,
                    layer.pooled_width,
                    sums,
                )
            else:
                pooled = layer.pooling == AVERAGE_POOLING
                gradient = (
                    layer.map + o * layer.map_plane if pooled else layer.output_gradient + o * layer.output_plane
                )
                row = layer.map_row if pooled else layer.output_row
                tiles.weight_gradient(memory, x, layer.input_row, gradient, row, layer.height, layer.width, sums)


@njit
def convolution_input_gradient(memory, layer):
    """The gradient of a convolution's padded input from that of its output (its `map`, if it has pooling)."""
    pooled = layer.pooling != NO_POOLING
    gradient = layer.map if pooled else layer.output_gradient
    row = layer.map_row if pooled else layer.output_row
    plane = layer.map_plane if pooled else layer.output_plane
    memory[layer.input_gradient : layer.input_gradient + layer.input_size] = 0
    step = layer.inputs * K * K
    for y in range(layer.height + K - 1):
        first, stop = max(0, y - layer.height + 1), min(K, y + 1)
        channel = 0
        while channel < layer.inputs:
            x_gradient = layer.input_gradient + channel * layer.input_plane + y * layer.input_row
            pair = channel + 1 < layer.inputs
            column = 0
            while column < layer.width:
                at, target = gradient + y * row + column * LANES, x_gradient + column * LANES
                wide = column + 8 <= layer.width
                if wide and pair:
                    tiles.input_gradient(
                        8, 2, memory, layer.weight, channel * K * K, step, layer.outputs, first, stop,
                        at, row, plane, target, layer.input_plane,
                    )  # fmt: skip
                elif wide:
                    tiles.input_gradient(
                        8, 1, memory, layer.weight, channel * K * K, step, layer.outputs, first, stop,
                        at, row, plane, target, layer.input_plane,
                    )  # fmt: skip
                elif pair:
                    tiles.input_gradient(
                        1, 2, memory, layer.weight, channel * K * K, step, layer.outputs, first, stop,
                        at, row, plane, target, layer.input_plane,
                    )  # fmt: skip
                else:
                    tiles.input_gradient(
                        1, 1, memory, layer.weight, channel * K * K, step, layer.outputs, first, stop,
                        at, row, plane, target, layer.input_plane,
                    )  # fmt: skip
                column += 8 if wide else 1
            channel += 2 if pair else 1


@njit
def dense_backward(memory, layer):
    """Weight, bias and input gradients of a dense layer from the gradient of its output before the activation."""
    gradient_row = _up(layer.outputs)
    input_row = _up(layer.inputs)
    for first in range(0, layer.outputs, LANES):
        source, target = layer.output_gradient + first * LANES, layer.transposed_gradient + first
        tiles.transpose(memory, source, LANES, target, gradient_row)
    for first in range(0, layer.inputs, LANES):
        source, target = layer.input + first * LANES, layer.transposed_input + first
        tiles.transpose(memory, source, LANES, target, input_row)
    for o in range(0, layer.outputs, GRADIENT_OUTPUTS):
        gradient, sums = layer.transposed_gradient + o, layer.weight_sums + o * layer.sums_row
        i = 0
        while i < layer.inputs:
            if input_row - i >= GRADIENT_VECTORS * LANES:
                tiles.dense_weight_gradient(
                    GRADIENT_OUTPUTS, GRADIENT_VECTORS, memory, gradient, gradient_row,
                    layer.transposed_input + i, input_row, sums + i, layer.sums_row,
                )  # fmt: skip
                i += GRADIENT_VECTORS * LANES
            else:
                tiles.dense_weight_gradient(
                    GRADIENT_OUTPUTS, 1, memory, gradient, gradient_row,
                    layer.transposed_input + i, input_row, sums + i, layer.sums_row,
                )  # fmt: skip
                i += LANES
    if layer.input_gradient >= 0:
        i = 0
        while i < layer.inputs:
            target = layer.input_gradient + i * LANES
            if layer.inputs - i >= DENSE_INPUTS:
                tiles.dense_input_gradient(
                    DENSE_INPUTS, memory, layer.weight, layer.inputs, layer.outputs, i, layer.output_gradient, target
                )
                i += DENSE_INPUTS
            elif layer.inputs - i >= 4:
                tiles.dense_input_gradient(
                    4, memory, layer.weight, layer.inputs, layer.outputs, i, layer.output_gradient, target
                )
                i += 4
            else:
                tiles.dense_input_gradient(
                    1, memory, layer.weight, layer.inputs, layer.outputs, i, layer.output_gradient, target
                )
                i += 1


@njit(inline="always")
def _up(count):
    """`count`, rounded up to whole vectors."""
    return (count + LANES - 1) // LANES * LANES


@njit
def backward(memory, layers):
    """One block back through all layers, from the last one's output gradient; adds to the gradients' sums."""
    for i in range(layers.size - 1, -1, -1):
        layer = layers[i]
        if not layer.activate_first:
            activation_backward(memory, layer)
        if layer.pooling == AVERAGE_POOLING:
            average_backward(memory, layer)
        if layer.kind == DENSE:
            dense_backward(memory, layer)
        else:
            weight_gradient(memory, layer)
            if layer.input_gradient >= 0:
                if layer.pooling == MAX_POOLING:
                    choose_backward(memory, layer)
                convolution_input_gradient(memory, layer)


# --- all of it --------------------------------------------------------------------------------------------------------

# One row: what `run` reads beside the layers.
BATCH = np.dtype(
    [
        (name, np.int64)
        for name in (
            "images",  # address of the first image
            "is_float",  # 1: float32 images; 0: uint8, to be divided by 255
            "num_images",
            "channels",  # of an image
            "height",
            "width",
            "train",  # 1: gradients too
            "count",  # 1: labels are given, so the loss and the correct answers are counted
            "sums_size",  # floats at the start of a thread's memory that are gradient sums
            "staging",  # place of a block's images before padding
            "scratch",  # place of two vectors
            "first_pixel",  # of the unpadded image in the first layer's input
        )
    ]
)


@njit
def run_block(memory, packed, layers, batch, starts, labels, rows, count, logits, totals):
    """The `count` images `rows` of a block through the net, forward and, if `batch.train`, backward."""
    for lane in range(LANES):  # lanes that are left over repeat the first image, and count for nothing
        row = rows[lane] if lane < count else rows[0]
        if row < 0 or row >= batch.num_images:
            totals[BAD_ROWS] += 1
            return
        starts[lane] = row * (batch.channels * batch.height * batch.width)
    first, last = layers[0], layers[layers.size - 1]
    pixels = batch.channels * batch.height * batch.width
    read_images(memory, batch.images, batch.is_float, starts, pixels, batch.staging)
    if batch.staging != first.input:
        target = batch.first_pixel
        copy_map(
            memory, batch.staging, target, batch.channels, batch.height, batch.width, first.input_row, first.input_plane
        )
    forward(memory, packed, layers)
    if logits.shape[0] > 0:
        for lane in range(count):
            for o in range(last.outputs):
                logits[lane, o] = memory[last.output + o * LANES + lane]
    if batch.count:
        loss_and_gradient(memory, last, batch.scratch, labels, rows, count, totals)
    if batch.train:
        backward(memory, layers)


@njit
def sum_lanes(memory, layers):
    """Add up the lanes of one thread's sums, in place: vectors become floats."""
    for i in range(layers.size):
        layer = layers[i]
        for first in range(0, layer.outputs, LANES):
            tiles.sum_lanes(memory, layer.bias_sums + first * LANES, layer.bias_sums + first)
        if layer.kind == CONVOLUTION:
            for first in range(0, layer.outputs * layer.inputs * K * K, LANES):
                tiles.sum_lanes(memory, layer.weight_sums + first * LANES, layer.weight_sums + first)


@njit
def add_threads(memory, start, gradient):
    """gradient = the sum over the threads of what is in their memory from `start` on."""
    for j in range(gradient.size):
        gradient[j] = memory[0, start + j]
    for thread in range(1, memory.shape[0]):
        for j in range(gradient.size):
            gradient[j] += memory[thread, start + j]


@njit
def write_gradients(memory, layers):
    """Add up the threads' sums, thread by thread, into MXNet's gradient arrays."""
    for i in range(layers.size):
        layer = layers[i]
        if layer.bias_gradient != 0:
            add_threads(memory, layer.bias_sums, floats_at(layer.bias_gradient, layer.outputs))
        if layer.weight_gradient != 0:
            taps = layer.inputs * (K * K if layer.kind == CONVOLUTION else 1)
            for o in range(layer.outputs):
                row = layer.weight_gradient + o * taps * 4
                add_threads(memory, layer.weight_sums + o * layer.sums_row, floats_at(row, taps))


@njit(parallel=True, nogil=True, cache=True)
def run(memory, packed, layers, batches, labels, rows, logits, starts, totals):
    """A batch of images through the net.

    Args:
        memory: float32 (threads, size), the threads' maps and sums.
        packed: float32, room for the packed weights.
        layers: the table of layers, LAYER.
        batches: one BATCH.
        labels: int32, one an image of the data set.
        rows: int64 (b,), the numbers of the batch's images in the data set.
        logits: float32 (b, classes), to be written; or (0, classes).
        starts: int64 (threads, LANES), room.
        totals: float64 (threads, 4), where LOSS, CORRECT and the numbers of bad labels and rows are written.
    """
    threads = memory.shape[0]
    blocks = (rows.size + LANES - 1) // LANES
    pack(layers, packed)
    totals[:] = 0
    for thread in prange(threads):
        mine, batch = memory[thread], batches[0]
        if batch.train:
            mine[: batch.sums_size] = 0
        for block in range(thread * blocks // threads, (thread + 1) * blocks // threads):
            start = block * LANES
            stop = min(rows.size, start + LANES)
            run_block(
                mine, packed, layers, batch, starts[thread], labels, rows[start:stop], stop - start,
                logits[start:stop], totals[thread],
            )  # fmt: skip
        if batch.train:
            sum_lanes(mine, layers)
    if batches[0].train and totals[:, BAD_LABELS:].sum() == 0:
        write_gradients(memory, layers)
