"""The fused kernels' register tiles against NumPy, in float64."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from gluon_lenet.engines.fused import (
    activations,
    arrays,
    blocks,
    convolution,
    dense,
    distances,
    images,
    loss,
    maxpool,
    subsampling,
)
from gluon_lenet.engines.fused.sizes import COLUMNS_OF_3, COLUMNS_OF_5, GRADIENT_OUTPUTS, KERNELS, LANES
from gluon_lenet.engines.fused.tables import Map, Matrix, Rows, Size
from gluon_lenet.engines.fused.vectors import Choice, Floats, Int, tile, vector
from gluon_lenet.nets.layers import ScaledTanh


class Memory:
    """Arrays one after another in one float32 array, and their offsets in it."""

    def __init__(self, *parts):
        self.offsets, size = [], 0
        for part in parts:
            self.offsets.append(size)
            size += -(-part.size // 16) * 16 + 16
        self.floats = arrays.aligned_zeros((size,))
        self.shapes = [part.shape for part in parts]
        for i, part in enumerate(parts):
            self[i][:] = part

    def __getitem__(self, i):
        return self.floats[self.offsets[i] :][: int(np.prod(self.shapes[i]))].reshape(self.shapes[i])


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def close(actual, expected, tolerance=2e-6):
    expected = np.asarray(expected)
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


@tile
def write_choices(first: Choice((5, 2, 9)), second: Choice((1, 3, 3)), memory: Floats, at: Int):
    memory.store(at, vector(10 * first + second))


def test_choices():
    memory = Memory(np.zeros((10, LANES)))
    constant = 7  # known at compile time, so it need not be one of the choices

    @njit
    def call(floats, numbers):
        for i in range(9):
            write_choices(numbers[i // 3], numbers[3 + i % 3], floats, i * LANES)
        write_choices(constant, numbers[4], floats, 9 * LANES)

    call(memory.floats, np.array([2, 9, 5, 1, 3, 8]))  # 8 is no choice: treated as the last one
    np.testing.assert_array_equal(memory[0][:, 0], [21, 23, 23, 91, 93, 93, 51, 53, 53, 73])
    np.testing.assert_array_equal(memory[0], memory[0][:, :1] * np.ones(LANES))


def convolved(x, weights, bias):
    """(channels, height, width, LANES) -> (outputs, height - k + 1, width - k + 1, LANES), in float64."""
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), weights.shape[2:], axis=(1, 2))
    return np.einsum("cyxnkl,ockl->oyxn", windows, weights) + bias[:, None, None, None]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("outputs", [1, 2, 3, 4])
def test_convolve(outputs, kernel):
    size = kernel + 1
    x, weights, bias = random(3, size, size, LANES), random(outputs, 3, kernel, kernel), random(outputs)
    memory = Memory(x, weights.transpose(1, 2, 3, 0), bias, np.zeros((outputs, 2, 2, LANES)))
    at_x, at_weights, at_bias, at_y = memory.offsets

    @njit
    def call(floats, row, plane):
        x, y = Map(at_x, row, plane), Map(at_y, 2 * LANES, 4 * LANES)
        convolution.convolve(kernel, outputs, floats, x, convolution.Packed(3, 1, 1, at_weights, at_bias), y)

    call(memory.floats, size * LANES, size * size * LANES)
    close(memory[3], convolved(x, weights, bias))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("outputs", [1, 4])
def test_convolve_maxpool(outputs, kernel):
    size = kernel + 1
    x, weights, bias = random(2, size, size, LANES), random(outputs, 2, kernel, kernel), random(outputs)
    x[..., 0] = 1  # lane 0: four equal pixels, of which the first is chosen
    places = np.zeros((outputs, LANES // 4))
    memory = Memory(x, weights.transpose(1, 2, 3, 0), bias, np.zeros((outputs, LANES)), places)
    at_x, at_weights, at_bias, at_y, choices = memory.offsets

    @njit
    def call(floats, row, plane):
        x, y, chosen = Map(at_x, row, plane), Map(at_y, LANES, LANES), maxpool.Chosen(choices, 0, LANES)
        packed = convolution.Packed(2, 1, 1, at_weights, at_bias)
        maxpool.convolve_maxpool(kernel, outputs, floats, x, packed, y, chosen)

    call(memory.floats, size * LANES, size * size * LANES)
    pixels = convolved(x, weights, bias).reshape(outputs, 4, LANES)
    close(memory[3], pixels.max(axis=1))
    chosen = memory[4].view(np.uint8).reshape(outputs, LANES)
    np.testing.assert_array_equal(chosen[:, 1:], np.array(maxpool.CODES)[pixels.argmax(axis=1)][:, 1:])
    assert (chosen[:, 0] == maxpool.CODES[0]).all()


DERIVATIVES = {  # the function, and its derivative as a function of its input
    None: (lambda x: x, lambda x: np.ones_like(x)),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda x: 1 / (2 + np.exp(-x) + np.exp(x))),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    ScaledTanh: (lambda x: 1.7159 * np.tanh(2 / 3 * x), lambda x: 2 / 3 * 1.7159 * (1 - np.tanh(2 / 3 * x) ** 2)),
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    "softrelu": (lambda x: np.logaddexp(x, 0), lambda x: 1 / (1 + np.exp(-x))),
    "softsign": (lambda x: x / (1 + np.abs(x)), lambda x: (1 + np.abs(x)) ** -2.0),
}


@pytest.mark.parametrize("activation", activations.ACTIVATIONS, ids=lambda activation: str(activation.kind))
def test_activation_and_subsampling(activation):
    kind = activations.NUMBERS[activation.kind]
    function, derivative = DERIVATIVES[activation.kind]
    x = random(2, 6, LANES) * 4
    x[0, 0, :4] = 0, 1e-4, -100, 100
    gradient, count, numbers = random(3, LANES), 3, np.array([0.7, -0.3])  # coefficient and bias
    sums = [np.zeros(LANES)] * 3
    memory = Memory(x, x, gradient, np.zeros((3, LANES)), x, numbers, *sums)
    plain, windows, at_gradient, outputs, flat_gradient, coefficient, flat_sum, bias_sum, factor_sum = memory.offsets

    @njit
    def forward(floats, row):
        activations.activate(kind, floats, 12, plain)
        subsampling.subsample(kind, floats, count, Rows(windows, row), coefficient, coefficient + 1, outputs)

    @njit
    def backward(floats, row):
        activations.activate_backward(kind, floats, 12, plain, flat_gradient, flat_sum)
        subsampling.coefficient_gradient(floats, count, Rows(windows, row), at_gradient, factor_sum)
        x = Rows(windows, row)
        subsampling.subsample_backward(kind, floats, count, x, coefficient, at_gradient, bias_sum)

    forward(memory.floats, 6 * LANES)
    x = x.astype(np.float64)
    y = function(x)
    assert np.abs(memory[0] - y).max() <= 2e-7 * max(1, np.abs(y).max())
    some = np.abs(y) > 1e-30
    assert np.abs(memory[0][some] / y[some] - 1).max() <= 4e-7  # each number to its last bits
    np.testing.assert_array_equal(memory[0], memory[1])
    totals = y.reshape(2, 3, 2, LANES).sum(axis=(0, 2))
    close(memory[3], totals * 0.7 - 0.3)

    backward(memory.floats, 6 * LANES)
    expected = derivative(x).reshape(2, 3, 2, LANES) * gradient[:, None] * 0.7
    close(memory[1], expected.reshape(2, 6, LANES), 1e-5)
    close(memory[4], x * derivative(x), 1e-5)
    close(memory[6], (x * derivative(x)).sum(axis=(0, 1)), 1e-5)
    close(memory[7], expected.sum(axis=(0, 1, 2)), 1e-5)
    close(memory[8], (totals * gradient).sum(axis=0), 1e-5)


def test_nan_stays_nan_in_every_activation():
    kinds = len(activations.ACTIVATIONS)
    memory = Memory(np.full((kinds, LANES), np.nan))

    @njit
    def call(floats):
        for kind in range(kinds):
            activations.activate(kind, floats, 1, kind * LANES)

    call(memory.floats)
    assert np.isnan(memory[0]).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_weight_gradient(kernel):
    height, width = kernel + 2, kernel + 4  # of the input
    x, gradient, before = random(height, width, LANES), random(3, 5, LANES), random(kernel, kernel)
    memory = Memory(x, gradient, before)
    at_x, at_gradient, sums = memory.offsets

    @njit
    def call(floats):
        image = Map(at_x, width * LANES, height * width * LANES)
        dy = Map(at_gradient, 5 * LANES, 15 * LANES)  # an odd width: a pair has no partner
        convolution.weight_gradient(kernel, floats, image, dy, Size(3, 5), sums)

    call(memory.floats)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 5), axis=(0, 1))
    close(memory[2], before + np.einsum("klnyx,yxn->kl", windows, gradient))


def spread(gradient, choice):
    """Pooled (..., h, w, LANES) and which of 4 pixels -> the gradient before max pooling, (..., 2h, 2w, LANES)."""
    *rest, height, width, lanes = gradient.shape
    full = np.zeros((*rest, height, 2, width, 2, lanes))
    for pixel in range(4):
        full[..., :, pixel // 2, :, pixel % 2, :] = gradient * (choice == pixel)
    return full.reshape(*rest, 2 * height, 2 * width, lanes)


@pytest.mark.parametrize("kernel", KERNELS)
def test_weight_gradient_maxpool(kernel):
    height, width = kernel + 3, kernel + 5  # of the input
    x, gradient, before = random(height, width, LANES), random(2, 3, LANES), random(kernel, kernel)
    choice = np.random.default_rng(1).integers(0, 4, (2, 3, LANES))
    memory = Memory(x, gradient, before, np.zeros((6, LANES // 4)))
    memory[3].view(np.uint8)[:] = np.array(maxpool.CODES, np.uint8)[choice].reshape(6, LANES)
    at_x, at_gradient, sums, choices = memory.offsets

    @njit
    def call(floats):
        image = Map(at_x, width * LANES, height * width * LANES)
        dy, chosen = Map(at_gradient, 3 * LANES, 6 * LANES), maxpool.Chosen(choices, 0, 6 * LANES)
        maxpool.weight_gradient(kernel, floats, image, dy, chosen, Size(2, 3), sums)

    call(memory.floats)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (4, 6), axis=(0, 1))
    close(memory[2], before + np.einsum("klnyx,yxn->kl", windows, spread(gradient, choice)))


@pytest.mark.parametrize("channels", [2, 1])
@pytest.mark.parametrize(
    ("kernel", "columns"), [*((5, columns) for columns in COLUMNS_OF_5), *((3, columns) for columns in COLUMNS_OF_3)]
)
def test_input_gradient(kernel, columns, channels):
    outputs, rows = 3, kernel  # the input's row gets something from all these rows of the output above it
    gradient, weights = random(outputs, rows, columns, LANES), random(outputs, channels, kernel, kernel)
    before = random(channels, columns + kernel - 1, LANES)
    memory = Memory(gradient, weights, before)
    at_gradient, at_weights, target = memory.offsets
    address, step, plane = memory.floats.ctypes.data + 4 * at_weights, channels * kernel**2, rows * columns * LANES

    @njit
    def call(floats):
        dy = Map(at_gradient + (rows - 1) * columns * LANES, columns * LANES, plane)
        dx = Map(target, (columns + kernel - 1) * LANES, (columns + kernel - 1) * LANES)
        taps = convolution.Taps(address, 0, step, outputs, 0, kernel)
        convolution.input_gradient(kernel, columns, channels, floats, taps, dy, dx)

    call(memory.floats)
    expected = before.astype(np.float64)
    for ky in range(kernel):
        for kx in range(kernel):
            part = np.einsum("oxn,oc->cxn", gradient[:, rows - 1 - ky].astype(np.float64), weights[:, :, ky, kx])
            expected[:, kx : kx + columns] += part
    close(memory[2], expected)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("channels", [1, 3])
def test_input_gradient_maxpool(channels, kernel):
    outputs, size = 5, kernel + 1
    gradient, weights = random(outputs, 1, 1, LANES), random(outputs, channels, kernel, kernel)
    before = random(channels, size, size, LANES)
    choice = np.random.default_rng(1).integers(0, 4, (outputs, 1, 1, LANES))
    tables = np.zeros((outputs, channels, size, maxpool.ROW))
    tables[:, :, :kernel, 1 : kernel + 1] = tables[:, :, 1:, 9 : kernel + 9] = weights
    memory = Memory(gradient, tables, before, np.zeros((outputs, LANES // 4)))
    memory[3].view(np.uint8)[:] = np.array(maxpool.CODES, np.uint8)[choice].reshape(outputs, LANES)
    at_gradient, table, target, choices = memory.offsets

    @njit
    def call(floats):
        for i in range(size):
            dy = Map(at_gradient, LANES, LANES)
            dx = Map(target + i * size * LANES, size * LANES, size * size * LANES)
            row = maxpool.Table(table + i * maxpool.ROW, channels * size * maxpool.ROW, outputs)
            maxpool.input_gradient(kernel, channels, floats, dy, maxpool.Chosen(choices, 0, LANES), row, dx)

    call(memory.floats)
    full, expected = spread(gradient, choice), before.astype(np.float64)
    for y, x, ky, kx in np.ndindex(2, 2, kernel, kernel):
        expected[:, y + ky, x + kx] += np.einsum("on,oc->cn", full[:, y, x], weights[:, :, ky, kx])
    close(memory[2], expected)


@pytest.mark.parametrize("count", [1, 4, 12])
def test_dense(count):
    inputs, outputs, first = 7, 20, 5
    x, weights, bias, gradient = random(inputs, LANES), random(outputs, inputs), random(count), random(outputs, LANES)
    wide_weights = random(outputs, 20)
    memory = Memory(x, weights, bias, np.zeros((count, LANES)), gradient, wide_weights, np.zeros((count, LANES)))
    at_x, at_weights, at_bias, y, at_gradient, at_wide, x_gradient = memory.offsets
    address, wide_address = (memory.floats.ctypes.data + 4 * offset for offset in (at_weights, at_wide))

    @njit
    def call(floats):
        dense.dense(count, floats, Matrix(address, inputs, first), at_x, at_bias, y)
        wide = Matrix(wide_address, 20, first)
        dense.input_gradient(count, floats, wide, outputs, at_gradient, x_gradient)

    call(memory.floats)
    close(memory[3], weights[first : first + count] @ x.astype(np.float64) + bias[:, None])
    close(memory[6], wide_weights[:, first : first + count].T @ gradient.astype(np.float64))


@pytest.mark.parametrize("vectors", [4, 1])
def test_dense_weight_gradient(vectors):
    outputs = GRADIENT_OUTPUTS
    gradient, x, before = random(LANES, 9), random(LANES, vectors * LANES), random(outputs, vectors * LANES)
    memory = Memory(gradient, x, before)
    at_gradient, at_x, sums = memory.offsets

    @njit
    def call(floats):
        row = vectors * LANES
        dense.weight_gradient(vectors, floats, Rows(at_gradient, 9), Rows(at_x, row), Rows(sums, row))

    call(memory.floats)
    close(memory[2], before + gradient[:, :outputs].astype(np.float64).T @ x)


def test_transpose_and_sum_lanes():
    memory = Memory(random(LANES, LANES), np.zeros((LANES, LANES)), np.zeros(LANES))
    source, target, sums = memory.offsets

    @njit
    def call(floats, row):
        dense.transpose(floats, source, Rows(target, row))
        blocks.sum_lanes(floats, source, sums)

    call(memory.floats, LANES)
    np.testing.assert_array_equal(memory[1], memory[0].T)
    close(memory[2], memory[0].astype(np.float64).sum(axis=1))


def test_distances():
    inputs, outputs = 7, 3
    x, centres, gradient = random(inputs, LANES), random(outputs, inputs), random(outputs, LANES)
    memory = Memory(x, centres, gradient, np.zeros((outputs, LANES)), np.zeros((inputs, LANES)))
    at_x, at_centres, at_gradient, y, x_gradient = memory.offsets
    address = memory.floats.ctypes.data + 4 * at_centres

    @njit
    def call(floats):
        distances.distances(floats, Matrix(address, inputs, 0), outputs, at_x, y)
        matrix = Matrix(address, inputs, 0)
        distances.distances_backward(floats, matrix, outputs, at_x, at_gradient, x_gradient)

    call(memory.floats)
    gaps = centres[:, :, None] - x.astype(np.float64)  # (outputs, inputs, LANES)
    close(memory[3], -(gaps**2).sum(axis=1))
    close(memory[4], 2 * (gaps * gradient[:, None]).sum(axis=0))


@pytest.mark.parametrize(("mean", "std"), [(0, 1), (0.1307, 0.3081)])
def test_gathered_bytes_are_scaled_exactly(mean, std):
    pictures = np.random.default_rng(0).permuted(np.tile(np.arange(256, dtype=np.uint8), (LANES, 1)), axis=1)
    floats = ((pictures / np.float32(255)).astype(np.float32) - np.float32(mean)) / np.float32(std)
    memory = Memory(np.zeros((256, LANES)), np.zeros((256, LANES)))
    starts = np.random.default_rng(1).permutation(LANES) * 256
    bytes_address, floats_address = pictures.ctypes.data, floats.ctypes.data

    @njit
    def call(memory, starts):
        for pixel in range(0, 256, LANES):
            images.gather_bytes(memory, bytes_address, starts, pixel, pixel * LANES, np.float32(mean), np.float32(std))
            images.gather_floats(memory, floats_address, starts, pixel, (256 + pixel) * LANES + 16)

    call(memory.floats, starts)
    np.testing.assert_array_equal(memory[1], floats[starts // 256].T)
    np.testing.assert_array_equal(memory[0], memory[1])


@pytest.mark.parametrize("rubbish", [-np.inf, 30.0, -0.1])
def test_softmax(rubbish):
    logits = random(11, LANES) * 20
    memory = Memory(logits, np.zeros((11, LANES)), np.zeros((3, LANES)))
    at_logits, probabilities, scratch = memory.offsets

    @njit
    def call(floats):
        loss.softmax(floats, 11, np.float32(rubbish), at_logits, probabilities, scratch)

    call(memory.floats)
    base = np.maximum(logits.max(axis=0), np.float32(rubbish))
    shifted = np.exp(logits.astype(np.float64) - base)
    sums = shifted.sum(axis=0) + np.exp(np.float32(rubbish) - base.astype(np.float64))
    close(memory[1], shifted / sums)
    largest, shift, total = memory[2]
    np.testing.assert_array_equal(largest, logits.max(axis=0))
    np.testing.assert_array_equal(shift, base)
    close(total, sums)
