"""A user's picture of a digit, any size, colour and polarity -> uint8 (28, 28) as MNIST has it: 0 is background.

    file -> header checked -> decoded, turned upright, shrunk -> grey
         -> ink: how far each pixel is from the background under it, on the ink's side
         -> the drawing: noise and specks gone
         -> scaled to MNIST's box, laid where MNIST lays it

MNIST's form (LeCun et al. 1998, section III.A): the drawing's longer side is scaled to 20 pixels, antialiased, its aspect
ratio kept; its centre of mass is moved to the centre of a 28x28 field. Of MNIST's 10,000 test images 9,997 fill their 20
pixels exactly, and every one has its centre of mass within half a pixel of pixel 14, counted from 0, in both directions.
"""

from __future__ import annotations

import math
import os
import stat
import warnings
from collections.abc import Sequence

import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image, ImageFilter, ImageOps

from gluon_lenet.errors import InputError

MAX_PIXELS = 50_000_000  # of one picture: phones take 12 to 50 million; decoded it takes up to 4 bytes a pixel

FIELD = 28  # pixels, MNIST's image
BOX = 20  # pixels, the longer side of the drawing in it
CENTRE = 14  # the pixel, counted from 0, that holds the centre of mass

# What is read, with how its files begin. Not everything Pillow can: its EPS reader, for one, starts Ghostscript.
_SIGNATURES = {
    "PNG": b"\x89PNG\r\n\x1a\n",
    "JPEG": b"\xff\xd8\xff",
    "BMP": b"BM",
    "GIF": b"GIF8",
    "WEBP": b"RIFF",
}
_WORKING = 400  # pixels, the longer side that is looked at; more would only be noise and time

_MIN_CONTRAST = 10  # of 255; fainter marks are dirt or noise
_UNEVEN = 12  # of 255; a background whose parts differ by more is lit unevenly
_FULL = 230  # of 255; ink darker than this is left as it is, or MNIST's own images would change
_EDGE = 0.1  # of full ink; what is fainter does not widen the drawing's box
_SPECK = 0.02  # of the largest stroke's pixels; smaller spots are dirt

_CJK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Arial Unicode MS",
)


def read_drawing(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The drawing in a PNG, JPEG, BMP, GIF or WebP file (of an animation the first picture), as MNIST has it.

    Colour, grey, palette, 1 and 16 bits, CMYK, transparency and EXIF's rotation are understood.

    Args:
        path: a regular file.
        max_pixels: a picture of more pixels is refused before it is decoded.

    Returns:
        uint8 (28, 28): 0 is background, 255 full ink.

    Raises:
        InputError: missing, no file, unreadable, empty, no image, cut, broken, of 0 pixels, too large, or blank; one line
            that begins with the path.
    """
    name = _printable(os.fsdecode(path))
    try:
        return normalize_drawing(_read_grey(path, max_pixels))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def normalize_drawing(grey: np.ndarray) -> np.ndarray:
    """A grey picture (h, w), 0 to 255, dark on light or light on dark -> the drawing in it, uint8 (28, 28) as MNIST has it.

    A picture already in MNIST's form comes through as it is, and its negative with the same pixels.

    Raises:
        InputError: not two-dimensional, without pixels, not finite, or blank.
    """
    grey = np.asarray(grey, dtype=np.float32)
    if grey.ndim != 2 or not grey.size:
        raise InputError(f"a picture of shape {grey.shape}; it must be (height, width), both at least 1")
    if not np.isfinite(grey).all():
        raise InputError("a picture with pixels that are no numbers")
    grey = _shrink(grey, _WORKING)
    return _lay(_without_specks(*_ink(grey)))


def show_drawings(
    drawings: Sequence[np.ndarray], predictions: Sequence[str], probabilities: Sequence[float], names: Sequence[str]
) -> Figure:
    """What the net saw, each drawing under its file's name, the predicted class and its probability.

    Args:
        drawings: n arrays (28, 28), 0 to 255.
        predictions: n class names.
        probabilities: of each prediction, 0 to 1.
        names: n file names, in any script; what no installed font can show is written as an escape.
    """
    columns = min(len(drawings), 5) or 1
    rows = math.ceil(len(drawings) / columns) or 1
    figure = Figure(figsize=(1.9 * columns, 2.3 * rows), layout="constrained")  # inches
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis in axes:
        axis.axis("off")
    families, drawable = _fonts()
    axes = figure.axes[: len(drawings)]
    for axis, drawing, prediction, probability, name in zip(
        axes, drawings, predictions, probabilities, names, strict=True
    ):
        axis.imshow(drawing, cmap="gray", vmin=0, vmax=255)
        text = f"{_shorten(name)}\n{prediction}  {probability:.1%}"
        axis.set_title(_escape(text, drawable), fontsize=9, fontfamily=families, parse_math=False)
    return figure


def _read_grey(path: str | os.PathLike, max_pixels: int) -> np.ndarray:
    """The picture in a file, upright, grey, float32 (h, w), 0 to 255; its longer side at most `_WORKING` pixels.

    Raises:
        InputError: as `read_drawing`, without the path.
    """
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise InputError("a directory; give an image file")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe could wait for ever
            raise InputError("not a regular file")
        if status.st_size == 0:
            raise InputError("the file is empty")
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures and odd metadata: not the user's concern
            return _decode(file, max_pixels)
    except FileNotFoundError:
        raise InputError("no such file") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or str(error)  # ValueError: a path with a null character
        raise InputError(f"cannot be read ({reason})") from None


def _decode(file, max_pixels: int) -> np.ndarray:
    """As `_read_grey`, from the open file."""
    kinds = "PNG, JPEG, BMP, GIF or WebP"
    start = file.read(8)
    file.seek(0)
    # Pillow lets anything out of its readers when the bytes are broken: OSError, SyntaxError, ValueError, struct.error, ...
    try:
        image = Image.open(file, formats=list(_SIGNATURES))
    except Image.DecompressionBombError:  # Pillow's own bound, about 180 million pixels
        raise InputError(_too_large(max_pixels)) from None
    except MemoryError:
        raise InputError("too large for this machine's memory") from None
    except Exception:
        if any(start.startswith(signature) for signature in _SIGNATURES.values()):
            raise InputError(f"its header is cut or broken, or declares 0 pixels (as {kinds})") from None
        raise InputError(f"not an image that can be read here; convert it to {kinds}") from None
    with image:
        if image.width * image.height > max_pixels:
            raise InputError(f"{image.width} x {image.height}: {_too_large(max_pixels)}")
        kind = image.format
        try:
            return _grey(_upright(image))
        except MemoryError:
            raise InputError("too large for this machine's memory") from None
        except Exception as error:
            reason = _printable(str(error) or type(error).__name__)
            raise InputError(f"the {kind} image is cut or broken ({reason})") from None


def _upright(image: Image.Image) -> Image.Image:
    """The decoded image, in one of the modes L, LA, RGB, RGBA, F, turned as its EXIF data say, and shrunk."""
    if image.format in ("JPEG", "MPO"):
        image.draft(None, (2 * _WORKING, 2 * _WORKING))  # a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size
    image.load()
    orientation = image.getexif().get(0x0112)
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits a pixel
        values = np.asarray(image, dtype=np.float32)
        image = Image.fromarray(values if values.max() <= 255 else values / 257)
    elif image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
    else:
        image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    image.thumbnail((_WORKING, _WORKING), Image.Resampling.BOX)
    turned = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return image.transpose(turned[orientation]) if orientation in turned else image
