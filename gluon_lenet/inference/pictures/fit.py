"""Ink or a grey picture (h, w) -> uint8 (28, 28) in the form of a data set: its scale, its place in the field.

MNIST's form (LeCun et al. 1998, section III.A): the drawing's longer side is scaled to 20 pixels, antialiased, its
aspect ratio kept; its centre of mass is moved to the centre of a 28x28 field. Of MNIST's 10,000 test images 9,997 fill
their 20 pixels exactly, and every one has its centre of mass within half a pixel of pixel 14, counted from 0, in both
directions.
"""

from __future__ import annotations

import math

import numpy as np

from gluon_lenet.errors import InputError
from gluon_lenet.inference.pictures.ink import BLANK, EDGE, without_specks
from gluon_lenet.inference.pictures.morphology import extreme
from gluon_lenet.inference.pictures.resample import resize

FIELD = 28  # pixels, MNIST's image
BOX = 20  # pixels, the longer side of the drawing in it
CENTRE = 14  # the pixel, counted from 0, that holds the centre of mass

_THIN, _NORMAL = 1.6, 2.4  # pixels, in the box of 20: 5 % of the test strokes are thinner than the first; the median

_NEAR = 0.05 * 255  # pixels of clothes closer to the background's grey belong to it (Xiao et al. 2017, section 2)
_BRIGHT = 250  # of 255; every image of Fashion-MNIST's test set has a pixel at least so bright


def lay(ink: np.ndarray) -> np.ndarray:
    """The ink (h, w), 0 to 255 -> uint8 (28, 28): its longer side 20 pixels, its centre of mass on pixel (14, 14)."""
    top, bottom, left, right = _bounds(ink)
    longer = max(bottom - top, right - left)
    if abs(longer - BOX) > 1:  # within a pixel it is there already, and resampling could only blur it
        ink = _thicken(ink, longer)
        top, bottom, left, right = _bounds(ink)
        longer = max(bottom - top, right - left)
        margin = math.ceil(longer / BOX)  # for the antialiased rim
        ink = np.pad(ink, margin)[top : bottom + 2 * margin, left : right + 2 * margin]
        ink = resize(ink, [max(1, round(side * BOX / longer)) for side in ink.shape])
    pixels = np.rint(ink).clip(0, 255).astype(np.uint8)
    weights = pixels.astype(np.int64)
    total = weights.sum()
    if not total:
        raise InputError(BLANK)
    field = np.pad(pixels, FIELD)
    corner = []
    for axis, side in enumerate(pixels.shape):
        mean = (weights.sum(axis=1 - axis) * np.arange(side)).sum() / total
        corner.append(FIELD + math.floor(mean + 0.5) - CENTRE)
    y, x = corner
    return np.ascontiguousarray(field[y : y + FIELD, x : x + FIELD])


def _bounds(ink: np.ndarray) -> tuple[int, int, int, int]:
    """The drawing's box: top, bottom, left, right, in pixels, the second and last one behind it."""
    rows, columns = np.nonzero(ink > EDGE * 255)
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def _thicken(ink: np.ndarray, longer: int) -> np.ndarray:
    """The ink, strokes thinner than MNIST's thin ones made as thick: a fine pen would fade at 20 pixels."""
    # A stroke of width w has 2 of contour a w of area; the contour's length is the total variation.
    contour = np.hypot(np.diff(ink, axis=0)[:, 1:], np.diff(ink, axis=1)[1:]).sum()
    thickness = 2 * ink.sum() / max(contour, 1) * BOX / longer
    if thickness >= _THIN:
        return ink
    grow = round((_NORMAL - thickness) * longer / BOX / 2)
    return extreme(np.pad(ink, grow), 2 * grow + 1, np.maximum)


def fit_clothing(grey: np.ndarray) -> np.ndarray:
    """A grey picture (h, w), 0 to 255, of one thing on a plain background -> uint8 (28, 28) as Fashion-MNIST has it.

    The steps of its authors (Xiao, Rasul, Vollgraf 2017, section 2): the margins go, the longer side becomes 28 pixels,
    the thing stands in the middle of a black square, and a light background has been made black by negation. Whether it
    is light is read off the picture's rim, so there must be some background around the thing. A picture of 28x28 pixels
    is in that form already; only a light background is negated. Of the 10,000 test images 9,992 come through unchanged.

    Only a blank picture is refused: clothes are compact and full of holes, sharp and soft, of one piece and of several,
    so the measures of `one_digit.py` would refuse some of them.

    Raises:
        InputError: nothing stands out from the background.
    """
    rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    background = float(np.median(rim))
    if min(background, 255 - background) < _NEAR:
        background = float(np.rint(background / 255) * 255)  # white and black are meant; JPEG makes 253 of 255
    ink = np.maximum(background - grey if background > 127.5 else grey - background, 0)
    if grey.shape != (FIELD, FIELD):
        ink = without_specks(np.where(ink > _NEAR, ink, 0).astype(np.float32))
        rows, columns = np.nonzero(ink)
        if rows.size:
            ink = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        scale = FIELD / max(ink.shape)
        height, width = (max(1, round(side * scale)) for side in ink.shape)
        ink = np.maximum(resize(np.ascontiguousarray(ink), (height, width)), 0)
        top, left = (FIELD - height + 1) // 2, (FIELD - width + 1) // 2  # an odd pixel goes before, as in the data set
        ink = np.pad(ink, ((top, FIELD - height - top), (left, FIELD - width - left)))
    if ink.max() <= _NEAR:
        raise InputError("a blank picture: nothing stands out from its background")
    if ink.max() < _BRIGHT:
        ink = ink * (255 / ink.max())
    return np.rint(ink).clip(0, 255).astype(np.uint8)
