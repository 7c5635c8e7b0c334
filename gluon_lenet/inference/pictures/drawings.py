"""A user's picture of a digit, any size, colour and polarity -> uint8 (28, 28) as MNIST has it: 0 is background.

    file -> header checked -> decoded, turned upright, shrunk -> grey
         -> ink: how far each pixel is from the background under it, on the ink's side
         -> the drawing: noise and specks gone
         -> checked: it may be one digit (one_digit.py)
         -> scaled to MNIST's box, laid where MNIST lays it

MNIST's form (LeCun et al. 1998, section III.A): the drawing's longer side is scaled to 20 pixels, antialiased, its
aspect ratio kept; its centre of mass is moved to the centre of a 28x28 field. Of MNIST's 10,000 test images 9,997 fill
their 20 pixels exactly, and every one has its centre of mass within half a pixel of pixel 14, counted from 0, in both
directions.
"""

from __future__ import annotations

import io
import math
import os
import stat
import warnings
from collections.abc import Sequence, Set
from contextlib import suppress

import numpy as np
from matplotlib.figure import Figure
from PIL import ExifTags, Image, ImageFilter

from gluon_lenet.errors import InputError
from gluon_lenet.inference.pictures.morphology import extreme, label
from gluon_lenet.inference.pictures.one_digit import check_one_digit
from gluon_lenet.viz import fonts

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
_TURNS = {  # EXIF's orientation -> what sets it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WORKING = 400  # pixels, the longer side that is looked at; more would only be noise and time

_MIN_CONTRAST = 10  # of 255; fainter marks are dirt or noise
_UNEVEN = 12  # of 255; a background whose parts differ by more is lit unevenly
_FULL = 230  # of 255; ink darker than this is left as it is, or MNIST's own images would change
_EDGE = 0.1  # of full ink; what is fainter does not widen the drawing's box
_FAINT = 0.3  # of full ink; in a photo what is fainter is no stroke
_SPECK = 0.02  # of the largest stroke's pixels; smaller spots are dirt

_THIN, _NORMAL = 1.6, 2.4  # pixels, in the box of 20: 5 % of the test strokes are thinner than the first; the median

_NEAR = 0.05 * 255  # pixels of clothes closer to the background's grey belong to it (Xiao et al. 2017, section 2)
_BRIGHT = 250  # of 255; every image of Fashion-MNIST's test set has a pixel at least so bright

_BLANK = "a blank picture: no drawing stands out from its background"


def read_drawing(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
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
    name = _printable(os.fsdecode(path))
    try:
        ink = ink_of(_read_grey(path, max_pixels))
        check_one_digit(ink)
        return _lay(ink)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def normalize_drawing(grey: np.ndarray) -> np.ndarray:
    """A grey picture (h, w), 0 to 255, dark on light or light on dark -> its drawing, uint8 (28, 28) as MNIST has it.

    A picture already in MNIST's form comes through as it is, and its negative with the same pixels. Whether it shows a
    digit is not checked.

    Raises:
        InputError: as `ink_of`.
    """
    return _lay(ink_of(grey))


def ink_of(grey: np.ndarray) -> np.ndarray:
    """A grey picture (h, w), 0 to 255, dark on light or light on dark -> its drawing's ink, 0 to 255, on 0.

    Returns:
        float32, of the picture's shape, or shrunk to a longer side of `_WORKING` pixels.

    Raises:
        InputError: not two-dimensional, without pixels, not of 0 to 255, or blank.
    """
    grey = np.asarray(grey, dtype=np.float32)
    if grey.ndim != 2 or not grey.size:
        raise InputError(f"a picture of shape {grey.shape}; it must be (height, width), both at least 1")
    if not np.isfinite(grey).all():
        raise InputError("a picture with pixels that are no numbers")
    if grey.min() < 0 or grey.max() > 255:
        raise InputError(f"a picture with pixels from {grey.min():g} to {grey.max():g}; they must be 0 to 255")
    return _ink(_shrink(grey, _WORKING))


def read_clothing(path: str | os.PathLike) -> np.ndarray:
    """A picture of a piece of clothing in an image file -> uint8 (28, 28) as Fashion-MNIST has it, 0 the background.

    The files `read_drawing` reads.

    Raises:
        InputError: as `read_drawing`.
    """
    try:
        return normalize_clothing(_read_grey(path, MAX_PIXELS))
    except InputError as error:
        raise InputError(f"{_printable(os.fsdecode(path))}: {error}") from None


def normalize_clothing(grey: np.ndarray) -> np.ndarray:
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
        ink = _without_specks(np.where(ink > _NEAR, ink, 0).astype(np.float32))
        rows, columns = np.nonzero(ink)
        if rows.size:
            ink = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        scale = FIELD / max(ink.shape)
        height, width = (max(1, round(side * scale)) for side in ink.shape)
        ink = np.maximum(_resize(np.ascontiguousarray(ink), (height, width)), 0)
        top, left = (FIELD - height + 1) // 2, (FIELD - width + 1) // 2  # an odd pixel goes before, as in the data set
        ink = np.pad(ink, ((top, FIELD - height - top), (left, FIELD - width - left)))
    if ink.max() <= _NEAR:
        raise InputError("a blank picture: nothing stands out from its background")
    if ink.max() < _BRIGHT:
        ink = ink * (255 / ink.max())
    return np.rint(ink).clip(0, 255).astype(np.uint8)


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
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.axis("off")
    for axis, drawing, prediction, probability, name in zip(
        axes[: len(drawings)], drawings, predictions, probabilities, names, strict=True
    ):
        axis.imshow(drawing, cmap="gray", vmin=0, vmax=255)
        text = f"{_shorten(name)}\n{prediction}  {probability:.1%}"
        axis.set_title(_escape(text, fonts.drawable()), fontsize=9, fontfamily=fonts.families(), parse_math=False)
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
        with _File(io.FileIO(path)) as file, warnings.catch_warnings():
            file.size = status.st_size
            warnings.simplefilter("ignore")  # Pillow warns of large pictures and odd metadata: not the user's concern
            return _decode(file, max_pixels)
    except FileNotFoundError:
        raise InputError("no such file") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or str(error)  # ValueError: a path with a null character
        raise InputError(f"cannot be read ({reason})") from None


class _File(io.BufferedReader):
    """A file of `size` bytes that makes room for no more than that, however many a broken picture claims to follow."""

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, or all that are left."""
        return super().read(min(size, self.size))


def _decode(file, max_pixels: int) -> np.ndarray:
    """As `_read_grey`, from the open file."""
    kinds = "PNG, JPEG, BMP, GIF or WebP"
    start = file.read(8)
    file.seek(0)
    # Pillow lets anything out of its readers when the bytes are broken: OSError, SyntaxError, struct.error, ...
    try:
        image = Image.open(file, formats=list(_SIGNATURES))
    except Image.DecompressionBombError:  # Pillow's own bound, about 180 million pixels
        raise InputError(_too_large(max_pixels)) from None
    except MemoryError:
        raise InputError("too large for this machine's memory") from None
    except Exception:
        if any(start.startswith(signature) for signature in _SIGNATURES.values()):
            raise InputError("begins as an image does, but its header is cut, broken or declares 0 pixels") from None
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
    """The decoded image, in one of the modes L, LA, RGB, RGBA, F, shrunk, and turned as its EXIF data say."""
    if image.format in ("JPEG", "MPO"):
        image.draft(None, (2 * _WORKING, 2 * _WORKING))  # a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size
    image.load()
    orientation = 1  # upright
    with suppress(Exception):  # EXIF data that cannot be read say nothing; the picture is still there
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits a pixel
        values = np.asarray(image, dtype=np.float32)
        image = Image.fromarray(values if values.max() <= 255 else values / 257)
    elif image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
    else:
        image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    image.thumbnail((_WORKING, _WORKING), Image.Resampling.BOX)
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _grey(image: Image.Image) -> np.ndarray:
    """An image of mode L, LA, RGB, RGBA or F -> float32 (h, w), 0 to 255, drawing and background apart."""
    alpha = None
    if image.mode in ("LA", "RGBA"):
        alpha = np.asarray(image.getchannel("A"), dtype=np.float32) / 255
        image = image.convert(image.mode[:-1])
    grey = np.asarray(image if image.mode == "F" else image.convert("L"), dtype=np.float32)
    if image.mode == "RGB":
        # Red on green, or yellow on white, may be nearly equal in brightness and far apart in one of the colours.
        channels = [np.asarray(channel, dtype=np.float32) for channel in image.split()]
        strongest = max(channels, key=np.std)
        if strongest.std() > 1.5 * grey.std():
            grey = strongest
    if alpha is None or alpha.min() == 1:
        return grey
    return _on_background(grey, alpha)


def _on_background(grey: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """A transparent picture (h, w), opacity 0 to 1, laid on a background that its drawing stands out from.

    What is visible in one tone throughout is the drawing itself: ink of any colour on nothing, so the opacity is the
    drawing. Else, if most is opaque, the paper is visible too and only its rim is missing; if little is, ink of several
    tones lies on nothing.
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


def _ink(grey: np.ndarray) -> np.ndarray:
    """Grey (h, w) -> the drawing's ink, float32 (h, w), 0 to 255, on 0.

    Both the background and which side of it the ink is on are found: an image and its negative have the same ink.

    Raises:
        InputError: nothing stands out from the background.
    """
    sides = (grey[0], grey[-1], grey[:, 0], grey[:, -1])
    rim = np.concatenate(sides)
    difference = grey - np.median(rim)
    share = np.mean(np.abs(difference) <= _UNEVEN)  # like the rim: paper, or else the rim is a table or a frame
    # A drawing cropped to its strokes leaves little paper; a table around a photo's paper is less than half of it.
    if (share > 1 / 3 and _is_drawn(rim)) or (share > 0.45 and _is_even(sides)):
        # Strokes are few pixels that differ much, so the third moment has their sign.
        sign = -1 if (difference.astype(np.float64) ** 3).sum() < 0 else 1
        return _without_specks(_stretch(sign * difference))
    return _photo_ink(_filter(grey, ImageFilter.MedianFilter(3)))


def _is_drawn(rim: np.ndarray) -> bool:
    """Whether half of the rim's pixels are one colour: so a program draws or a scanner clips; a camera adds noise."""
    return bool(np.mean(np.abs(rim - np.median(rim)) <= 1) > 0.5)


def _is_even(sides: Sequence[np.ndarray]) -> bool:
    """Whether the rim is as light in every third of each of its four sides."""
    thirds = [np.median(side[: len(side) // 3 * 3].reshape(3, -1), axis=1) for side in sides if len(side) >= 3]
    return not thirds or bool(np.ptp(thirds) <= _UNEVEN)


def _photo_ink(grey: np.ndarray) -> np.ndarray:
    """As `_ink`, for a picture whose background is uneven: paper lit from one side, a shadow's edge, a table around it.

    The background is the picture without whatever is narrower than a quarter of it: if the ink is dark, the picture's
    morphological closing, which leaves slopes and edges where they are. Whether it is dark is read off the strokes'
    neighbourhood: most of that is paper, so most of its pixels are nearer to the lightest there than to the darkest.
    """
    size = max(grey.shape) // 4
    lightest, darkest = extreme(grey, size, np.maximum), extreme(grey, size, np.minimum)
    span = lightest - darkest
    near = span >= span.max() / 2
    paper_is_light = np.mean(2 * grey[near] > (lightest + darkest)[near]) > 0.5
    background = extreme(lightest, size, np.minimum) if paper_is_light else extreme(darkest, size, np.maximum)
    difference = background - grey if paper_is_light else grey - background
    return _without_specks(_stretch(difference - np.median(difference)), photo=True)


def _stretch(difference: np.ndarray) -> np.ndarray:
    """What pixels differ from the background by, on the ink's side -> ink, 0 to 255, without noise.

    Raises:
        InputError: nothing stands out.
    """
    # The standard deviation of the noise, were it Gaussian, from the side of the background where there is no ink.
    noise = 1.4826 * float(np.median(-difference[difference <= 0])) if (difference <= 0).any() else 0.0
    ink = np.maximum(difference, 0)
    strokes = ink[ink >= _otsu(ink)]
    contrast = float(strokes.mean()) if strokes.size else 0.0
    if contrast < max(_MIN_CONTRAST, 3 * noise):
        raise InputError(_BLANK)
    floor = min(3 * noise, contrast / 2)
    full = float(np.percentile(strokes, 99))
    if floor or full < _FULL:
        ink = np.clip((ink - floor) * (255 / (full - floor)), 0, 255)
    return ink


def _otsu(values: np.ndarray) -> float:
    """The threshold that parts the values, 0 to 255, best in two (Otsu 1979): the largest variance between them."""
    counts = np.bincount(values.astype(np.uint8).ravel(), minlength=256)
    weights = counts.cumsum()[:-1].astype(np.float64)
    sums = (counts * np.arange(256)).cumsum().astype(np.float64)
    rest = counts.sum() - weights
    with np.errstate(divide="ignore", invalid="ignore"):
        between = weights * rest * (sums[:-1] / weights - (sums[-1] - sums[:-1]) / rest) ** 2
    return float(np.nan_to_num(between).argmax() + 1)  # values below it are the lower class


def _without_specks(ink: np.ndarray, photo: bool = False) -> np.ndarray:
    """The ink (h, w) of the drawing alone: without spots far smaller than its largest stroke.

    In a photo what is faint goes too, and strokes that reach the rim, if others stay: table, shadow, the next word.
    """
    if max(ink.shape) <= FIELD:
        return ink  # in so small a picture one pixel may be a stroke's end, as in 168 of MNIST's 10,000 test images
    labels = label(ink > 255 * (_FAINT if photo else _EDGE))
    sizes = np.bincount(labels.ravel(), weights=ink.ravel() > 127)  # of each spot, in pixels of more than half ink
    sizes[0] = 0
    if photo:
        inside = sizes.copy()
        inside[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = 0
        if inside.max() > _SPECK * sizes.max():
            sizes = inside
    kept = sizes > _SPECK * sizes.max()
    if not kept.any():
        raise InputError(_BLANK)
    if kept[1:].all() and not photo:
        return ink
    drawing = _filter(kept[labels], ImageFilter.MaxFilter(3))  # the antialiased rim of a stroke belongs to it
    return np.where(drawing, ink, 0)


def _lay(ink: np.ndarray) -> np.ndarray:
    """The ink (h, w), 0 to 255 -> uint8 (28, 28): its longer side 20 pixels, its centre of mass on pixel (14, 14)."""
    top, bottom, left, right = _bounds(ink)
    longer = max(bottom - top, right - left)
    if abs(longer - BOX) > 1:  # within a pixel it is there already, and resampling could only blur it
        ink = _thicken(ink, longer)
        top, bottom, left, right = _bounds(ink)
        longer = max(bottom - top, right - left)
        margin = math.ceil(longer / BOX)  # for the antialiased rim
        ink = np.pad(ink, margin)[top : bottom + 2 * margin, left : right + 2 * margin]
        ink = _resize(ink, [max(1, round(side * BOX / longer)) for side in ink.shape])
    pixels = np.rint(ink).clip(0, 255).astype(np.uint8)
    weights = pixels.astype(np.int64)
    total = weights.sum()
    if not total:
        raise InputError(_BLANK)
    field = np.pad(pixels, FIELD)
    corner = []
    for axis, side in enumerate(pixels.shape):
        mean = (weights.sum(axis=1 - axis) * np.arange(side)).sum() / total
        corner.append(FIELD + math.floor(mean + 0.5) - CENTRE)
    y, x = corner
    return np.ascontiguousarray(field[y : y + FIELD, x : x + FIELD])


def _bounds(ink: np.ndarray) -> tuple[int, int, int, int]:
    """The drawing's box: top, bottom, left, right, in pixels, the second and last one behind it."""
    rows, columns = np.nonzero(ink > _EDGE * 255)
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


def _filter(values: np.ndarray, kernel: ImageFilter.Filter) -> np.ndarray:
    """One of Pillow's rank filters on an array (h, w)."""
    return np.asarray(Image.fromarray(values.astype(np.float32)).filter(kernel))


def _shrink(grey: np.ndarray, longer: int) -> np.ndarray:
    """The picture, averaged down until its longer side has at most `longer` pixels."""
    scale = longer / max(grey.shape)
    return grey if scale >= 1 else _resize(grey, [max(1, round(side * scale)) for side in grey.shape])


def _resize(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """float32 (h, w) -> float32 of `shape`, each new pixel the mean of the old under it (enlarged: interpolated)."""
    height, width = shape
    smaller = height < values.shape[0] or width < values.shape[1]
    kernel = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(values).resize((width, height), kernel))


def _too_large(max_pixels: int) -> str:
    return f"too large, a picture may have {max_pixels:,} pixels"


def _printable(text: str) -> str:
    """The text on one line, whatever is in it."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _escape(text: str, drawable: Set[int]) -> str:
    """The text with what the fonts cannot draw, and control characters, as Python escapes: 数.png -> \\u6570.png."""
    return "".join(c if ord(c) in drawable or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)


def _shorten(name: str, longest: int = 22) -> str:
    """A file name without its folders, its middle left out where it is too long to stand over a picture."""
    name = _printable(os.path.basename(os.fsdecode(name)) or os.fsdecode(name))
    return name if len(name) <= longest else f"{name[: longest - 9]}…{name[-8:]}"
