"""One image -> receptive fields side by side, one in each lane, as if each were a small image.

In a block of a single image, all lanes would compute the same. Here a lane computes one pixel of the last pooled map
instead, from all of the image that this pixel depends on: neighbours compute some pixels in between twice, but for the
chapter's net that is an eighth of the work. Each number is the sum of the same terms in the same order, so the logits
are those of a full block, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from numba import njit

from gluon_lenet.engines.fused.memory import fill
from gluon_lenet.engines.fused.reading import Step
from gluon_lenet.engines.fused.sizes import LANES
from gluon_lenet.engines.fused.tables import CONVOLUTION, NO_POOLING


def field_steps(steps: Sequence[Step]) -> list[Step]:
    """The net's first steps, as many as pay, for a receptive field of one pixel of the last one's map.

    Only the image may have something around it, since a field in its middle has its neighbours around it. So the steps
    end before a convolution with padding, and before one without pooling.
    """
    depth = 0
    while depth < len(steps) and _fits(steps[depth], depth == 0):
        depth += 1
    prefixes = [_of_one_pixel(steps[:count]) for count in range(depth + 1)]
    return min(prefixes, key=lambda fields: _work(fields, steps))


def _fits(step: Step, is_first: bool) -> bool:
    if step.kind != CONVOLUTION or step.pooling == NO_POOLING:
        return False
    return is_first or step.padded == step.in_shape[1:]


def _of_one_pixel(steps: Sequence[Step]) -> list[Step]:
    """The steps, for an input so small that one pixel is left of it after the last."""
    fields, height, width = [], 1, 1
    for step in reversed(steps):
        pooled, height, width = (height, width), 2 * height, 2 * width
        down, across = (step.kernel * patches for patches in step.patches)
        padded = height + down - 1, width + across - 1
        channels, outputs = step.in_shape[0], step.out_shape[0]
        fields.append(
            replace(
                step,
                in_shape=(channels, *padded),
                out_shape=(outputs, *pooled),
                height=height,
                width=width,
                padded=padded,
                padding=(0, 0),
            )
        )
        height, width = padded
    return fields[::-1]


def _work(fields: list[Step], steps: Sequence[Step]) -> int:
    """How many products of vectors, about, the convolutions of one image take if the first steps are `fields`."""
    work = sum(_products(step) for step in steps[len(fields) :])
    if fields:
        blocks = -(-prod(steps[len(fields) - 1].out_shape[1:]) // LANES)
        copied = 2 * LANES * prod(fields[0].in_shape)  # float by float
        work += blocks * (copied + sum(_products(field) for field in fields))
    return work


def _products(step: Step) -> int:
    if step.kind != CONVOLUTION:
        return 0
    return step.height * step.width * step.out_shape[0] * step.in_shape[0] * prod(step.patches) * step.kernel**2


@njit
def gather(memory, whole, field, last, pixel, stride):
    """The fields of LANES pixels of the last layer's map, row by row from number `pixel` on -> the field's input.

    `whole` is the net's first layer, whose input has the image in every lane; from a pixel of the map to the next it is
    `stride` pixels there.
    """
    height, width = field.input_plane // field.input_row, field.input_row // LANES
    for lane in range(LANES):
        y, x = divmod(min(pixel + lane, last.pooled_height * last.pooled_width - 1), last.pooled_width)
        corner = whole.input + y * stride * whole.input_row + x * stride * LANES
        for channel in range(whole.inputs):
            for row in range(height):
                source = corner + channel * whole.input_plane + row * whole.input_row
                target = field.input + channel * field.input_plane + row * field.input_row + lane
                for column in range(width):
                    memory[target + column * LANES] = memory[source + column * LANES]


@njit
def scatter(memory, field, last, pixel):
    """The pixels of the last field -> their places in the last layer's output, in every lane."""
    for lane in range(min(LANES, last.pooled_height * last.pooled_width - pixel)):
        y, x = divmod(pixel + lane, last.pooled_width)
        for o in range(last.outputs):
            at = last.output + o * last.output_plane + y * last.output_row + x * LANES
            fill(memory, at, LANES, memory[field.output + o * field.output_plane + lane])
