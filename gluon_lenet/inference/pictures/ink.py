"""A grey picture (h, w), dark on light or light on dark -> the drawing's ink, 0 to 255, without noise and specks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import ImageFilter

from gluon_lenet.errors import InputError
from gluon_lenet.inference.pictures.decode import WORKING
from gluon_lenet.inference.pictures.morphology import extreme, label, rank_filter
from gluon_lenet.inference.pictures.resample import shrink

BLANK = "a blank picture: no drawing stands out from its background"
EDGE = 0.1  # of full ink; what is fainter does not widen the drawing's box
SMALL = 28  # pixels, the longer side; in a picture this small every pixel counts

_MIN_CONTRAST = 10  # of 255; fainter marks are dirt or noise
_UNEVEN = 12  # of 255; a background whose parts differ by more is unevenly lit
_FULL = 230  # of 255; ink darker than this is not stretched, so that MNIST's own images stay unchanged
_FAINT = 0.3  # of full ink; in a photo, fainter pixels are not strokes
_SPECK = 0.02  # of the largest stroke's pixels; smaller spots are dirt


def ink_of(grey: np.ndarray) -> np.ndarray:
    """A grey picture (h, w), 0 to 255, dark on light or light on dark -> the drawing's ink, 0 to 255; background 0.

    Returns:
        float32, of the picture's shape, or downscaled to a longer side of `WORKING` pixels.

    Raises:
        InputError: not two-dimensional, without pixels, outside 0 to 255, or blank.
    """
    grey = np.asarray(grey, dtype=np.float32)
    if grey.ndim != 2 or not grey.size:
        raise InputError(f"a picture of shape {grey.shape}; it must be (height, width), both at least 1")
    if not np.isfinite(grey).all():
        raise InputError("a picture with pixels that are not numbers")
    if grey.min() < 0 or grey.max() > 255:
        raise InputError(f"a picture with pixels from {grey.min():g} to {grey.max():g}; they must be 0 to 255")
    return _ink(shrink(grey, WORKING))


def _ink(grey: np.ndarray) -> np.ndarray:
    """Grey (h, w) -> the drawing's ink, float32 (h, w), 0 to 255; background 0.

    The background and the polarity are detected: an image and its negative give the same ink.

    Raises:
        InputError: nothing stands out from the background.
    """
    sides = (grey[0], grey[-1], grey[:, 0], grey[:, -1])
    rim = np.concatenate(sides)
    difference = grey - np.median(rim)
    share = np.mean(np.abs(difference) <= _UNEVEN)  # similar to the rim: paper, unless the rim is a table or a frame
    # A drawing cropped to its strokes leaves little paper; a table around a photo's paper is less than half of it.
    if (share > 1 / 3 and _is_drawn(rim)) or (share > 0.45 and _is_even(sides)):
        # Strokes are few pixels with a large difference, so the third moment has their sign.
        sign = -1 if (difference.astype(np.float64) ** 3).sum() < 0 else 1
        return without_specks(_stretch(sign * difference))
    return _photo_ink(rank_filter(grey, ImageFilter.MedianFilter(3)))


def _is_drawn(rim: np.ndarray) -> bool:
    """Whether half of the rim's pixels have one colour, as drawn by a program or scanned; a camera adds noise."""
    return bool(np.mean(np.abs(rim - np.median(rim)) <= 1) > 0.5)


def _is_even(sides: Sequence[np.ndarray]) -> bool:
    """Whether the rim is equally light in every third of each of its four sides."""
    thirds = [np.median(side[: len(side) // 3 * 3].reshape(3, -1), axis=1) for side in sides if len(side) >= 3]
    return not thirds or bool(np.ptp(thirds) <= _UNEVEN)


def _photo_ink(grey: np.ndarray) -> np.ndarray:
    """As `_ink`, for an uneven background: paper lit from one side, the edge of a shadow, a table around the paper.

    The background is the picture without anything narrower than a quarter of it: for dark ink its morphological
    closing, which keeps slopes and edges in place. Whether the ink is dark is decided around the strokes: most of that
    is paper, so most pixels there are closer to the lightest than to the darkest.
    """
    size = max(grey.shape) // 4
    lightest, darkest = extreme(grey, size, np.maximum), extreme(grey, size, np.minimum)
    span = lightest - darkest
    near = span >= span.max() / 2
    paper_is_light = np.mean(2 * grey[near] > (lightest + darkest)[near]) > 0.5
    background = extreme(lightest, size, np.minimum) if paper_is_light else extreme(darkest, size, np.maximum)
    difference = background - grey if paper_is_light else grey - background
    return without_specks(_stretch(difference - np.median(difference)), photo=True)


def _stretch(difference: np.ndarray) -> np.ndarray:
    """The pixels' difference from the background, positive for ink -> ink, 0 to 255, without noise.

    Raises:
        InputError: nothing stands out.
    """
    # The standard deviation of the noise, assumed Gaussian, from the pixels on the side away from the ink.
    noise = 1.4826 * float(np.median(-difference[difference <= 0])) if (difference <= 0).any() else 0.0
    ink = np.maximum(difference, 0)
    strokes = ink[ink >= _otsu(ink)]
    contrast = float(strokes.mean()) if strokes.size else 0.0
    if contrast < max(_MIN_CONTRAST, 3 * noise):
        raise InputError(BLANK)
    floor = min(3 * noise, contrast / 2)
    full = float(np.percentile(strokes, 99))
    if floor or full < _FULL:
        ink = np.clip((ink - floor) * (255 / (full - floor)), 0, 255)
    return ink


def _otsu(values: np.ndarray) -> float:
    """The threshold that splits the values, 0 to 255, with the largest variance between the classes (Otsu 1979)."""
    counts = np.bincount(values.astype(np.uint8).ravel(), minlength=256)
    weights = counts.cumsum()[:-1].astype(np.float64)
    sums = (counts * np.arange(256)).cumsum().astype(np.float64)
    rest = counts.sum() - weights
    with np.errstate(divide="ignore", invalid="ignore"):
        between = weights * rest * (sums[:-1] / weights - (sums[-1] - sums[:-1]) / rest) ** 2
    return float(np.nan_to_num(between).argmax() + 1)  # values below it are the lower class


def without_specks(ink: np.ndarray, photo: bool = False) -> np.ndarray:
    """The ink (h, w) of the drawing, without spots far smaller than its largest stroke.

    In a photo, faint ink is removed too, and strokes that touch the rim (a table, a shadow, the next word) if others
    remain.
    """
    if max(ink.shape) <= SMALL:
        return ink  # one pixel may be the end of a stroke, as in 168 of MNIST's 10,000 test images
    labels = label(ink > 255 * (_FAINT if photo else EDGE))
    sizes = np.bincount(labels.ravel(), weights=ink.ravel() > 127)  # of each spot, counting pixels above half ink
    sizes[0] = 0
    if photo:
        inside = sizes.copy()
        inside[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = 0
        if inside.max() > _SPECK * sizes.max():
            sizes = inside
    kept = sizes > _SPECK * sizes.max()
    if not kept.any():
        raise InputError(BLANK)
    if kept[1:].all() and not photo:
        return ink
    drawing = rank_filter(kept[labels], ImageFilter.MaxFilter(3))  # the antialiased rim of a stroke belongs to it
    return np.where(drawing, ink, 0)
