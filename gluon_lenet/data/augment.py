"""uint8 images (n, h, w) -> uint8 images (n, h, w), randomly rotated, scaled, sheared and shifted; for training."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from gluon_lenet.compat.threads import num_threads
from gluon_lenet.fields import NotNegative, Share


@dataclass(frozen=True)
class Augmentation:
    """Bounds of a random affine distortion: each amount is drawn uniformly from [-bound, bound], for each image.

    Sampling is bilinear; pixels from outside the image are background, 0.
    """

    rotation: NotNegative = 0.0  # degrees
    scale: Share = 0.0  # share of the size: 0.1 makes an image 10 % smaller to 10 % larger
    squeeze: Share = 0.0  # share of the size: wider and lower, or narrower and higher
    shear: NotNegative = 0.0  # sideways shift in pixels per row: slanted handwriting
    shift: NotNegative = 0.0  # pixels, in each direction
    flip: bool = False  # mirror half of the images left to right

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 (n, h, w) -> uint8 (n, h, w); the random amounts depend on `rng` and n only.

        The images are shared out among as many threads as MXNet has, if there are enough of them for that to pay.
        """
        # imported here: recipes, which hold an Augmentation, are read before Numba is loaded
        from gluon_lenet.data.sampling import sample

        images = np.ascontiguousarray(images)
        matrices, result = self.matrices(*images.shape, rng), np.empty_like(images)
        threads = min(num_threads(), images.size // _SHARE)
        if threads <= 1:
            return sample(images, matrices, result)
        own, *others = zip(*(np.array_split(array, threads) for array in (images, matrices, result)), strict=True)
        pool = _pool(num_threads() - 1, os.getpid())  # this thread does its own share
        try:
            pending = [pool.submit(sample, *share) for share in others]
        except RuntimeError:  # Python starts no threads when it ends, which this thread may outlast
            return sample(images, matrices, np.empty_like(images))  # a share may still be written
        sample(*own)
        for share in pending:
            share.result()
        return result

    def matrices(self, n: int, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """float32 (n, 2, 3): maps a position (x, y, 1) in the result to the position (x, y) in the image.

        Coordinates are -1 to 1 from the centre of the first pixel to that of the last.
        """
        rotation, scale, squeeze, shear, x, y, flip = rng.uniform(-1, 1, size=(7, n))
        angle, larger, wider = np.radians(self.rotation) * rotation, 1 + self.scale * scale, 1 + self.squeeze * squeeze
        mirror = np.where(flip < 0, -1, 1) if self.flip else 1
        across, down = mirror / (larger * wider), wider / larger
        cos, sin = np.cos(angle), np.sin(angle)
        slant = self.shear * shear
        # the inverse of: scale and squeeze, then shear, then rotate, then shift
        matrices = np.array(
            [
                [across * (cos + slant * sin), across * (sin - slant * cos), 2 * self.shift * x / (width - 1)],
                [down * -sin, down * cos, 2 * self.shift * y / (height - 1)],
            ]
        )
        return matrices.transpose(2, 0, 1).astype(np.float32)


_SHARE = 2**15  # pixels for each thread at least: to hand them over takes as long


@functools.cache  # to start threads for each part of an epoch would cost an eighth of the time
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads of this process: one that is forked from it has none of them."""
    return ThreadPoolExecutor(threads)


HANDWRITING = Augmentation(rotation=25, scale=0.12, shear=0.15, shift=1.4)
# The paper names these (section III.B): shifts, scaling, squeezing, horizontal shearing; the bounds are ours.
LECUN_1998 = Augmentation(scale=0.1, squeeze=0.1, shear=0.2, shift=1.5)
CLOTHING = Augmentation(shift=1.5, scale=0.06, flip=True)
