"""An image file -> its picture: upright, grey, downscaled, float32 (h, w), 0 to 255; the header is checked first."""

from __future__ import annotations

import io
import os
import stat
import warnings
from contextlib import suppress

import numpy as np
from PIL import ExifTags, Image

from gluon_lenet.errors import InputError, printable

MAX_PIXELS = 50_000_000  # per picture: phones take 12 to 50 million; decoding needs up to 4 bytes per pixel
WORKING = 400  # pixels, the longer side after downscaling; more would only add noise and time

# The accepted formats, with their first bytes. Not all that Pillow reads: its EPS reader, for one, starts Ghostscript.
_SIGNATURES = {
    "PNG": b"\x89PNG\r\n\x1a\n",
    "JPEG": b"\xff\xd8\xff",
    "BMP": b"BM",
    "GIF": b"GIF8",
    "WEBP": b"RIFF",
}
_TURNS = {  # EXIF's orientation -> the transpose that makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_MIN_CONTRAST = 10  # of 255; a drawing whose tones differ by less has one colour


def read_grey(path: str | os.PathLike, max_pixels: int) -> np.ndarray:
    """The picture in a file, upright, grey, float32 (h, w), 0 to 255; its longer side at most `WORKING` pixels.

    Raises:
        InputError: as `forms.read_digit`, without the path.
    """
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise InputError("a directory; give an image file")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe could block for ever
            raise InputError("not a regular file")
        if status.st_size == 0:
            raise InputError("the file is empty")
        with _File(io.FileIO(path)) as file, warnings.catch_warnings():
            file.size = status.st_size
            warnings.simplefilter("ignore")  # Pillow warns of large pictures and odd metadata
            return _decode(file, max_pixels)
    except FileNotFoundError:
        raise InputError("no such file") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or str(error)  # ValueError: a path with a null character
        raise InputError(f"cannot be read ({reason})") from None


class _File(io.BufferedReader):
    """A file of `size` bytes; a read never allocates more than that, whatever length a broken picture claims."""

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, or all that are left."""
        return super().read(min(size, self.size))


def _decode(file, max_pixels: int) -> np.ndarray:
    """As `read_grey`, from the open file."""
    kinds = "PNG, JPEG, BMP, GIF or WebP"
    start = file.read(8)
    file.seek(0)
    # Pillow's readers raise anything on broken bytes: OSError, SyntaxError, struct.error, ...
    try:
        image = Image.open(file, formats=list(_SIGNATURES))
    except Image.DecompressionBombError:  # Pillow's own bound, about 180 million pixels
        raise InputError(_too_large(max_pixels)) from None
    except MemoryError:
        raise InputError("too large for this machine's memory") from None
    except Exception:
        if any(start.startswith(signature) for signature in _SIGNATURES.values()):
            raise InputError("begins like an image, but its header is cut, broken or declares 0 pixels") from None
        raise InputError(f"not an image in a readable format; convert it to {kinds}") from None
    with image:
        if image.width * image.height > max_pixels:
            raise InputError(f"{image.width} x {image.height}: {_too_large(max_pixels)}")
        kind = image.format
        try:
            return _grey(_upright(image))
        except MemoryError:
            raise InputError("too large for this machine's memory") from None
        except Exception as error:
            reason = printable(str(error) or type(error).__name__)
            raise InputError(f"the {kind} image is cut or broken ({reason})") from None


def _upright(image: Image.Image) -> Image.Image:
    """The decoded image, in mode L, LA, RGB, RGBA or F, downscaled and rotated by its EXIF orientation."""
    if image.format in ("JPEG", "MPO"):
        image.draft(None, (2 * WORKING, 2 * WORKING))  # a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size
    image.load()
    orientation = 1  # upright
    with suppress(Exception):  # unreadable EXIF data are ignored
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits per pixel
        values = np.asarray(image, dtype=np.float32)
        image = Image.fromarray(values if values.max() <= 255 else values / 257)
    elif image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
    else:
        image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    image.thumbnail((WORKING, WORKING), Image.Resampling.BOX)
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _grey(image: Image.Image) -> np.ndarray:
    """An image of mode L, LA, RGB, RGBA or F -> float32 (h, w), 0 to 255, in which drawing and background differ."""
    alpha = None
    if image.mode in ("LA", "RGBA"):
        alpha = np.asarray(image.getchannel("A"), dtype=np.float32) / 255
        image = image.convert(image.mode[:-1])
    grey = np.asarray(image if image.mode == "F" else image.convert("L"), dtype=np.float32)
    if image.mode == "RGB":
        # Red on green, or yellow on white, may be nearly equal in brightness but differ much in one channel.
        channels = [np.asarray(channel, dtype=np.float32) for channel in image.split()]
        strongest = max(channels, key=np.std)
        if strongest.std() > 1.5 * grey.std():
            grey = strongest
    if alpha is None or alpha.min() == 1:
        return grey
    return _on_background(grey, alpha)


def _on_background(grey: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """A transparent picture (h, w), opacity 0 to 1, composed on a background that its drawing stands out from.

    If the visible part has a single tone, it is ink on a transparent background, and the opacity is the drawing.
    Otherwise, if most of the picture is opaque, the paper is visible too, and only its margin is missing; if not, it is
    ink of several tones on a transparent background.
    """
    visible = alpha > 0.5
    if not visible.any():
        return 255 * alpha
    tones = grey[visible]
    if tones.std() < _MIN_CONTRAST:
        return 255 * alpha
    unseen = 0.0 if tones.mean() > 127.5 else 255.0
    background = float(np.median(tones)) if visible.mean() > 0.5 else unseen
    return alpha * grey + (1 - alpha) * background


def _too_large(max_pixels: int) -> str:
    return f"too large, a picture may have {max_pixels:,} pixels"
