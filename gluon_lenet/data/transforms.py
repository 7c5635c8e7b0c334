"""uint8 images (b, 28, 28) -> float32 batches (b, 1, h, w) in [0, 1]; shared by training and prediction."""

from __future__ import annotations

import mxnet as mx
import numpy as np
from mxnet import nd


def to_batch(images: np.ndarray, resize: int | None = None, ctx: mx.Context | None = None) -> nd.NDArray:
    """Grey images as a net takes them.

    Args:
        images: uint8 (b, h, w), 0 is black.
        resize: side in pixels of the square the images are resized to (bilinear, on the uint8 pixels, as the book's
            `transforms.Resize` does); None keeps their size.
        ctx: where the batch is computed; the CPU by default.

    Returns:
        float32 (b, 1, h, w), the pixels divided by 255.
    """
    pixels = nd.array(images[..., None], dtype=np.uint8, ctx=ctx or mx.cpu())  # (b, h, w, 1), as MXNet's image ops want
    if resize is not None:
        pixels = nd.image.resize(pixels, size=(resize, resize))
    return nd.image.to_tensor(pixels)
