"""Ink or a grey picture (h, w) -> uint8 (28, 28), scaled and positioned as in a data set.

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

_THIN, _NORMAL = 1.6, 2.4  # pixels, in the box of 20: the 5th percentile of the test strokes; their median

_NEAR = 0.05 * 255  # pixels this close to the background's grey are background (Xiao et al. 2017, section 2)
_BRIGHT = 250  # of 255; every image of Fashion-MNIST's test set has a pixel at least this bright


def lay(ink: np.ndarray) -> np.ndarray:
    """The ink (h, w), 0 to 255 -> uint8 (28, 28): its longer side 20 pixels, its centre of mass on pixel (14, 14)."""
    top, bottom, left, right = _bounds(ink)
    longer = max(bottom - top, right - left)
    if abs(longer - BOX) > 1:  # within one pixel it has that size already, and resampling would only blur it
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
    """The drawing's box in pixels: top, bottom, left, right; bottom and right are exclusive."""
    rows, columns = np.nonzero(ink > EDGE * 255)
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def _thicken(ink: np.ndarray, longer: int) -> np.ndarray:
    """The ink, with strokes that are thin for MNIST thickened: a fine pen would fade at 20 pixels."""
    # A stroke of width w has a contour of length 2 per area w; the contour's length is the total variation.
    contour = np.hypot(np.diff(ink, axis=0)[:, 1:], np.diff(ink, axis=1)[1:]).sum()
    thickness = 2 * ink.sum() / max(contour, 1) * BOX / longer
    if thickness >= _THIN:
        return ink
    grow = round((_NORMAL - thickness) * longer / BOX / 2)
    return extreme(np.pad(ink, grow), 2 * grow + 1, np.maximum)


def fit_clothing(grey: np.ndarray) -> np.ndarray:
    """A grey picture (h, w), 0 to 255, of one thing on a plain background -> uint8 (28, 28) as Fashion-MNIST has it.

    The steps of its authors (Xiao, Rasul, Vollgraf 2017, section 2): crop the margins, scale the longer side to 28
    pixels, centre the thing in a black square, invert a light background. Whether it is light is read off the picture's
    rim, so there must be some background around the thing. A picture of 28x28 pixels is in that form already; only a
    light background is inverted. Of the 10,000 test images 9,992 stay unchanged.

    Only a blank picture is refused: clothes may be compact or full of holes, sharp or soft, in one piece or several, so
    that the measures of `one_digit.py` would refuse some of them.

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
        top, left = (FIELD - height + 1) // 2, (FIELD - width + 1) // 2  # an odd pixel goes first, as in the data set
        ink = np.pad(ink, ((top, FIELD - height - top), (left, FIELD - width - left)))
    if ink.max() <= _NEAR:
        raise InputError("a blank picture: nothing stands out from its background")
    if ink.max() < _BRIGHT:
        ink = ink * (255 / ink.max())
    return np.rint(ink).clip(0, 255).astype(np.uint8)
