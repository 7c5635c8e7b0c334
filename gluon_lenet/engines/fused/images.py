"""LANES images, uint8 or float32, -> the first layer's padded input (channels, h, w, LANES)."""

from __future__ import annotations

import numpy as np
from numba import njit

from gluon_lenet.engines.fused.memory import FLOAT32, at_address, fill
from gluon_lenet.engines.fused.sizes import LANES, ROUNDS_ONCE
from gluon_lenet.engines.fused.vectors import Address, Float, Floats, Int, Ints, tile, transposed, vector


def _divide(x, divisor, reciprocal):
    """x / divisor, correctly rounded: the product with the reciprocal, and the rest of that division on top."""
    if not ROUNDS_ONCE:
        return x / divisor
    quotient = x * reciprocal
    rest = (-quotient).times_plus(divisor, x)
    return rest.times_plus(reciprocal, quotient)


@tile
def gather_bytes(memory: Floats, images: Address, starts: Ints, pixel: Int, target: Int, mean: Float, std: Float):
    """LANES pixels of each of LANES uint8 images -> one vector of memory per pixel: (pixel / 255 - mean) / std.

    The images begin `starts[lane]` bytes after the address; the pixels are those from `pixel` on.
    """
    source = images.bytes()
    rows = [source.load(starts.number(lane) + pixel) for lane in range(LANES)]
    one_std = 1 / std
    for i, column in enumerate(transposed(rows)):
        share = _divide(column.bytes_to_float(), vector(255), vector(1 / 255))
        memory.store(target + i * LANES, _divide(share - mean, std, one_std))


@tile
def gather_floats(memory: Floats, images: Address, starts: Ints, pixel: Int, target: Int):
    """LANES pixels of each of LANES float32 images -> LANES vectors of memory; `starts` counts floats."""
    source = images.floats()
    rows = [source.load(starts.number(lane) + pixel) for lane in range(LANES)]
    for i, column in enumerate(transposed(rows)):
        memory.store(target + i * LANES, column)


@njit
def read(memory, task, starts, pixels):
    """Gather LANES images of `pixels` floats or bytes, which begin at `starts`, into the first layer's input."""
    mean, std = np.float32(task.mean), np.float32(task.std)
    for first in range(0, pixels, LANES):
        pixel = min(first, pixels - LANES)  # the last LANES pixels may overlap those before
        target = task.staging + pixel * LANES
        if task.is_float:
            gather_floats(memory, task.images, starts, pixel, target)
        else:
            gather_bytes(memory, task.images, starts, pixel, target, mean, std)


@njit
def pad(memory, task):
    """Write the background wherever the images, with `pad` pixels around them, will be in the first layer's input."""
    height, length = task.height + 2 * task.pad, (task.width + 2 * task.pad) * LANES
    for channel in range(task.channels):
        for y in range(height):
            at = task.first_pixel + channel * task.image_plane + y * task.image_row
            fill(memory, at, length, -np.float32(task.mean) / np.float32(task.std))


@njit
def move_inside(memory, task):
    """Copy the images from `staging`, where they are close together, inside the first layer's padded input."""
    source, length = task.staging, task.width * LANES
    corner = task.first_pixel + task.pad * (task.image_row + LANES)
    for channel in range(task.channels):
        for y in range(task.height):
            at = corner + channel * task.image_plane + y * task.image_row
            to, line = memory[at : at + length], memory[source : source + length]
            for i in range(length):
                to[i] = line[i]
            source += length


@njit
def write_gradient(memory, layer, task, start, count):
    """The gradient of the images of the batch from `start` on -> `task.image_gradient`; the images have no `pad`."""
    size = task.channels * task.height * task.width
    gradient = at_address(FLOAT32, task.image_gradient + start * size * 4, count * size)
    corner, pixel = task.first_pixel - layer.input + layer.input_gradient, 0
    for channel in range(task.channels):
        for y in range(task.height):
            for x in range(task.width):
                at = corner + channel * task.image_plane + y * task.image_row + x * LANES
                for lane in range(count):
                    gradient[lane * size + pixel] = memory[at + lane]
                pixel += 1
