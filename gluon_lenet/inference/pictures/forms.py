"""A user's picture, any size, colour and polarity -> uint8 (28, 28) as a data set has it: 0 is background.

    file -> header checked -> decoded, turned upright, shrunk -> grey                       decode.py
         -> ink: how far each pixel is from the background under it, on the ink's side      ink.py
         -> the drawing: noise and specks gone
         -> checked: it may be one digit                                                    one_digit.py
         -> scaled to the data set's box, laid where it lays things                         fit.py

A new form is one entry of FORMS, named by its data sets' entries (data/catalogue.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gluon_lenet.errors import InputError, printable
from gluon_lenet.inference.pictures.decode import MAX_PIXELS, read_grey
from gluon_lenet.inference.pictures.fit import fit_clothing, lay
from gluon_lenet.inference.pictures.ink import ink_of
from gluon_lenet.inference.pictures.one_digit import check_one_digit


def read_digit(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The drawing in a PNG, JPEG, BMP, GIF or WebP file (of an animation the first picture), as MNIST has it.

    Colour, grey, palette, 1 and 16 bits, CMYK, transparency and EXIF's rotation are understood.

    Args:
        path: a regular file.
        max_pixels: a picture of more pixels is refused before it is decoded.

    Returns:
        uint8 (28, 28): 0 is background, 255 full ink.

    Raises:
        InputError: missing, unreadable, empty, no image, cut, broken, of 0 pixels, too large, blank, or no drawing
            of one digit; one line that begins with the path.
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
    """A picture of a piece of clothing in an image file -> uint8 (28, 28) as Fashion-MNIST has it, 0 the background.

    The files `read_digit` reads.

    Raises:
        InputError: as `read_digit`.
    """
    try:
        return fit_clothing(read_grey(path, MAX_PIXELS))
    except InputError as error:
        raise InputError(f"{printable(os.fsdecode(path))}: {error}") from None


@dataclass(frozen=True)
class Form:
    """How pictures are brought into the form of a data set's images."""

    read: Callable[[str | os.PathLike], np.ndarray]  # of a file; refuses what is no picture of the kind
    normalize: Callable[[np.ndarray], np.ndarray]  # of a grey picture (h, w), 0 to 255


FORMS = {"digit": Form(read_digit, normalize_digit), "clothing": Form(read_clothing, fit_clothing)}
