"""Dense layers: (inputs,) -> (outputs,), and their gradients."""

from __future__ import annotations

from numba import njit

from gluon_lenet.engines.fused.memory import fitting, whole_vectors
from gluon_lenet.engines.fused.sizes import (
    DENSE_INPUTS,
    DENSE_OUTPUTS,
    GRADIENT_OUTPUTS,
    GRADIENT_VECTORS,
    LANES,
)
from gluon_lenet.engines.fused.tables import NOWHERE, Matrix, Rows
from gluon_lenet.engines.fused.vectors import Choice, Floats, Int, Variable, loop, tile, transposed, vector


@tile
def dense(outputs: Choice(DENSE_OUTPUTS), memory: Floats, weights: Matrix, x: Int, bias: Int, y: Int):
    """Neurons `weights.first` ...: (inputs,) at x -> (outputs,) at y."""
    matrix = weights.address.floats()
    sums = [Variable(memory.broadcast(bias + o)) for o in range(outputs)]
    with loop(weights.inputs) as i:
        value = memory.load(x + i * LANES)
        for o in range(outputs):
            sums[o].add_product(value, matrix.broadcast((weights.first + o) * weights.inputs + i))
    for o in range(outputs):
        memory.store(y + o * LANES, sums[o].get())


@njit
def forward(memory, layer):
    """From the layer's input to its output before the activation."""
    o = 0
    while o < layer.outputs:
        bias, y = layer.packed_bias + o, layer.output + o * LANES
        group = fitting(DENSE_OUTPUTS, layer.outputs - o)
        dense(group, memory, Matrix(layer.weight, layer.inputs, o), layer.input, bias, y)
        o += group


@tile
def weight_gradient(vectors: Choice(GRADIENT_VECTORS), memory: Floats, gradient: Rows, x: Rows, sums: Rows):
    """The gradient of the weights, (GRADIENT_OUTPUTS, vectors * LANES) of them, added to `sums`.

    Here a vector is LANES inputs of one image, not LANES images: `gradient` is (LANES images, outputs) and `x` (LANES
    images, inputs), and the images are added up.
    """
    outputs = range(GRADIENT_OUTPUTS)
    totals = [[Variable(memory.load(sums.at + sums.row * o + i * LANES)) for i in range(vectors)] for o in outputs]
    with loop(LANES) as image:
        values = [memory.load(x.at + x.row * image + i * LANES) for i in range(vectors)]
        for o in outputs:
            factor = memory.broadcast(gradient.at + gradient.row * image + o)
            for i in range(vectors):
                totals[o][i].add_product(values[i], factor)
    for o in outputs:
        for i in range(vectors):
            memory.store(sums.at + sums.row * o + i * LANES, totals[o][i].get())


@tile
def input_gradient(
    inputs: Choice(DENSE_INPUTS), memory: Floats, weights: Matrix, outputs: Int, gradient: Int, x_gradient: Int
):
    """The gradient of the inputs `weights.first` ...: (outputs,) at gradient -> (inputs,) at x_gradient."""
    matrix = weights.address.floats()
    sums = [Variable(vector(0)) for _ in range(inputs)]
    with loop(outputs) as output:
        value = memory.load(gradient + output * LANES)
        for i in range(inputs):
            sums[i].add_product(value, matrix.broadcast(output * weights.inputs + weights.first + i))
    for i in range(inputs):
        memory.store(x_gradient + i * LANES, sums[i].get())


@tile
def transpose(memory: Floats, source: Int, target: Rows):
    """LANES vectors side by side at source -> LANES rows of LANES floats, transposed."""
    for i, column in enumerate(transposed([memory.load(source + i * LANES) for i in range(LANES)])):
        memory.store(target.at + target.row * i, column)


@njit
def backward(memory, layer):
    """From the gradient of what `forward` wrote: adds to the weights' sums, writes the input's gradient."""
    gradient = Rows(layer.transposed_gradient, whole_vectors(layer.outputs, LANES))
    x = Rows(layer.transposed_input, whole_vectors(layer.inputs, LANES))
    for first in range(0, layer.outputs, LANES):
        transpose(memory, layer.output_gradient + first * LANES, Rows(gradient.at + first, gradient.row))
    for first in range(0, layer.inputs, LANES):
        transpose(memory, layer.input + first * LANES, Rows(x.at + first, x.row))
    for o in range(0, layer.outputs, GRADIENT_OUTPUTS):
        i = 0
        while i < layer.inputs:
            vectors = fitting(GRADIENT_VECTORS, (x.row - i) // LANES)
            sums = Rows(layer.weight_sums + o * layer.sums_row + i, layer.sums_row)
            weight_gradient(vectors, memory, Rows(gradient.at + o, gradient.row), Rows(x.at + i, x.row), sums)
            i += vectors * LANES
    if layer.input_gradient != NOWHERE:
        i = 0
        while i < layer.inputs:
            group, weights = fitting(DENSE_INPUTS, layer.inputs - i), Matrix(layer.weight, layer.inputs, i)
            target = layer.input_gradient + i * LANES
            input_gradient(group, memory, weights, layer.outputs, layer.output_gradient, target)
            i += group
