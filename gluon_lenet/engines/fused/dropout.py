"""Dropout: an output -> the same with random numbers of it 0, and the rest larger; and its gradient.

Whether a number is dropped is a hash of the batch's seed, the layer, the image's place in the batch and the number's
place in the output: the same for any number of threads, in the backward pass, and when a run is resumed. They are not
the numbers that MXNet drops, whose generator has one sequence for all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from gluon_lenet.engines.fused.sizes import LANES
from gluon_lenet.engines.fused.vectors import Float, Floats, Int, Value, integers, lane_numbers, loop, tile, vector

CHANCES = 1 << 32  # `layer.dropout` is the probability of being dropped, times this


class Draw(NamedTuple):
    """What the random numbers of a map depend on: a key of batch and layer, lane 0's image, the map's first number."""

    key: Int
    image: Int
    number: Int


def _hashed(bits: Value) -> Value:
    """int32 -> int32, every bit of which depends on all bits: the last step of MurmurHash3 (Appleby 2008)."""
    bits = (bits ^ bits.shifted_right(16)) * 0x85EBCA6B
    bits = (bits ^ bits.shifted_right(13)) * 0xC2B2AE35
    return bits ^ bits.shifted_right(16)


@tile
def drop(memory: Floats, count: Int, y: Int, draw: Draw, threshold: Int, scale: Float):
    """`count` vectors side by side at y: 0 where the hash is below the threshold, times `scale` elsewhere."""
    images, limit = _hashed((integers(draw.image) + lane_numbers()) ^ integers(draw.key)), integers(threshold)
    with loop(count) as i:
        bits = _hashed(images ^ (integers(draw.number + i) * 0x9E3779B1))
        at = y + i * LANES
        memory.store(at, vector(0).where(bits.is_below(limit), memory.load(at) * scale))


@njit
def forward(memory, layer, task, start):
    """Drop numbers of the layer's output, for the block that begins with image `start` of the batch."""
    if layer.dropout > 0 and task.drops:
        scale = np.float32(CHANCES / (CHANCES - layer.dropout))
        drop_map(memory, layer, key_of(task, layer), start, layer.output, (layer.dropout, scale))


@njit
def backward(memory, layer, task, start):
    """Drop the same numbers of the output's gradient, and make the rest of the output what the activation gave."""
    if layer.dropout > 0 and task.drops:
        scale = np.float32(CHANCES / (CHANCES - layer.dropout))
        drop_map(memory, layer, key_of(task, layer), start, layer.output_gradient, (layer.dropout, scale))
        drop_map(memory, layer, key_of(task, layer), start, layer.output, (0, np.float32(1) / scale))


@njit
def drop_map(memory, layer, key, start, at, how):
    """`drop` everywhere in the map at `at`, which is laid out as the layer's output; `how`: (threshold, scale)."""
    for o in range(layer.outputs):
        for y in range(layer.pooled_height):
            draw = Draw(key, start, (o * layer.pooled_height + y) * layer.pooled_width)
            place = at + o * layer.output_plane + y * layer.output_row
            drop(memory, layer.pooled_width, place, draw, how[0], how[1])


@njit
def key_of(task, layer):
    """A key of the batch and the layer."""
    return (task.seed + layer.number * 0x9E3779B1) * 0x85EBCA6B
