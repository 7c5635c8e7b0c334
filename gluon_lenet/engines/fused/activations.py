"""Numbers -> numbers: the exponential functions, and the activations, each with its forward and its backward.

An activation is one row of `ACTIVATIONS`; its number, in `tables.LAYER` and as a tile's `Choice`, is its place there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from numba import njit

from gluon_lenet.engines.fused.sizes import LANES
from gluon_lenet.engines.fused.vectors import Choice, Floats, Int, Value, Variable, loop, tile, vector
from gluon_lenet.nets.layers import A, S, ScaledTanh


def _within(x: Value, low: float, high: float) -> Value:
    x = vector(high).where(x > high, x)
    return vector(low).where(x < low, x)


def _exp_parts(x: Value) -> tuple[Value, Value]:
    """2**n and p with e to the power of x = 2**n (1 + p): the nearest n, and Cephes' polynomial of what is left."""
    n = (x * (1 / math.log(2))).rounded()
    rest = n.times_plus(vector(2.12194440e-4), n.times_plus(vector(-0.693359375), x))  # x - n log 2, in two steps
    power = vector(1.9875691500e-4)
    for coefficient in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        power = power.times_plus(rest, vector(coefficient))
    return ((n.to_int() + 127) << 23).bits_as_float(), power.times_plus(rest * rest, rest)


def exp(x: Value) -> Value:
    """e to the power of x, to 2 units in the last place."""
    two_to_n, power = _exp_parts(_within(x, -87, 88))
    return two_to_n.times_plus(power, two_to_n)


def _exp_less_1(x: Value) -> Value:
    """e to the power of x, less 1, for x up to 20; what is larger counts as 20.

    The 1 is taken off before rounding can hide what is left of small numbers; up to x = -20, the result is -1.
    """
    two_to_n, power = _exp_parts(_within(x, -20, 20))
    return two_to_n.times_plus(power, two_to_n - 1)


def _log_of_1_plus(x: Value) -> Value:
    """log(1 + x) for x from 0 to 1: 2 (s + s**3 / 3 + ... + s**15 / 15), where s = x / (2 + x) is at most 1/3."""
    s = x / (x + 2)
    square = s * s
    power = vector(2 / 15)
    for k in range(13, 1, -2):
        power = power.times_plus(square, vector(2 / k))
    return (power * square).times_plus(s, s + s)


def sigmoid(x: Value) -> Value:
    """1 / (1 + exp(-x))."""
    return 1 / (exp(-x) + 1)


def tanh(x: Value) -> Value:
    """Hyperbolic tangent, to 3 units in the last place: e / (e + 2) with e = exp(2 x) - 1; 1 from x = 10 on."""
    less_one = _exp_less_1(x + x)
    return less_one / (less_one + 2)


def relu(x: Value) -> Value:
    """max(x, 0)."""
    return vector(0).where(x < 0, x)  # this way round NaN stays NaN


def softrelu(x: Value) -> Value:
    """log(1 + exp(x)), as max(x, 0) + log(1 + exp(-abs(x))), which does not overflow."""
    return relu(x) + _log_of_1_plus(exp(-abs(x)))


def softsign(x: Value) -> Value:
    """x / (1 + abs(x))."""
    return x / (abs(x) + 1)


@dataclass(frozen=True)
class Activation:
    """An activation function y = forward(x).

    Attributes:
        kind: what MXNet's `nn.Activation` calls it, or the type of the layer that computes it; None for y = x.
        forward: x -> y.
        backward: the loss's gradient with respect to y, and y -> its gradient with respect to x.
    """

    kind: str | type | None
    forward: Callable[[Value], Value]
    backward: Callable[[Value, Value], Value]


ACTIVATIONS = (
    Activation(None, lambda x: x, lambda gradient, y: gradient),
    Activation("sigmoid", sigmoid, lambda gradient, y: gradient * y * (1 - y)),
    Activation("tanh", tanh, lambda gradient, y: gradient * (1 - y * y)),
    Activation(
        ScaledTanh,
        lambda x: tanh(x * S) * A,
        lambda gradient, y: gradient * (y * y).times_plus(vector(-S / A), vector(A * S)),
    ),
    Activation("relu", relu, lambda gradient, y: gradient.where(y > 0, vector(0))),
    Activation("softrelu", softrelu, lambda gradient, y: gradient * -_exp_less_1(-y)),
    Activation("softsign", softsign, lambda gradient, y: gradient * ((1 - abs(y)) * (1 - abs(y)))),
)
NUMBERS = {activation.kind: number for number, activation in enumerate(ACTIVATIONS)}
NO_ACTIVATION = NUMBERS[None]
ActivationNumber = Choice(range(len(ACTIVATIONS)))


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


@njit
def forward(memory, layer):
    """Apply the activation function to the layer's output, in place."""
    if layer.activation != NO_ACTIVATION:
        for o in range(layer.outputs):
            for y in range(layer.pooled_height):
                at = layer.output + o * layer.output_plane + y * layer.output_row
                activate(layer.activation, memory, layer.pooled_width, at)


@njit
def backward(memory, layer):
    """The gradient of the layer's output -> that before the activation, in place; adds up a bias's gradient."""
    for o in range(layer.outputs):
        bias_sum = layer.output_bias_sums + o * LANES
        for y in range(layer.pooled_height):
            step = o * layer.output_plane + y * layer.output_row
            value, gradient = layer.output + step, layer.output_gradient + step
            activate_backward(layer.activation, memory, layer.pooled_width, value, gradient, bias_sum)
