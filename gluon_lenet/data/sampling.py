"""uint8 images (n, h, w) and affine maps (n, 2, 3) -> uint8 images (n, h, w), sampled bilinearly; compiled by Numba.

The pixels are those of `GridGenerator` and `BilinearSampler` of MXNet, rounded: this computes in float32 and in float64
where MXNet does, in a fifth of the time. The last bit of MXNet's matrix product depends on the processor: with AVX-512,
up to 3 pixels in a million differ by 1 from these, without it none (four augmentations, 15.7 million pixels each).
These are the same everywhere.
"""

from __future__ import annotations

import numpy as np
from numba import njit

F32, F64 = np.float32, np.float64


@njit(cache=True, nogil=True, error_model="numpy")
def sample(images, matrices, result):
    """Write to `result`, uint8 (n, h, w), what the maps make of the images.

    A map, float32, takes a position (x, y, 1) in the result to the position (x, y) in the image; coordinates are -1 to
    1 from the centre of the first pixel to that of the last. Pixels from outside the image are background, 0, and so
    are those that have no position: where a map is not finite, or an image has one row or column.
    """
    n, height, width = images.shape
    room = (width + 2 + 31) // 32 * 32  # of a row: whole vectors, since what is left over is done number by number
    across, down = positions(room, width), positions(height, height)
    padded = np.zeros((height + 3, room + 1), np.uint8)
    quadruples = np.empty((height + 2, room), np.uint32)
    corners, flat = np.empty(room, np.uint32), quadruples.reshape(-1)
    near_x, near_y, pixels = np.empty(room, F32), np.empty(room, F32), np.empty(room, np.uint8)
    along_x, along_y = np.empty(room, F64), np.empty(room, F64)
    for k in range(n):
        gather_quadruples(images[k], padded, quadruples)
        (a, b, c), (d, e, f) = matrices[k]
        for x in range(room):
            along_x[x], along_y[x] = F64(a * across[x]), F64(d * across[x])
        for y in range(height):
            # MXNet's matrix product adds the second product before it is rounded
            rest = F64(b) * F64(down[y]), c, F64(e) * F64(down[y]), f
            locate(along_x, along_y, rest, (height, width), (corners, near_x, near_y))
            ink = np.uint32(0)
            for x in range(room):
                corners[x] = flat[corners[x]]
                ink |= corners[x]
            if ink:
                interpolate(corners, near_x, near_y, pixels)
                for x in range(width):
                    result[k, y, x] = pixels[x]
            else:
                result[k, y] = 0
    return result


@njit(inline="always")
def positions(count, size):
    """The coordinates of the first `count` pixels of `size`."""
    numbers = np.empty(count, F32)
    for i in range(count):
        numbers[i] = F32(-1) + F32(i) * F32(2.0 / (size - 1))
    return numbers


@njit
def gather_quadruples(image, padded, quadruples):
    """For each pixel, from one above and left of the image on, itself and those right, below and right below it.

    A position is thus read at once, and one outside the image as well. `padded` has room for the image with a row and a
    column of zeros before it, and two or more behind it.
    """
    height, width = image.shape
    for y in range(height):
        padded[y + 1, 1 : width + 1] = image[y]
    for y in range(height + 2):
        upper, lower, row = padded[y], padded[y + 1], quadruples[y]
        for x in range(len(row)):
            top = np.uint32(upper[x]) | np.uint32(upper[x + 1]) << np.uint32(8)
            bottom = np.uint32(lower[x]) | np.uint32(lower[x + 1]) << np.uint32(8)
            row[x] = top | bottom << np.uint32(16)


@njit
def locate(along_x, along_y, rest, size, row):
    """Where the pixels of a row of the result are in the image: their quadruples' numbers, and how near they are.

    The position of pixel i is (along_x[i] + rest[0] + rest[1], along_y[i] + rest[2] + rest[3]).
    """
    corners, near_x, near_y = row
    to_x, c, to_y, f = rest
    height, width = size
    one, half, columns = F32(1), F32(0.5), np.int32(len(corners))
    for i in range(len(corners)):
        x = F32(along_x[i] + to_x) + c
        y = F32(along_y[i] + to_y) + f
        # in pixels; -1, which `max` takes rather than NaN, and `width` are outside
        x = min(max(-one, (x + one) * F32(width - 1) * half), F32(width))
        y = min(max(-one, (y + one) * F32(height - 1) * half), F32(height))
        left, top = np.floor(x), np.floor(y)
        near_x[i] = one - (x - left)
        near_y[i] = one - (y - top)
        corners[i] = np.uint32((np.int32(top) + np.int32(1)) * columns + np.int32(left) + np.int32(1))


@njit
def interpolate(quadruples, near_x, near_y, result):
    """The pixels of a row of the result from the four around each, and from the share of the first of them."""
    for i in range(len(result)):
        four = np.int32(quadruples[i])
        top_left, top_right = F32(four & 255), F32((four >> 8) & 255)
        bottom_left, bottom_right = F64((four >> 16) & 255), F64((four >> 24) & 255)
        x, y = F64(near_x[i]), F64(near_y[i])
        top = F64(top_left * near_y[i] * near_x[i]) + F64(top_right * near_y[i]) * (1.0 - x)
        value = F32(top + bottom_left * (1.0 - y) * x + bottom_right * (1.0 - y) * (1.0 - x))
        result[i] = np.uint8(np.int32(F64(value) + 0.5))
