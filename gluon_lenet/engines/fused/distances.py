"""Distances to fixed centres, the output layer of LeNet-5: (inputs,) -> (outputs,), and the gradient of the input."""

from __future__ import annotations

from numba import njit

from gluon_lenet.engines.fused.sizes import LANES
from gluon_lenet.engines.fused.tables import NOWHERE, Matrix
from gluon_lenet.engines.fused.vectors import Floats, Int, Variable, loop, tile, vector


@tile
def distances(memory: Floats, centres: Matrix, outputs: Int, x: Int, y: Int):
    """Minus the squared distances of (inputs,) at x from the centres (outputs, inputs) -> (outputs,) at y."""
    matrix = centres.address.floats()
    with loop(outputs) as output:
        total = Variable(vector(0))
        with loop(centres.inputs) as i:
            gap = memory.load(x + i * LANES) - matrix.broadcast(output * centres.inputs + i)
            total.add_product(-gap, gap)
        memory.store(y + output * LANES, total.get())


@njit
def forward(memory, layer):
    """From the layer's input to its output."""
    distances(memory, Matrix(layer.weight, layer.inputs, 0), layer.outputs, layer.input, layer.output)


@tile
def distances_backward(memory: Floats, centres: Matrix, outputs: Int, x: Int, gradient: Int, x_gradient: Int):
    """The gradient of `distances`' inputs, (inputs,) at x_gradient: sum over the outputs of 2 gradient (centre - x)."""
    matrix = centres.address.floats()
    with loop(centres.inputs) as i:
        value, total = memory.load(x + i * LANES), Variable(vector(0))
        with loop(outputs) as output:
            gap = matrix.broadcast(output * centres.inputs + i) - value
            total.add_product(memory.load(gradient + output * LANES), gap)
        memory.store(x_gradient + i * LANES, total.get() * 2)


@njit
def backward(memory, layer):
    """From the gradient of what `forward` wrote to that of the input; the centres are fixed."""
    if layer.input_gradient != NOWHERE:
        centres = Matrix(layer.weight, layer.inputs, 0)
        distances_backward(memory, centres, layer.outputs, layer.input, layer.output_gradient, layer.input_gradient)
