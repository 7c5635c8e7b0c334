"""Pictures (h, w) -> the same in other sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image


def shrink(grey: np.ndarray, longer: int) -> np.ndarray:
    """The picture, averaged down until its longer side has at most `longer` pixels."""
    scale = longer / max(grey.shape)
    return grey if scale >= 1 else resize(grey, [max(1, round(side * scale)) for side in grey.shape])


def resize(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """float32 (h, w) -> float32 of `shape`, each new pixel the mean of the old under it (enlarged: interpolated)."""
    height, width = shape
    smaller = height < values.shape[0] or width < values.shape[1]
    kernel = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(values).resize((width, height), kernel))
