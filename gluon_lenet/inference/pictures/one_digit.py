"""The ink of a user's picture -> an error if it cannot be a drawing of one digit.

A net assigns every picture to one of its ten classes, often with a high probability: a gradient is a 1, a page of text
a 4. So nine simple measures of the ink are checked against limits before the net sees it. The limits were chosen from
MNIST's training images, in the forms users have them, on the one hand, and gradients, pages of text, noise and dots on
the other: `PYTHONPATH=. python tests/helpers/not_digits.py --choose` prints what these measure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gluon_lenet.errors import InputError
from gluon_lenet.inference.pictures.morphology import label

_INK = 127  # of 255; darker pixels belong to a stroke
_SPECK = 0.02  # of the largest mark's pixels; smaller marks are not counted
_TALL = 0.7  # of the drawing's height


class Drawing:
    """Ink, float (h, w), 0 to 255, and its measures; lengths are fractions of the drawing's longer side."""

    def __init__(self, ink: np.ndarray):
        self.ink, self.strokes = ink, ink > _INK
        rows, columns = (np.nonzero(self.strokes.any(axis=axis))[0] for axis in (1, 0))
        if not rows.size:
            raise InputError("a blank picture: its drawing is too faint")
        self.box = self.strokes[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # bool (height, width)
        self.height, self.width = self.box.shape
        self.size = max(self.box.shape)  # in pixels

    @cached_property
    def marks(self) -> np.ndarray:
        """Height and width of each connected mark, in pixels: int (n, 2)."""
        labels = label(self.box)
        pixels = np.bincount(labels.ravel())
        pixels[0] = 0  # the background
        sides = []
        for places in np.indices(self.box.shape):
            first, last = np.full(len(pixels), self.size), np.zeros(len(pixels), dtype=int)
            np.minimum.at(first, labels, places)
            np.maximum.at(last, labels, places)
            sides.append(last - first + 1)
        return np.stack(sides, axis=1)[pixels > _SPECK * pixels.max()]

    @property
    def longest_mark(self) -> float:
        """The longer side of the longest mark."""
        return self.marks.max() / self.size

    @property
    def aspect(self) -> float:
        """Width / height."""
        return self.width / self.height

    @property
    def tall_marks(self) -> int:
        """The number of marks nearly as tall as the whole drawing."""
        return int((self.marks[:, 0] >= _TALL * self.height).sum())

    @property
    def row_of_marks(self) -> float:
        """Width / height of two or more tall marks; 0 if there are fewer."""
        return self.aspect if self.tall_marks > 1 else 0.0

    @property
    def crossings(self) -> float:
        """The number of strokes that a horizontal line crosses on average, plus the same for a vertical line."""
        down, across = ((np.diff(np.pad(self.box, 1).astype(np.int8), axis=axis) == 1).sum() for axis in (0, 1))
        return down / self.width + across / self.height

    @property
    def blot(self) -> float:
        """The side of the largest square full of ink."""
        sums = np.pad(self.box.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
        fits, too_large = 0, min(self.box.shape) + 1
        while too_large - fits > 1:
            side = (fits + too_large) // 2
            inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
            if inside.max() == side * side:
                fits = side
            else:
                too_large = side
        return fits / self.size

    @property
    def sharpness(self) -> float:
        """The median slope of the ink at the edges of strokes, in full ink per longer side."""
        slopes = []
        for axis in (0, 1):
            edges = np.diff(self.strokes, axis=axis)
            slopes.append(np.abs(np.diff(self.ink, axis=axis))[edges])
        slopes = np.concatenate(slopes)
        return float(np.median(slopes)) / 255 * self.size if slopes.size else 0.0

    @property
    def along_the_rim(self) -> float:
        """The length of ink along the side of the picture that has most."""
        sides = self.strokes[0], self.strokes[-1], self.strokes[:, 0], self.strokes[:, -1]
        return max(side.sum() for side in sides) / self.size


@dataclass(frozen=True)
class Limit:
    """The range of a measure for drawings of a digit, and the message for a drawing outside it."""

    measure: Callable[[Drawing], float]
    least: float
    most: float
    says: Callable[[Drawing], str]


def _says_marks(drawing: Drawing) -> str:
    return f"{len(drawing.marks)} separate marks"


LIMITS = {  # the first one that is violated is reported
    "size": Limit(lambda d: d.size, 8, np.inf, lambda d: f"its ink is {d.width} x {d.height} pixels large"),
    "rim": Limit(lambda d: d.along_the_rim, 0, 0.85, lambda d: "its ink lies along the picture's edge"),
    "sharpness": Limit(lambda d: d.sharpness, 5, np.inf, lambda d: "soft shades without strokes"),
    "marks": Limit(lambda d: len(d.marks), 1, 5, _says_marks),
    "longest mark": Limit(lambda d: d.longest_mark, 0.4, 1, _says_marks),
    "row of marks": Limit(lambda d: d.row_of_marks, 0, 1.25, lambda d: f"{d.tall_marks} marks side by side"),
    "aspect": Limit(lambda d: d.aspect, 0, 2.2, lambda d: f"its ink is {d.aspect:.1f} times as wide as high"),
    "crossings": Limit(lambda d: d.crossings, 0, 5.2, lambda d: "too many strokes"),
    "blot": Limit(lambda d: d.blot, 0, 0.5, lambda d: "a filled shape without strokes"),
}


def check_one_digit(ink: np.ndarray) -> None:
    """Check whether the ink, float (h, w), 0 to 255, may be a drawing of one digit.

    Raises:
        InputError: it cannot be; the message says why, and what to draw.
    """
    drawing = Drawing(ink)
    for limit in LIMITS.values():
        if not limit.least <= limit.measure(drawing) <= limit.most:
            raise InputError(
                f"this is not a drawing of one digit: {limit.says(drawing)}; draw one digit, dark on light"
            )
