"""Pictures (h, w) -> resized pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image


def shrink(grey: np.ndarray, longer: int) -> np.ndarray:
    """The picture, downscaled by averaging to a longer side of at most `longer` pixels."""
    scale = longer / max(grey.shape)
    return grey if scale >= 1 else resize(grey, [max(1, round(side * scale)) for side in grey.shape])


def resize(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """float32 (h, w) -> float32 of `shape`; by averaging if a side shrinks, else by bicubic interpolation."""
    height, width = shape
    smaller = height < values.shape[0] or width < values.shape[1]
    kernel = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(values).resize((width, height), kernel))
