"""Vectors in memory -> vectors in memory: the register tiles that all the time is spent in.

One vector is the same number of LANES images, so a feature map is stored as (channels, height, width, LANES) and a
layer of neurons as (neurons, LANES). Offsets, rows and planes count floats in `memory`: one step to the right in a map
is LANES floats, one step down is `row` floats, one channel on is `plane` floats.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from gluon_lenet.engines.fused.activations import ACTIVATIONS, exp
from gluon_lenet.engines.fused.vectors import (
    LANES,
    REGISTERS,
    ROUNDS_ONCE,
    Address,
    Choice,
    Float,
    Floats,
    Int,
    Ints,
    Value,
    Variable,
    byte_vector,
    loop,
    tile,
    vector,
)

K = 5  # height and width of a convolution's kernel

# The sizes of the tiles. The first: as many sums as leave a few registers free for what is multiplied. The others, down
# to 1: for the rest of a layer that is not a multiple of it.
if REGISTERS == 32:
    OUTPUTS = (4, 3, 2, 1)  # of a convolution, in a window of 2x2 pixels
    DENSE_OUTPUTS, DENSE_INPUTS = (12, 4, 1), (16, 4, 1)  # neurons, forward and backward
    GRADIENT_OUTPUTS, GRADIENT_VECTORS = 6, (4, 1)  # of a dense layer's weight gradient
    COLUMNS, CHANNELS = (8, 1), (2, 1)  # of a convolution's input gradient: columns + 4 sums a channel
    CHOSEN_CHANNELS = (3, 1)  # the same behind max pooling: 6 sums a channel
    STRIPS = [range(K)]  # the kernel's rows, in one part: 25 sums
else:
    OUTPUTS = (2, 1)
    DENSE_OUTPUTS, DENSE_INPUTS = (12, 4, 1), (12, 4, 1)
    GRADIENT_OUTPUTS, GRADIENT_VECTORS = 6, (2, 1)
    COLUMNS, CHANNELS = (8, 1), (1,)
    CHOSEN_CHANNELS = (2, 1)
    STRIPS = [range(2), range(2, 4), range(4, 5)]  # one after the other: 10 sums at most

# What max pooling stores about a window: which of its 4 pixels is the largest. Bit 3 says below, bit 0 says left: as it
# is, the number is a place in the tables of `input_gradient_of_chosen`.
PLACES = (1, 0, 9, 8)
TABLE = (K + 1) * 16  # floats of the table for one input and one output channel

ActivationNumber = Choice(range(len(ACTIVATIONS)))


class Map(NamedTuple):
    """Where a pixel of a feature map is, and how far it is from there to the next row and to the next channel."""

    at: Int
    row: Int
    plane: Int


class Chosen(NamedTuple):
    """Where PLACES are that max pooling stores: `at` bytes after a float; to the next channel it is `plane` bytes."""

    start: Int
    at: Int
    plane: Int


class Kernels(NamedTuple):
    """Where the weights between an input and an output channel are: float `at`; to the next output it is `step`."""

    address: Address
    at: Int
    step: Int


# --- vectors in registers ---------------------------------------------------------------------------------------------


def _transpose(rows: list[Value]) -> list[Value]:
    """LANES vectors -> LANES vectors, rows and columns exchanged, by log2(LANES) rounds of perfect shuffles."""
    half = LANES // 2
    low = [lane for pair in range(half) for lane in (pair, LANES + pair)]  # a0 b0 a1 b1 ...
    high = [lane + half for lane in low]
    for _ in range(int(math.log2(LANES))):
        pairs = list(zip(rows[:half], rows[half:], strict=True))
        rows = [a.shuffled(b, lanes) for a, b in pairs for lanes in (low, high)]
    return rows


def _sums_of_lanes(rows: list[Value]) -> Value:
    """LANES vectors -> one vector: lane i is the sum of the lanes of rows[i]."""
    half = LANES // 2
    low = [lane for pair in range(half) for lane in (pair, LANES + pair)]
    high = [lane + half for lane in low]
    while len(rows) > 1:  # each round halves the number of vectors, and of lanes still to be added up
        middle = len(rows) // 2
        pairs = zip(rows[:middle], rows[middle:], strict=True)
        rows = [a.shuffled(b, low) + a.shuffled(b, high) for a, b in pairs]
    return rows[0]


# --- the input --------------------------------------------------------------------------------------------------------


def _divide(x, divisor, reciprocal):
    """x / divisor, correctly rounded: the product with the reciprocal, and the rest of that division on top."""
    if not ROUNDS_ONCE:
        return x / divisor
    quotient = x * reciprocal
    rest = (-quotient).times_plus(divisor, x)
    return rest.times_plus(reciprocal, quotient)


@tile
def gather_bytes(memory: Floats, images: Address, starts: Ints, pixel: Int, target: Int, mean: Float, std: Float):
    """LANES pixels of each of LANES uint8 images -> LANES vectors of memory, one a pixel: (pixel / 255 - mean) / std.

    The images begin `starts[lane]` bytes after the address; the pixels are those from `pixel` on.
    """
    source = images.bytes()
    rows = [source.load(starts.number(lane) + pixel) for lane in range(LANES)]
    one_std = 1 / std
    for i, column in enumerate(_transpose(rows)):
        share = _divide(column.bytes_to_float(), vector(255), vector(1 / 255))
        memory.store(target + i * LANES, _divide(share - mean, std, one_std))


@tile
def gather_floats(memory: Floats, images: Address, starts: Ints, pixel: Int, target: Int):
    """LANES pixels of each of LANES float32 images -> LANES vectors of memory; `starts` counts floats."""
    source = images.floats()
    rows = [source.load(starts.number(lane) + pixel) for lane in range(LANES)]
    for i, column in enumerate(_transpose(rows)):
        memory.store(target + i * LANES, column)


@tile
def transpose(memory: Floats, source: Int, source_row: Int, target: Int, target_row: Int):
    """LANES rows of LANES floats -> LANES rows of LANES floats, transposed."""
    rows = [memory.load(source + source_row * i) for i in range(LANES)]
    for i, column in enumerate(_transpose(rows)):
        memory.store(target + target_row * i, column)


# --- convolution, forward ---------------------------------------------------------------------------------------------


def _window(outputs, memory, channels, x, weights, bias) -> list[list[Value]]:
    """`outputs` channels of a convolution in a window of 2x2 pixels: [output][pixel], pixels row by row.

    The window's receptive field begins at x; a row of it, 6 vectors, serves 2 pixels and all the outputs.

    Weights are packed as (channels, 5, 5, outputs).
    """
    sums = [[Variable(memory.broadcast(bias + o)) for _ in range(4)] for o in range(outputs)]
    with loop(channels) as channel, loop(K) as ky:
        above = x.at + channel * x.plane + ky * x.row
        field = [[memory.load(above + x.row * i + j * LANES) for j in range(K + 1)] for i in range(2)]
        taps = weights + (channel * K + ky) * (K * outputs)
        for kx in range(K):
            for o in range(outputs):
                weight = memory.broadcast(taps + (kx * outputs + o))
                for pixel in range(4):
                    sums[o][pixel].add_product(field[pixel // 2][kx + pixel % 2], weight)
    return [[variable.get() for variable in window] for window in sums]


@tile
def convolve(outputs: Choice(OUTPUTS), memory: Floats, channels: Int, x: Map, weights: Int, bias: Int, y: Map):
    """Convolution 5x5 plus bias: (channels, 6, 6) at x -> (outputs, 2, 2) at y, all of LANES images.

    The weights are packed as (channels, 5, 5, outputs) at `weights`, the biases as (outputs,) at `bias`.
    """
    for o, window in enumerate(_window(outputs, memory, channels, x, weights, bias)):
        for pixel, value in enumerate(window):
            memory.store(y.at + y.plane * o + y.row * (pixel // 2) + (pixel % 2) * LANES, value)


@tile
def convolve_and_choose(
    outputs: Choice(OUTPUTS), memory: Floats, channels: Int, x: Map, weights: Int, bias: Int, y: Map, chosen: Chosen
):
    """As `convolve`, then max pooling 2x2: (channels, 6, 6) at x -> (outputs,) at y, all of LANES images.

    Which of the four pixels is the largest (the first, if there are several) is stored for the backward pass: a uint8
    of PLACES.
    """
    places = memory.bytes_at(chosen.start)
    for o, window in enumerate(_window(outputs, memory, channels, x, weights, bias)):
        best, place = window[0], byte_vector(PLACES[0])
        for pixel in range(1, 4):
            larger = window[pixel] > best
            best = window[pixel].where(larger, best)
            place = byte_vector(PLACES[pixel]).where(larger, place)
        memory.store(y.at + y.plane * o, best)
        places.store(chosen.at + chosen.plane * o, place)


# --- activation and pooling -------------------------------------------------------------------------------------------


@tile
def activate(activation: ActivationNumber, memory: Floats, count: Int, y: Int):
    """y = activation(y) for `count` vectors side by side."""
    with loop(count) as i:
        at = y + i * LANES
        memory.store(at, ACTIVATIONS[activation].forward(memory.load(at)))


@tile
def activate_backward(activation: ActivationNumber, memory: Floats, count: Int, y: Int, gradient: Int, bias_sum: Int):
    """gradient *= activation'(...) for `count` vectors side by side, y = activation(...); adds up for the bias."""
    total = Variable(memory.load(bias_sum))
    with loop(count) as i:
        value = ACTIVATIONS[activation].backward(memory.load(gradient + i * LANES), memory.load(y + i * LANES))
        memory.store(gradient + i * LANES, value)
        total.set(total.get() + value)
    memory.store(bias_sum, total.get())


@tile
def subsample(
    activation: ActivationNumber,
    memory: Floats,
    count: Int,
    x: Int,
    row: Int,
    coefficient: Int,
    bias: Int,
    y: Int,
):
    """x = activation(x) in 2 rows of 2 * count vectors; from each window of 2x2 one of the `count` vectors at y.

    y = coefficient * sum + bias, both floats of memory. Average pooling has the coefficient 1/4 and the bias 0.
    """
    factor, summand = memory.broadcast(coefficient), memory.broadcast(bias)
    with loop(count) as i:
        values = []
        for pixel in range(4):
            at = x + row * (pixel // 2) + (i * 2 + pixel % 2) * LANES
            values.append(ACTIVATIONS[activation].forward(memory.load(at)))
            memory.store(at, values[-1])
        total = values[0] + values[1] + values[2] + values[3]
        memory.store(y + i * LANES, total.times_plus(factor, summand))


@tile
def subsample_backward(
    activation: ActivationNumber,
    memory: Floats,
    count: Int,
    x: Int,
    row: Int,
    coefficient: Int,
    gradient: Int,
    bias_sum: Int,
):
    """What `subsample` stored at x becomes the gradient there, from that of its y.

    Adds up at bias_sum: the gradient of the bias that was added to x before the activation.
    """
    factor, total = memory.broadcast(coefficient), Variable(memory.load(bias_sum))
    with loop(count) as i:
        part = memory.load(gradient + i * LANES) * factor
        for pixel in range(4):
            at = x + row * (pixel // 2) + (i * 2 + pixel % 2) * LANES
            value = ACTIVATIONS[activation].backward(part, memory.load(at))
            memory.store(at, value)
            total.set(total.get() + value)
    memory.store(bias_sum, total.get())


@tile
def coefficient_gradient(memory: Floats, count: Int, x: Int, row: Int, gradient: Int, coefficient_sum: Int):
    """Add to the gradient of `subsample`'s coefficient, lane by lane, from what it stored at x and y's gradient."""
    total = Variable(memory.load(coefficient_sum))
    with loop(count) as i:
        values = [memory.load(x + row * (pixel // 2) + (i * 2 + pixel % 2) * LANES) for pixel in range(4)]
        total.add_product(values[0] + values[1] + values[2] + values[3], memory.load(gradient + i * LANES))
    memory.store(coefficient_sum, total.get())


# --- convolution, backward --------------------------------------------------------------------------------------------


def _add_taps(memory, taps: list[Variable], sums):
    """Add each tap's lanes up, and the numbers to those at `sums`."""
    for start in range(0, len(taps), LANES):
        first = max(0, min(start, len(taps) - LANES))  # the last vector may overlap the one before: 0 is added there
        rows = [taps[i].get() if start <= i < len(taps) else vector(0) for i in range(first, first + LANES)]
        memory.store(sums + first, memory.load(sums + first) + _sums_of_lanes(rows))


@tile
def weight_gradient(memory: Floats, x: Map, gradient: Map, height: Int, width: Int, sums: Int):
    """The gradient of the 25 weights between an input map and an output map, added to the 25 floats at `sums`.

    sums[ky, kx] += sum over images and pixels of gradient[y, x] * input[y + ky, x + kx].
    `height` and `width` are the gradient's.
    """
    for strip in STRIPS:
        taps = [Variable(vector(0)) for _ in range(len(strip) * K)]

        def pixels(at, gradient_at, count, strip=strip, taps=taps):  # side by side: they share what they read
            gradients = [memory.load(gradient_at + i * LANES) for i in range(count)]
            for j, ky in enumerate(strip):
                for column in range(K + count - 1):
                    value = memory.load(at + x.row * ky + column * LANES)
                    for i in range(count):
                        if 0 <= column - i < K:
                            taps[j * K + column - i].add_product(gradients[i], value)

        with loop(height) as y:
            at, gradient_at = x.at + x.row * y, gradient.at + gradient.row * y
            pairs = width // 2
            with loop(pairs) as pair:
                pixels(at + pair * (2 * LANES), gradient_at + pair * (2 * LANES), 2)
            with loop(width, start=pairs * 2) as column:
                pixels(at + column * LANES, gradient_at + column * LANES, 1)
        _add_taps(memory, taps, sums + strip[0] * K)


@tile
def weight_gradient_of_chosen(
    memory: Floats, x: Map, gradient: Map, chosen: Chosen, height: Int, width: Int, sums: Int
):
    """As `weight_gradient`, behind max pooling: only one pixel of each window has a gradient.

    So the lanes pick the input under that pixel (two selections a tap) and the taps need one multiplication a window
    instead of four. `height` and `width` are the pooled map's, whose gradient this takes.
    """
    places = memory.bytes_at(chosen.start)
    for strip in STRIPS:
        taps = [Variable(vector(0)) for _ in range(len(strip) * K)]
        with loop(height) as y, loop(width) as column:
            value = memory.load(gradient.at + gradient.row * y + column * LANES)
            place = places.load(chosen.at + (y * width + column) * LANES)
            left, below = (place & 1) > 0, (place & 8) > 0
            at = x.at + x.row * (y * 2) + column * (2 * LANES)
            upper = None
            for i in range(strip[0], strip[-1] + 2):
                field = [memory.load(at + x.row * i + j * LANES) for j in range(K + 1)]
                lower = [field[j].where(left, field[j + 1]) for j in range(K)]
                if upper:
                    for kx in range(K):
                        tap = taps[(i - 1 - strip[0]) * K + kx]
                        tap.add_product(value, lower[kx].where(below, upper[kx]))
                upper = lower
        _add_taps(memory, taps, sums + strip[0] * K)


@tile
def input_gradient(
    columns: Choice(COLUMNS),
    channels: Choice(CHANNELS),
    memory: Floats,
    kernels: Kernels,
    outputs: Int,
    first: Int,
    stop: Int,
    gradient: Map,
    x_gradient: Map,
):
    """What `columns` pixels of the output's gradient say about one row of the input's, in `channels` input channels.

    x_gradient[c, x + kx] += gradient[o, y - ky, x] * weight[o, c, ky, kx], over the outputs o, ky = first ... stop - 1,
    all kx and the columns x; `gradient` is at [0, y, x], `x_gradient` at [c, x].
    """
    sums = [
        [Variable(memory.load(x_gradient.at + x_gradient.plane * c + j * LANES)) for j in range(columns + K - 1)]
        for c in range(channels)
    ]
    with loop(stop, start=first) as ky, loop(outputs) as output:
        taps = kernels.at + output * kernels.step + ky * K
        at = gradient.at + gradient.plane * output - gradient.row * ky
        values = [memory.load(at + column * LANES) for column in range(columns)]
        for kx in range(K):
            for c in range(channels):
                factor = kernels.address.floats().broadcast(taps + (c * K * K + kx))
                for column in range(columns):
                    sums[c][column + kx].add_product(values[column], factor)
    for c in range(channels):
        for j in range(columns + K - 1):
            memory.store(x_gradient.at + x_gradient.plane * c + j * LANES, sums[c][j].get())


@tile
def input_gradient_of_chosen(
    channels: Choice(CHOSEN_CHANNELS),
    memory: Floats,
    outputs: Int,
    gradient: Map,
    chosen: Chosen,
    table: Int,
    table_step: Int,
    x_gradient: Map,
):
    """What one pooled pixel's gradient says about one row of its 6x6 receptive field, in `channels` input channels.

    Behind max pooling only one of the window's pixels has a gradient; which one, says where in the field the 5x5 kernel
    lies. So every lane looks up its weight: the table for an output and an input channel has a row for each row i of
    the field,

        0  w[i, 0] ... w[i, 4]  0 0   0  w[i-1, 0] ... w[i-1, 4]  0 0      (16 floats; w[-1] = w[5] = 0)

    and column j of the field needs number place + j of it: place is 1 if the pixel above left is chosen, 0 above right,
    9 below left, 8 below right (PLACES). `table` is the offset of row i for output 0, `table_step` leads to the next.
    """
    sums = [
        [Variable(memory.load(x_gradient.at + x_gradient.plane * c + j * LANES)) for j in range(K + 1)]
        for c in range(channels)
    ]
    places = memory.bytes_at(chosen.start)
    with loop(outputs) as output:
        value = memory.load(gradient.at + gradient.plane * output)
        place = places.load(chosen.at + chosen.plane * output).widened()
        row = table + table_step * output
        for j in range(K + 1):
            for c in range(channels):
                sums[c][j].add_product(value, memory.look_up(row + c * TABLE, place + j))
    for c in range(channels):
        for j in range(K + 1):
            memory.store(x_gradient.at + x_gradient.plane * c + j * LANES, sums[c][j].get())


# --- dense layers -----------------------------------------------------------------------------------------------------


@tile
def dense(
    outputs: Choice(DENSE_OUTPUTS), memory: Floats, weights: Address, inputs: Int, x: Int, first: Int, bias: Int, y: Int
):
    """Neurons `first` ... of a dense layer: (inputs,) at x -> (outputs,) at y. Weights are (all outputs, inputs)."""
    matrix = weights.floats()
    sums = [Variable(memory.broadcast(bias + o)) for o in range(outputs)]
    with loop(inputs) as i:
        value = memory.load(x + i * LANES)
        for o in range(outputs):
            sums[o].add_product(value, matrix.broadcast((first + o) * inputs + i))
    for o in range(outputs):
        memory.store(y + o * LANES, sums[o].get())


@tile
def dense_input_gradient(
    inputs: Choice(DENSE_INPUTS),
    memory: Floats,
    weights: Address,
    row: Int,
    outputs: Int,
    first: Int,
    gradient: Int,
    x_gradient: Int,
):
    """The gradient of the inputs `first` ...: (outputs,) at gradient -> (inputs,) at x_gradient; `row`: all inputs."""
    matrix = weights.floats()
    sums = [Variable(vector(0)) for _ in range(inputs)]
    with loop(outputs) as output:
        value = memory.load(gradient + output * LANES)
        for i in range(inputs):
            sums[i].add_product(value, matrix.broadcast(output * row + first + i))
    for i in range(inputs):
        memory.store(x_gradient + i * LANES, sums[i].get())


@tile
def dense_weight_gradient(
    vectors: Choice(GRADIENT_VECTORS),
    memory: Floats,
    gradient: Int,
    gradient_row: Int,
    x: Int,
    x_row: Int,
    sums: Int,
    sums_row: Int,
):
    """The gradient of a dense layer's weights, (GRADIENT_OUTPUTS, vectors * LANES) of them, added to `sums`.

    Here a vector is LANES inputs of one image, not LANES images: `gradient` is (LANES images, outputs) and `x` (LANES
    images, inputs), and the images are added up.
    """
    outputs = range(GRADIENT_OUTPUTS)
    totals = [[Variable(memory.load(sums + sums_row * o + i * LANES)) for i in range(vectors)] for o in outputs]
    with loop(LANES) as image:
        values = [memory.load(x + x_row * image + i * LANES) for i in range(vectors)]
        for o in outputs:
            factor = memory.broadcast(gradient + gradient_row * image + o)
            for i in range(vectors):
                totals[o][i].add_product(values[i], factor)
    for o in outputs:
        for i in range(vectors):
            memory.store(sums + sums_row * o + i * LANES, totals[o][i].get())


@tile
def sum_lanes(memory: Floats, source: Int, target: Int):
    """LANES vectors at source -> one vector at target: the sum of each vector's lanes."""
    memory.store(target, _sums_of_lanes([memory.load(source + i * LANES) for i in range(LANES)]))


# --- distances to fixed centres ---------------------------------------------------------------------------------------


@tile
def distances(memory: Floats, centres: Address, inputs: Int, outputs: Int, x: Int, y: Int):
    """Minus the squared distances of (inputs,) at x from the centres (outputs, inputs) -> (outputs,) at y."""
    matrix = centres.floats()
    with loop(outputs) as output:
        total = Variable(vector(0))
        with loop(inputs) as i:
            gap = memory.load(x + i * LANES) - matrix.broadcast(output * inputs + i)
            total.add_product(-gap, gap)
        memory.store(y + output * LANES, total.get())


@tile
def distances_backward(
    memory: Floats, centres: Address, inputs: Int, outputs: Int, x: Int, gradient: Int, x_gradient: Int
):
    """The gradient of `distances`' inputs, (inputs,) at x_gradient: sum over the outputs of 2 gradient (centre - x)."""
    matrix = centres.floats()
    with loop(inputs) as i:
        value, total = memory.load(x + i * LANES), Variable(vector(0))
        with loop(outputs) as output:
            gap = matrix.broadcast(output * inputs + i) - value
            total.add_product(memory.load(gradient + output * LANES), gap)
        memory.store(x_gradient + i * LANES, total.get() * 2)


# --- loss -------------------------------------------------------------------------------------------------------------


@tile
def softmax(
    memory: Floats, classes: Int, rubbish: Float, logits: Int, probabilities: Int, largest: Int, shift: Int, total: Int
):
    """(classes,) logits -> (classes,) probabilities, and three vectors that the loss and the count of answers need.

    `rubbish` is the logit of one class more, which is never the right one: minus infinity where there is none.
    largest: of the logits; shift: of the logits and `rubbish`; total: sum of exp(logit - shift), `rubbish` included.
    probability = exp(logit - shift) / total; loss = log(total) + shift - logit of the label.
    """
    best = Variable(memory.load(logits))
    with loop(classes, start=1) as i:
        value = memory.load(logits + i * LANES)
        best.set(value.where(value > best.get(), best.get()))
    base = rubbish.where(rubbish > best.get(), best.get())
    summed = Variable(exp(rubbish - base))
    with loop(classes) as i:
        value = exp(memory.load(logits + i * LANES) - base)
        memory.store(probabilities + i * LANES, value)
        summed.set(summed.get() + value)
    with loop(classes) as i:
        memory.store(probabilities + i * LANES, memory.load(probabilities + i * LANES) / summed.get())
    memory.store(largest, best.get())
    memory.store(shift, base)
    memory.store(total, summed.get())
