"""uint8 images (b, 28, 28) -> float32 batches (b, 1, h, w); shared by training and prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gluon_lenet.fields import Number, Pixels, Positive

# MXNet is imported where it is used: recipes, which hold a Transform, are read before MXNet is loaded.
if TYPE_CHECKING:
    import mxnet as mx
    from mxnet import nd


@dataclass(frozen=True)
class Transform:
    """The preprocessing of a net's input: resize, pad, divide by 255, then `(x - mean) / std`."""

    resize: Pixels | None = None  # side in pixels; bilinear on the uint8 pixels, like the book's `transforms.Resize`
    pad: Pixels = 0  # pixels of background on each side
    mean: Number = 0.0
    std: Positive = 1.0

    def image_shape(self, images: np.ndarray) -> tuple[int, int, int]:
        """Shape (1, h, w) of one transformed image, for uint8 images (b, h, w)."""
        height, width = (self.resize, self.resize) if self.resize else images.shape[1:]
        return 1, height + 2 * self.pad, width + 2 * self.pad

    def describe(self) -> str:
        """Its steps in words, for people who must do the same to their images."""
        steps = [f"resized to {self.resize} x {self.resize} pixels (bilinear)"] if self.resize else []
        steps += [f"{self.pad} pixels of background added on each side"] if self.pad else []
        steps += ["divided by 255"]
        steps += [] if (self.mean, self.std) == (0, 1) else [f"minus {self.mean:.6g}, divided by {self.std:.6g}"]
        return ", then ".join(steps)

    def resized(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, h, w) -> uint8 (n, resize, resize); the images themselves if `resize` is None."""
        if self.resize is None:
            return images
        import mxnet as mx
        from mxnet import nd

        result = np.empty((len(images), self.resize, self.resize), np.uint8)
        for start in range(0, len(images), 1000):  # in parts: the memory for MXNet's copies must not grow with n
            part = nd.array(images[start : start + 1000, :, :, None], dtype=np.uint8, ctx=mx.cpu())  # (1000, h, w, 1)
            result[start : start + 1000] = nd.image.resize(part, size=(self.resize, self.resize)).asnumpy()[..., 0]
        return result

    def __call__(self, images: np.ndarray, ctx: mx.Context | None = None) -> nd.NDArray:
        """Grey images uint8 (b, h, w), background 0 -> batch float32 (b, 1, h, w); on the CPU by default."""
        import mxnet as mx
        from mxnet import nd

        images = self.resized(images)
        if self.pad:
            images = np.pad(images, ((0, 0), (self.pad, self.pad), (self.pad, self.pad)))
        pixels = nd.array(images[..., None], dtype=np.uint8, ctx=ctx or mx.cpu())  # (b, h, w, 1), for MXNet's image ops
        batch = nd.image.to_tensor(pixels)
        return batch if (self.mean, self.std) == (0, 1) else (batch - self.mean) / self.std
