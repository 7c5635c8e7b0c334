"""Sums of 2x2 pixels, times a coefficient plus a bias: a convolution's `map` -> the layer's output, and its gradients.

LeNet-5's subsampling has a trainable coefficient and bias per channel; average pooling has 1/4 and 0.
"""

from __future__ import annotations

from numba import njit

from gluon_lenet.engines.fused.activations import ACTIVATIONS, ActivationNumber
from gluon_lenet.engines.fused.memory import copy_numbers
from gluon_lenet.engines.fused.sizes import LANES
from gluon_lenet.engines.fused.tables import Rows
from gluon_lenet.engines.fused.vectors import Floats, Int, Value, Variable, loop, tile


def _window(x: Rows, i: Value) -> list[Value]:
    """The places of the 4 pixels of window i, row by row."""
    return [x.at + x.row * (pixel // 2) + (i * 2 + pixel % 2) * LANES for pixel in range(4)]


@tile
def subsample(activation: ActivationNumber, memory: Floats, count: Int, x: Rows, coefficient: Int, bias: Int, y: Int):
    """x = activation(x) in 2 rows of 2 * count vectors; from each window of 2x2 one of the `count` vectors at y.

    y = coefficient * sum + bias, both floats of memory.
    """
    factor, summand = memory.broadcast(coefficient), memory.broadcast(bias)
    with loop(count) as i:
        values = []
        for at in _window(x, i):
            values.append(ACTIVATIONS[activation].forward(memory.load(at)))
            memory.store(at, values[-1])
        total = values[0] + values[1] + values[2] + values[3]
        memory.store(y + i * LANES, total.times_plus(factor, summand))


@njit
def forward(memory, layer):
    """Activation, then sums of 2x2 times a coefficient plus a bias: from the layer's map into its output."""
    for o in range(layer.outputs):
        coefficient, bias = layer.packed_coefficient + o, layer.packed_pool_bias + o
        for y in range(layer.pooled_height):
            x = Rows(layer.map + o * layer.map_plane + 2 * y * layer.map_row, layer.map_row)
            at = layer.output + o * layer.output_plane + y * layer.output_row
            subsample(layer.map_activation, memory, layer.pooled_width, x, coefficient, bias, at)


@tile
def subsample_backward(
    activation: ActivationNumber, memory: Floats, count: Int, x: Rows, coefficient: Int, gradient: Int, bias_sum: Int
):
    """What `subsample` stored at x becomes the gradient there, from that of its y.

    Adds up at bias_sum: the gradient of the bias that was added to x before the activation.
    """
    factor, total = memory.broadcast(coefficient), Variable(memory.load(bias_sum))
    with loop(count) as i:
        part = memory.load(gradient + i * LANES) * factor
        for at in _window(x, i):
            value = ACTIVATIONS[activation].backward(part, memory.load(at))
            memory.store(at, value)
            total.set(total.get() + value)
    memory.store(bias_sum, total.get())


@tile
def coefficient_gradient(memory: Floats, count: Int, x: Rows, gradient: Int, coefficient_sum: Int):
    """Add to the gradient of `subsample`'s coefficient, lane by lane, from what it stored at x and y's gradient."""
    total = Variable(memory.load(coefficient_sum))
    with loop(count) as i:
        values = [memory.load(at) for at in _window(x, i)]
        total.add_product(values[0] + values[1] + values[2] + values[3], memory.load(gradient + i * LANES))
    memory.store(coefficient_sum, total.get())


@njit
def backward(memory, layer):
    """The output's gradient -> that of the convolution, in `map`; adds up the gradients of bias and coefficient."""
    for o in range(layer.outputs):
        coefficient, bias_sum = layer.packed_coefficient + o, layer.bias_sums + o * LANES
        for y in range(layer.pooled_height):
            x = Rows(layer.map + o * layer.map_plane + 2 * y * layer.map_row, layer.map_row)
            gradient, count = layer.output_gradient + o * layer.output_plane + y * layer.output_row, layer.pooled_width
            if layer.coefficient_gradient != 0:
                coefficient_gradient(memory, count, x, gradient, layer.coefficient_sums + o * LANES)
            subsample_backward(layer.map_activation, memory, count, x, coefficient, gradient, bias_sum)


@njit
def pack(memory, layer):
    """Copy the coefficients and biases; 1/4 without a coefficient."""
    for o in range(layer.outputs):
        memory[layer.packed_coefficient + o] = 0.25
    copy_numbers(memory, layer.coefficient, layer.outputs, layer.packed_coefficient)
    copy_numbers(memory, layer.pool_bias, layer.outputs, layer.packed_pool_bias)
