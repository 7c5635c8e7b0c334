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
from llvmlite import ir
from numba import carray, from_dtype, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from gluon_lenet.engines.fused import tiles
from gluon_lenet.engines.fused.activations import NO_ACTIVATION
from gluon_lenet.engines.fused.tiles import (
    CHANNELS,
    CHOSEN_CHANNELS,
    COLUMNS,
    DENSE_INPUTS,
    DENSE_OUTPUTS,
    GRADIENT_OUTPUTS,
    GRADIENT_VECTORS,
    OUTPUTS,
    Chosen,
    K,
    Kernels,
    Map,
)
from gluon_lenet.engines.fused.vectors import LANES

CONVOLUTION, DENSE, DISTANCES = range(3)
NO_POOLING, MAX_POOLING, SUM_POOLING = range(3)

# A layer: a convolution, a dense layer or distances to fixed centres, with the pooling and the activations that follow.
# Sizes are numbers of
# elements; places are offsets in a thread's row of `memory`, in floats; rows and planes are distances there, in floats.
LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            "kind",  # CONVOLUTION, DENSE or DISTANCES
            "map_activation",  # before SUM_POOLING: a number in `activations.ACTIVATIONS`
            "pooling",  # NO_POOLING, MAX_POOLING or SUM_POOLING (times a coefficient, plus a bias), of 2x2
            "activation",  # after pooling
            "inputs",  # channels of a convolution, neurons of another layer
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
            # the convolution's own output before SUM_POOLING; in the backward pass its gradient
            "map",
            "map_row",
            "map_plane",
            "choices",  # the pixels max pooling chose: bytes (outputs, pooled_height, pooled_width, LANES)
            # the gradients' sums over images; -1 for what a layer does not have
            "weight_sums",  # the shape depends on the kind
            "bias_sums",  # (outputs, LANES), and so the next two
            "coefficient_sums",
            "pool_bias_sums",
            "output_bias_sums",  # where the gradient before `activation` is added up; -1 if there is nothing to do
            "transposed_input",  # dense: (LANES, columns rounded up to LANES)
            "transposed_gradient",
            "sums_row",  # dense: length of a row of weight_sums
            # copies of the parameters, a thread its own
            "packed_weight",  # convolution: (groups of OUTPUTS[0] or the rest, inputs, 5, 5, outputs of the group)
            "tables",  # max pooling: (outputs, inputs, 6, 16), see tiles.input_gradient_of_chosen
            "packed_bias",  # zeros without a bias
            "packed_coefficient",  # SUM_POOLING: (outputs,), 1/4 each for average pooling
            "packed_pool_bias",
            # addresses of MXNet's arrays; 0 where there is none
            "weight",  # of DISTANCES: the centres
            "bias",
            "coefficient",
            "pool_bias",
            "weight_gradient",
            "bias_gradient",
            "coefficient_gradient",
            "pool_bias_gradient",
            "connected",  # address of uint8 (outputs, inputs): 0 for pairs of maps without weights; 0 if all have them
        )
    ]
)

# Columns of `totals`, one row a share.
LOSS, CORRECT, BAD_LABELS, BAD_ROWS, BAD_WEIGHTS = range(5)
TOTALS = 5


FLOAT32, FLOAT64, UINT8, INT32, INT64 = types.float32, types.float64, types.uint8, types.int32, types.int64
LAYERS = from_dtype(LAYER)


@intrinsic
def _pointer(typing_context, element, address):
    """An int64 as a pointer to elements of a Numba type."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[1], context.get_value_type(signature.return_type))

    return types.CPointer(element.instance_type)(element, types.int64), generate


@njit
def at_address(element, address, count):
    """The `count` elements at an address, as an array."""
    return carray(_pointer(element, address), (count,))


@intrinsic
def count_up(typing_context, counters, number):
    """The int64 `number` of those at an address, which is then one more; no two threads get the same."""

    def generate(context, builder, signature, arguments):
        int64 = context.get_value_type(types.int64)
        pointer = builder.gep(builder.inttoptr(arguments[0], int64.as_pointer()), [arguments[1]])
        return builder.atomic_rmw("add", pointer, int64(1), "acq_rel")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def count_of(typing_context, counters, number):
    """The int64 `number` of those at an address, as other threads have left it; takes a moment, so as not to hinder."""

    def generate(context, builder, signature, arguments):
        int64 = context.get_value_type(types.int64)
        pointer = builder.gep(builder.inttoptr(arguments[0], int64.as_pointer()), [arguments[1]])
        if "x86" in builder.module.triple:
            pause = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause"
            )
            builder.call(pause, [])
        return builder.load_atomic(pointer, ordering="acquire", align=8)

    return types.int64(types.int64, types.int64), generate


# --- maps of a layer --------------------------------------------------------------------------------------------------


@njit
def moved(start, channel, y, x):
    """A `Map` from another of its pixels on."""
    return Map(start.at + channel * start.plane + y * start.row + x * LANES, start.row, start.plane)


@njit
def input_map(layer):
    """The layer's padded input."""
    return Map(layer.input, layer.input_row, layer.input_plane)


@njit
def convolved(layer):
    """What a convolution writes: its own output if it has SUM_POOLING, else the layer's."""
    if layer.pooling == SUM_POOLING:
        return Map(layer.map, layer.map_row, layer.map_plane)
    return Map(layer.output, layer.output_row, layer.output_plane)


@njit
def convolved_gradient(layer):
    """The gradient of what a convolution writes."""
    if layer.pooling == SUM_POOLING:
        return Map(layer.map, layer.map_row, layer.map_plane)
    return Map(layer.output_gradient, layer.output_row, layer.output_plane)


@njit
def chosen(layer, channel, y, x):
    """What max pooling chose in a channel, from window (y, x) on."""
    places = layer.pooled_height * layer.pooled_width * LANES
    return Chosen(layer.choices, channel * places + (y * layer.pooled_width + x) * LANES, places)


# --- forward ----------------------------------------------------------------------------------------------------------


@njit
def pack(memory, layers):
    """Copy convolution weights into the order `tiles.convolve` reads them in, and what each output has one of."""
    for i in range(layers.size):
        layer = layers[i]
        copy_numbers(memory, layer.bias, layer.outputs, layer.packed_bias)
        if layer.pooling == SUM_POOLING:
            for o in range(layer.outputs):
                memory[layer.packed_coefficient + o] = 0.25
            copy_numbers(memory, layer.coefficient, layer.outputs, layer.packed_coefficient)
            copy_numbers(memory, layer.pool_bias, layer.outputs, layer.packed_pool_bias)
        if layer.kind == CONVOLUTION:
            taps = layer.inputs * K * K
            weights = at_address(FLOAT32, layer.weight, layer.outputs * taps)
            first = 0
            while first < layer.outputs:
                group = fitting(OUTPUTS, layer.outputs - first)
                start = layer.packed_weight + first * taps
                for o in range(group):
                    for tap in range(taps):
                        memory[start + tap * group + o] = weights[(first + o) * taps + tap]
                first += group
            if layer.pooling == MAX_POOLING and layer.input_gradient >= 0:
                for kernel in range(layer.outputs * layer.inputs):
                    table = layer.tables + kernel * tiles.TABLE
                    for ky in range(K):
                        for kx in range(K):
                            weight = weights[(kernel * K + ky) * K + kx]
                            memory[table + ky * 16 + 1 + kx] = weight
                            memory[table + (ky + 1) * 16 + 9 + kx] = weight


@njit
def fitting(sizes, left):
    """The largest of a tile's sizes, in descending order down to 1, that is at most `left`, which is at least 1."""
    for size in sizes:
        if size <= left:
            return size
    return 1


@njit
def copy_numbers(memory, address, count, target):
    """`count` floats from an address, if it is not 0, to target."""
    if address != 0:
        numbers = at_address(FLOAT32, address, count)
        for i in range(count):
            memory[target + i] = numbers[i]


@njit
def read_images(memory, task, starts, pixels):
    """Gather LANES images of `pixels` floats or bytes, which begin at `starts`: (pixels, LANES) at `staging`."""
    mean, std = np.float32(task.mean), np.float32(task.std)
    for first in range(0, pixels, LANES):
        pixel = min(first, pixels - LANES)  # the last LANES pixels may overlap those before
        target = task.staging + pixel * LANES
        if task.is_float:
            tiles.gather_floats(memory, task.images, starts, pixel, target)
        else:
            tiles.gather_bytes(memory, task.images, starts, pixel, target, mean, std)


@njit
def fill(memory, start, count, number):
    """Write a number `count` times."""
    part = memory[start : start + count]  # an index into a part is never negative, so LLVM can use vectors
    for i in range(count):
        part[i] = number


@njit
def pad_images(memory, task):
    """Write the background wherever the images, with `pad` pixels around them, will be in the first layer's input."""
    height, length = task.height + 2 * task.pad, (task.width + 2 * task.pad) * LANES
    for channel in range(task.channels):
        for y in range(height):
            at = task.first_pixel + channel * task.image_plane + y * task.image_row
            fill(memory, at, length, -np.float32(task.mean) / np.float32(task.std))


@njit
def copy_map(memory, source, target, channels, height, width, row, plane):
    """(channels, height, width, LANES), close together -> the same inside a padded map."""
    length = width * LANES
    for channel in range(channels):
        for y in range(height):
            at = target + channel * plane + y * row
            to, line = memory[at : at + length], memory[source : source + length]
            for i in range(length):
                to[i] = line[i]
            source += length


@njit
def activate_output(memory, layer):
    """Apply the activation function to the layer's output, in place."""
    if layer.activation != NO_ACTIVATION:
        for o in range(layer.outputs):
            for y in range(layer.pooled_height):
                at = layer.output + o * layer.output_plane + y * layer.output_row
                tiles.activate(layer.activation, memory, layer.pooled_width, at)


@njit
def convolution_forward(memory, layer):
    """Convolution, then max pooling, or neither: from the layer's input to its output or its `map`."""
    taps = layer.inputs * K * K
    image, result = input_map(layer), convolved(layer)
    for y in range(0, layer.height, 2):
        y = min(y, layer.height - 2)  # the last window may overlap the one before
        for x in range(0, layer.width, 2):
            x = min(x, layer.width - 2)
            field = moved(image, 0, y, x)
            o = 0
            while o < layer.outputs:
                weights, bias = layer.packed_weight + o * taps, layer.packed_bias + o
                group = fitting(OUTPUTS, layer.outputs - o)
                if layer.pooling == MAX_POOLING:
                    pixel, choices = moved(result, o, y // 2, x // 2), chosen(layer, o, y // 2, x // 2)
                    tiles.convolve_and_choose(group, memory, layer.inputs, field, weights, bias, pixel, choices)
                else:
                    tiles.convolve(group, memory, layer.inputs, field, weights, bias, moved(result, o, y, x))
                o += group


@njit
def subsample_forward(memory, layer):
    """Activation, then sums of 2x2 times a coefficient plus a bias: from the layer's map into its output."""
    for o in range(layer.outputs):
        coefficient, bias = layer.packed_coefficient + o, layer.packed_pool_bias + o
        for y in range(layer.pooled_height):
            x = layer.map + o * layer.map_plane + 2 * y * layer.map_row
            at = layer.output + o * layer.output_plane + y * layer.output_row
            count, row = layer.pooled_width, layer.map_row
            tiles.subsample(layer.map_activation, memory, count, x, row, coefficient, bias, at)


@njit
def dense_forward(memory, layer):
    """A dense layer without its activation."""
    o = 0
    while o < layer.outputs:
        bias, y = layer.packed_bias + o, layer.output + o * LANES
        group = fitting(DENSE_OUTPUTS, layer.outputs - o)
        tiles.dense(group, memory, layer.weight, layer.inputs, layer.input, o, bias, y)
        o += group


@njit(inline="always")
def forward(memory, layer):
    """One block through a layer."""
    if layer.kind == DENSE:
        dense_forward(memory, layer)
    elif layer.kind == DISTANCES:
        tiles.distances(memory, layer.weight, layer.inputs, layer.outputs, layer.input, layer.output)
    else:
        convolution_forward(memory, layer)
    if layer.pooling == SUM_POOLING:
        subsample_forward(memory, layer)
    activate_output(memory, layer)


# --- loss -------------------------------------------------------------------------------------------------------------


@njit
def loss_and_gradient(memory, layer, scratch, rubbish, labels, rows, count, totals):
    """Softmax cross-entropy of the block's first `count` images, its gradient, and how many are right.

    `rubbish` is the logit of a class more than there are labels, as in the loss of 1998 (`losses.MAPLoss`).
    `layer` is the last one, whose output gradient is written; lanes from `count` on get gradient 0.
    """
    classes, gradient = layer.outputs, layer.output_gradient
    largest, shift, total = scratch, scratch + LANES, scratch + 2 * LANES
    tiles.softmax(memory, classes, np.float32(rubbish), layer.output, gradient, largest, shift, total)
    for lane in range(LANES):
        label = labels[rows[lane]] if lane < count else 0
        if label < 0 or label >= classes:
            totals[BAD_LABELS] += 1
        elif lane < count:
            logit = memory[layer.output + label * LANES + lane]
            memory[gradient + label * LANES + lane] -= np.float32(1)
            totals[LOSS] += math.log(memory[total + lane]) + memory[shift + lane] - logit
            best = logit == memory[largest + lane]
            for o in range(label):  # of several largest logits the first is the answer, as in argmax
                best = best and memory[layer.output + o * LANES + lane] != logit
            totals[CORRECT] += best
        else:
            for o in range(classes):
                memory[gradient + o * LANES + lane] = 0


# --- backward ---------------------------------------------------------------------------------------------------------


@njit
def activation_backward(memory, layer):
    """Take the output's gradient through the activation after pooling, in place; adds up a bias's gradient."""
    for o in range(layer.outputs):
        bias_sum = layer.output_bias_sums + o * LANES
        for y in range(layer.pooled_height):
            step = o * layer.output_plane + y * layer.output_row
            value, gradient = layer.output + step, layer.output_gradient + step
            tiles.activate_backward(layer.activation, memory, layer.pooled_width, value, gradient, bias_sum)


@njit
def subsample_backward(memory, layer):
    """The output's gradient -> that of the convolution, in `map`; adds up the gradients of bias and coefficient."""
    for o in range(layer.outputs):
        coefficient, bias_sum = layer.packed_coefficient + o, layer.bias_sums + o * LANES
        for y in range(layer.pooled_height):
            x = layer.map + o * layer.map_plane + 2 * y * layer.map_row
            gradient = layer.output_gradient + o * layer.output_plane + y * layer.output_row
            count, row = layer.pooled_width, layer.map_row
            if layer.coefficient_gradient != 0:
                tiles.coefficient_gradient(memory, count, x, row, gradient, layer.coefficient_sums + o * LANES)
            tiles.subsample_backward(layer.map_activation, memory, count, x, row, coefficient, gradient, bias_sum)


@njit
def weight_gradient(memory, layer):
    """Add the block's gradient of a convolution's weights to `weight_sums`: (outputs, inputs, 25)."""
    image, gradient = input_map(layer), convolved_gradient(layer)
    connected = at_address(UINT8, layer.connected, layer.outputs * layer.inputs)
    for channel in range(layer.inputs):  # outermost, so that its map stays in the cache
        x = moved(image, channel, 0, 0)
        for o in range(layer.outputs):
            if layer.connected != 0 and connected[o * layer.inputs + channel] == 0:
                continue
            sums, dy = layer.weight_sums + (o * layer.inputs + channel) * (K * K), moved(gradient, o, 0, 0)
            if layer.pooling == MAX_POOLING:
                height, width = layer.pooled_height, layer.pooled_width
                tiles.weight_gradient_of_chosen(memory, x, dy, chosen(layer, o, 0, 0), height, width, sums)
            else:
                tiles.weight_gradient(memory, x, dy, layer.height, layer.width, sums)


@njit
def input_gradient(memory, layer):
    """Add to the gradient of a convolution's padded input, from that of its output, or `map` before SUM_POOLING."""
    for y in range(layer.height + K - 1):
        channel = 0
        while channel < layer.inputs:
            group = fitting(CHANNELS, layer.inputs - channel) if layer.connected == 0 else 1
            first, stop = connected_outputs(layer, channel, 0)
            while first < stop:
                input_row_gradient(memory, layer, channel, group, first, stop - first, y)
                first, stop = connected_outputs(layer, channel, stop)
            channel += group


@njit
def connected_outputs(layer, channel, start):
    """The first outputs side by side, from `start` on, that an input channel has weights to: number, number after."""
    first, stop = start, layer.outputs
    if layer.connected != 0:
        connected = at_address(UINT8, layer.connected, layer.outputs * layer.inputs)
        while first < layer.outputs and connected[first * layer.inputs + channel] == 0:
            first += 1
        stop = first
        while stop < layer.outputs and connected[stop * layer.inputs + channel] != 0:
            stop += 1
    return first, stop


@njit(inline="always")
def input_row_gradient(memory, layer, channel, group, output, outputs, y):
    """What some outputs add to the gradient of row y of a group of input channels."""
    gradient = moved(convolved_gradient(layer), output, y, 0)
    target = moved(Map(layer.input_gradient, layer.input_row, layer.input_plane), channel, y, 0)
    first, stop = max(0, y - layer.height + 1), min(K, y + 1)  # rows of the kernel that lie within the output
    step = layer.inputs * K * K
    kernels = Kernels(layer.weight, output * step + channel * K * K, step)
    x = 0
    while x < layer.width:
        columns = fitting(COLUMNS, layer.width - x)
        dy, dx = moved(gradient, 0, 0, x), moved(target, 0, 0, x)
        tiles.input_gradient(columns, group, memory, kernels, outputs, first, stop, dy, dx)
        x += columns


@njit
def chosen_input_gradient(memory, layer):
    """As `input_gradient`, behind max pooling."""
    gradient, target = convolved_gradient(layer), Map(layer.input_gradient, layer.input_row, layer.input_plane)
    channel, step = 0, layer.inputs * tiles.TABLE
    while channel < layer.inputs:
        group = fitting(CHOSEN_CHANNELS, layer.inputs - channel)
        for i in range(K + 1):
            table = layer.tables + channel * tiles.TABLE + i * 16
            for y in range(layer.pooled_height):
                for x in range(layer.pooled_width):
                    dy, dx = moved(gradient, 0, y, x), moved(target, channel, 2 * y + i, 2 * x)
                    choices = chosen(layer, 0, y, x)
                    tiles.input_gradient_of_chosen(group, memory, layer.outputs, dy, choices, table, step, dx)
        channel += group


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
            vectors = fitting(GRADIENT_VECTORS, (input_row - i) // LANES)
            tiles.dense_weight_gradient(
                vectors, memory, gradient, gradient_row, layer.transposed_input + i, input_row, sums + i, layer.sums_row
            )
            i += vectors * LANES
    if layer.input_gradient >= 0:
        i = 0
        while i < layer.inputs:
            group, target = fitting(DENSE_INPUTS, layer.inputs - i), layer.input_gradient + i * LANES
            tiles.dense_input_gradient(
                group, memory, layer.weight, layer.inputs, layer.outputs, i, layer.output_gradient, target
            )
            i += group


@njit
def distances_backward(memory, layer):
    """The gradient of the inputs of distances; the centres are fixed."""
    if layer.input_gradient >= 0:
        tiles.distances_backward(
            memory, layer.weight, layer.inputs, layer.outputs, layer.input, layer.output_gradient, layer.input_gradient
        )


@njit(inline="always")
def _up(count):
    """`count`, rounded up to whole vectors."""
    return (count + LANES - 1) // LANES * LANES


@njit(inline="always")
def backward(memory, layer):
    """One block back through a layer, from its output's gradient to its input's; adds to the gradients' sums."""
    if layer.output_bias_sums >= 0:
        activation_backward(memory, layer)
    if layer.pooling == SUM_POOLING:
        subsample_backward(memory, layer)
    if layer.kind == DENSE:
        dense_backward(memory, layer)
    elif layer.kind == DISTANCES:
        distances_backward(memory, layer)
    else:
        weight_gradient(memory, layer)
        if layer.input_gradient >= 0:
            fill(memory, layer.input_gradient, layer.input_size, np.float32(0))
            if layer.pooling == MAX_POOLING:
                chosen_input_gradient(memory, layer)
            else:
                input_gradient(memory, layer)


# --- all of it --------------------------------------------------------------------------------------------------------

# One row: what the threads are to do.
TASK = np.dtype(
    [
        (name, np.int64)
        for name in (
            "kind",  # RUN or UPDATE
            "counters",  # address of int64 (3,): TAKEN, DONE, WRITTEN; zeros
            "shares",  # in how many shares the work is divided
            "memory",  # address of float32 (shares, size)
            "size",
            "sums_size",  # floats at the start of a share's memory that are gradient sums
            "scratch",  # place of three vectors
            "layers",  # address of the table of layers
            "num_layers",
            "images",  # address of the first image
            "is_float",  # 1: float32 images, as the net is fed; 0: uint8, which become (pixel / 255 - mean) / std
            "num_images",
            "channels",  # of an image
            "height",
            "width",
            "pad",  # pixels of background to put around it
            "staging",  # where a block's images are put first: the first layer's input, if they fill it
            "first_pixel",  # of the images, with the background around them, in the first layer's input
            "image_row",  # there
            "image_plane",
            "rows",  # address of int64 (batch,): the numbers of the batch's images
            "batch",
            "labels",  # address of int32 (num_images,); 0 if there are none, so nothing is counted
            "logits",  # address of float32 (batch, classes), to be written; or 0
            "starts",  # address of int64 (shares, LANES), room
            "totals",  # address of float64 (shares, TOTALS), to be written
            "train",  # 1: gradients too
            # only for UPDATE, which needs none of the above but kind, counters, shares and totals
            "rule",  # SGD, MOMENTUM or ADAM
            "parameters",  # address of the table `rules.PARAMETER`
            "num_parameters",
        )
    ]
    + [
        (name, np.float64)
        for name in (
            "mean",
            "std",
            "rubbish",  # logit of the loss's extra class
            # for UPDATE
            "rescale",  # what the gradients are multiplied by
            "momentum",
            "beta1",
            "beta2",
            "epsilon",
        )
    ]
)
RUN, UPDATE = range(2)
TAKEN, DONE, WRITTEN = range(3)  # shares that threads have begun, that are done, and whose gradients are being written
COUNTERS = 3


@njit(inline="always")
def run_block(memory, layers, task, starts, rows, count, totals):
    """The `count` images `rows` of a block through the net, forward and, if `task.train`, backward."""
    pixels = task.channels * task.height * task.width
    for lane in range(LANES):  # lanes that are left over repeat the first image, and count for nothing
        row = rows[lane] if lane < count else rows[0]
        if row < 0 or row >= task.num_images:
            totals[BAD_ROWS] += 1
            return
        starts[lane] = row * pixels
    first, last = layers[0], layers[layers.size - 1]
    read_images(memory, task, starts, pixels)
    if task.staging != first.input:
        target = task.first_pixel + task.pad * (task.image_row + LANES)
        copy_map(memory, task.staging, target, task.channels, task.height, task.width, task.image_row, task.image_plane)
    for i in range(layers.size):
        forward(memory, layers[i])
    if task.labels != 0:
        labels = at_address(INT32, task.labels, task.num_images)
        loss_and_gradient(memory, last, task.scratch, task.rubbish, labels, rows, count, totals)
    if task.train:
        for i in range(layers.size - 1, -1, -1):
            backward(memory, layers[i])


@njit
def sum_lanes(memory, layers):
    """Add up the lanes of what each output has one sum of, in place: vectors become floats."""
    for i in range(layers.size):
        layer = layers[i]
        for sums in (layer.bias_sums, layer.coefficient_sums, layer.pool_bias_sums):
            if sums >= 0:
                for first in range(0, layer.outputs, LANES):
                    tiles.sum_lanes(memory, sums + first * LANES, sums + first)


@njit
def write_gradients(task, layers, share):
    """Add up the shares' sums, one after the other, into MXNet's gradient arrays; each share a part of every array."""
    memories = at_address(FLOAT32, task.memory, task.shares * task.size)
    for i in range(layers.size):
        layer = layers[i]
        if share == 0:
            add_threads(memories, task, layer.bias_sums, layer.bias_gradient, layer.outputs)
            add_threads(memories, task, layer.coefficient_sums, layer.coefficient_gradient, layer.outputs)
            add_threads(memories, task, layer.pool_bias_sums, layer.pool_bias_gradient, layer.outputs)
        if layer.weight_gradient != 0:
            length = layer.inputs * (K * K if layer.kind == CONVOLUTION else 1)
            for o in range(share * layer.outputs // task.shares, (share + 1) * layer.outputs // task.shares):
                start, target = layer.weight_sums + o * layer.sums_row, layer.weight_gradient + o * length * 4
                add_threads(memories, task, start, target, length)


@njit
def add_threads(memories, task, start, address, length):
    """The sum over the threads of `length` floats from `start` on in their memory -> an address, if it is not 0."""
    if address != 0:
        gradient = at_address(FLOAT32, address, length)
        part = memories[start : start + length]
        for i in range(length):
            gradient[i] = part[i]
        for thread in range(1, task.shares):
            part = memories[thread * task.size + start : thread * task.size + start + length]
            for i in range(length):
                gradient[i] += part[i]


@njit(inline="always")
def run_share(task, layers, share):
    """A share of the batch's blocks, a contiguous part, through the net."""
    memory = at_address(FLOAT32, task.memory + share * task.size * 4, task.size)
    starts = at_address(INT64, task.starts + share * LANES * 8, LANES)
    totals = at_address(FLOAT64, task.totals + share * TOTALS * 8, TOTALS)
    rows = at_address(INT64, task.rows, task.batch)
    for i in range(totals.size):
        totals[i] = 0
    pack(memory, layers)
    if task.train:
        fill(memory, 0, task.sums_size, np.float32(0))
    if task.pad > 0:
        pad_images(memory, task)
    blocks = (task.batch + LANES - 1) // LANES
    last = layers[layers.size - 1]
    for block in range(share * blocks // task.shares, (share + 1) * blocks // task.shares):
        start = block * LANES
        count = min(LANES, task.batch - start)
        run_block(memory, layers, task, starts, rows[start : start + count], count, totals)
        if task.logits != 0:
            logits = at_address(FLOAT32, task.logits + start * last.outputs * 4, count * last.outputs)
            for lane in range(count):
                for o in range(last.outputs):
                    logits[lane * last.outputs + o] = memory[last.output + o * LANES + lane]
    if task.train:
        sum_lanes(memory, layers)


@njit(inline="always")
def run(task):
    """A thread's part of RUN: whole shares of the batch, then whole shares of the gradients."""
    layers = at_address(LAYERS, task.layers, task.num_layers)
    share = count_up(task.counters, TAKEN)
    while share < task.shares:
        run_share(task, layers, share)
        count_up(task.counters, DONE)
        share = count_up(task.counters, TAKEN)
    if task.train:
        while count_of(task.counters, DONE) < task.shares:  # other threads are at it
            pass
        totals = at_address(FLOAT64, task.totals, task.shares * TOTALS)
        for share in range(task.shares):
            if totals[share * TOTALS + BAD_LABELS] > 0 or totals[share * TOTALS + BAD_ROWS] > 0:
                return
        share = count_up(task.counters, WRITTEN)
        while share < task.shares:
            write_gradients(task, layers, share)
            share = count_up(task.counters, WRITTEN)
