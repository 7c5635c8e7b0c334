"""A user's picture, of any size, colour and polarity -> uint8 (28, 28) in the form of a data set: 0 is background.

    file -> header checked -> decoded, made upright, downscaled -> grey                     decode.py
         -> ink: how far each pixel is from the background under it, on the ink's side      ink.py
         -> the drawing: noise and specks removed
         -> checked: it may be one digit                                                    one_digit.py
         -> scaled and positioned as in the data set                                        fit.py

A new form is one entry of FORMS, named by its data sets' entries (data/catalogue.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gluon_lenet.errors import InputError, printable
from gluon_lenet.inference.pictures.decode import MAX_PIXELS, read_grey
from gluon_lenet.inference.pictures.fit import FIELD, fit_clothing, lay
from gluon_lenet.inference.pictures.ink import BLANK, ink_of
from gluon_lenet.inference.pictures.one_digit import check_one_digit


def read_digit(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The drawing in a PNG, JPEG, BMP, GIF or WebP file (the first frame of an animation), in MNIST's form.

    Colour, grey, palette, 1 and 16 bits, CMYK, transparency and EXIF's rotation are supported.

    Args:
        path: a regular file.
        max_pixels: a picture of more pixels is refused before it is decoded.

    Returns:
        uint8 (28, 28): 0 is background, 255 full ink.

    Raises:
        InputError: the file is missing, unreadable, empty, not an image, truncated, broken, of 0 pixels, too large,
            blank, or not a drawing of one digit; one line that begins with the path.
    """
    name = printable(os.fsdecode(path))
    try:
        ink = ink_of(read_grey(path, max_pixels))
        check_one_digit(ink)
        return lay(ink)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def normalize_digit(grey: np.ndarray) -> np.ndarray:
    """A grey picture (h, w), 0 to 255, dark on light or light on dark -> its drawing, uint8 (28, 28) as MNIST has it.

    A picture already in MNIST's form comes through as it is, and its negative with the same pixels. Whether it shows a
    digit is not checked.

    Raises:
        InputError: as `ink_of`.
    """
    return lay(ink_of(grey))


def read_clothing(path: str | os.PathLike) -> np.ndarray:
    """A picture of a piece of clothing in an image file -> uint8 (28, 28) in Fashion-MNIST's form, background 0.

    Reads the same formats as `read_digit`.

    Raises:
        InputError: as `read_digit`.
    """
    try:
        return fit_clothing(read_grey(path, MAX_PIXELS))
    except InputError as error:
        raise InputError(f"{printable(os.fsdecode(path))}: {error}") from None


def read_drawing(path: str | os.PathLike) -> np.ndarray:
    """Any drawing in an image file -> uint8 (28, 28) in MNIST's form, without a check whether it shows a digit.

    Reads the same formats as `read_digit`. A picture that is 28x28 with background 0 already is taken as it is.

    Raises:
        InputError: as `read_digit`, for a picture that cannot be read or is blank.
    """
    return read_labelled(path, "drawing")


def read_labelled(path: str | os.PathLike, form: str) -> np.ndarray:
    """A picture whose class is known -> uint8 (28, 28) in the form of a data set.

    A picture of 28x28 pixels with background 0, as MNIST's own and a drawing saved from the page are, is taken as it
    is: not one pixel changes. Any other one is prepared as `predict` prepares it, but for the check whether it is a
    drawing of one digit, since whoever sorted it into a class says what it is.

    Args:
        path: a regular file of a format that `read_digit` reads.
        form: a name in FORMS.

    Raises:
        InputError: it cannot be read, is too large, or blank; one line that begins with the path.
    """
    try:
        grey = read_grey(path, MAX_PIXELS)
        if grey.shape != (FIELD, FIELD) or np.median(_rim(grey)) != 0:
            return FORMS[form].normalize(grey)
        if not grey.any():
            raise InputError(BLANK)
        return np.rint(grey).astype(np.uint8)
    except InputError as error:
        raise InputError(f"{printable(os.fsdecode(path))}: {error}") from None


def _rim(grey: np.ndarray) -> np.ndarray:
    """The pixels of the picture's edge."""
    return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


@dataclass(frozen=True)
class Form:
    """How pictures are converted to the form of a data set's images."""

    read: Callable[[str | os.PathLike], np.ndarray]  # reads a file; rejects pictures of other kinds
    normalize: Callable[[np.ndarray], np.ndarray]  # converts a grey picture (h, w), 0 to 255


FORMS = {
    "digit": Form(read_digit, normalize_digit),
    "clothing": Form(read_clothing, fit_clothing),
    "drawing": Form(read_drawing, normalize_digit),
}
