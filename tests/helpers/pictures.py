"""Pictures as users have them, grey, uint8 (h, w): digits in many forms, and pictures that are not drawings of a digit.

Each function draws one picture with the given random generator. The limits in `one_digit.py` were chosen with one seed
and digits of the training images; they are measured with another seed and digits of the test images.
"""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from gluon_lenet.viz import fonts

_DEJAVU = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
LATIN_FONTS = [_DEJAVU / f"{name}.ttf" for name in ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono")]
_LATIN_TEXT = "the quick brown fox jumps over the lazy dog while nobody looks at 28 pixels of paper and ink"
_CHINESE_TEXT = "深度学习是机器学习的分支它用多层网络从数据中提取特征图像识别语音翻译都离不开今天我们写一个程序"


# Digits


def enlarge(digit: np.ndarray, factor: int) -> np.ndarray:
    """The image (28, 28), enlarged."""
    side = 28 * factor
    return np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC))


def photo(digit, rng, light: str, inverted: bool = False, table: bool = False) -> np.ndarray:
    """A grey photo (480, 640): a digit off the centre of unevenly lit paper, with noise."""
    ink = np.zeros((480, 640))
    side = 200
    top, left = rng.integers(60, 420 - side), rng.integers(60, 580 - side)
    ink[top : top + side, left : left + side] = np.asarray(Image.fromarray(digit).resize((side, side))) / 255
    y, x = np.mgrid[0:1:480j, 0:1:640j]
    lights = {
        "slope": 1 - 0.35 * x - 0.2 * y,
        "vignette": 1 - 1.2 * ((x - 0.5) ** 2 + (y - 0.5) ** 2),
        "lamp": 0.5 + 0.5 * np.exp(-4 * ((x - 0.3) ** 2 + (y - 0.4) ** 2)),
        "shadow": np.where(x + 0.4 * y > 0.75, 0.6, 1.0),
        "even": np.full_like(x, 0.8),
    }
    dark, bright = (225, 60) if inverted else (50, 210)
    grey = (bright + (dark - bright) * ink) * lights[light]
    if table:
        framed = np.full_like(grey, 90.0)
        framed[40:-40, 40:-40] = grey[40:-40, 40:-40]
        grey = framed
    return np.clip(grey + rng.normal(0, 6, grey.shape), 0, 255).astype(np.uint8)


def _as_it_is(digit, rng):
    return digit


def _enlarged(digit, rng):
    side = int(rng.integers(29, 601))
    kernel = rng.choice([Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
    return np.asarray(Image.fromarray(digit).resize((side, side), int(kernel)))


def _on_canvas(digit, rng):
    """Anywhere on a larger sheet, with one or two specks."""
    side = int(rng.integers(60, 301))
    canvas = np.zeros(side + rng.integers(0, 400, 2), np.uint8)
    top, left = (int(rng.integers(0, room - side + 1)) for room in canvas.shape)
    for _ in range(rng.integers(0, 3)):
        canvas[rng.integers(canvas.shape[0]), rng.integers(canvas.shape[1])] = 255
    canvas[top : top + side, left : left + side] = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    return canvas


def _cropped(digit, rng):
    """Little paper around the strokes, or none."""
    rows, columns = np.nonzero(digit > 127)
    digit = np.ascontiguousarray(
        np.pad(digit[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1], rng.integers(0, 3))
    )
    scale = rng.uniform(2, 15)
    size = [round(side * scale) for side in digit.shape[::-1]]
    return np.asarray(Image.fromarray(digit).resize(size, Image.Resampling.BICUBIC))


def _two_tones(digit, rng):
    """As drawn by a paint program without antialiasing."""
    return ((enlarge(digit, int(rng.integers(4, 15))) > 127) * 255).astype(np.uint8)


def _other_pen(digit, rng):
    """Strokes thinner or thicker by up to a pixel and a half of MNIST's 28."""
    factor = 10
    width = 2 * int(rng.integers(2, 12 if rng.random() < 0.5 else 7)) + 1
    big = Image.fromarray(enlarge(digit, factor))
    thick = np.mean(digit > 127) > 0.12  # thin strokes would vanish if made thinner
    return np.asarray(big.filter(ImageFilter.MinFilter(min(width, 11)) if thick else ImageFilter.MaxFilter(width)))


def _small(digit, rng):
    """Smaller than MNIST's 28 pixels."""
    side = int(rng.integers(16, 28))
    return np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BOX))


def _with_a_gap(digit, rng):
    """With a line without ink across it, as if the pen had been lifted."""
    big = Image.fromarray(enlarge(digit, 8))
    (x, y), angle = rng.uniform(80, 144, 2), rng.uniform(0, np.pi)  # the line's middle, near the digit's
    dx, dy = 224 * np.cos(angle), 224 * np.sin(angle)
    ImageDraw.Draw(big).line((x - dx, y - dy, x + dx, y + dy), 0, int(rng.integers(3, 14)))
    return np.asarray(big)


def _jpeg(digit, rng):
    return jpeg(_on_canvas(digit, rng), int(rng.integers(20, 96)))


def _photo(digit, rng):
    light = rng.choice(["slope", "vignette", "lamp", "shadow", "even"])
    return 255 - jpeg(photo(digit, rng, light, table=rng.random() < 0.25), int(rng.integers(60, 96)))


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    """The picture after JPEG compression."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


FORMS = {  # each turns an image of a digit (28, 28) into a picture of it, light on dark
    "28 x 28": _as_it_is,
    "smaller": _small,
    "enlarged": _enlarged,
    "on a canvas": _on_canvas,
    "cropped": _cropped,
    "two tones": _two_tones,
    "another pen": _other_pen,
    "with a gap": _with_a_gap,
    "JPEG": _jpeg,
    "photo": _photo,
}


def digit_picture(form: str, digit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The digit, an image of MNIST, in one of the `FORMS`, dark on light or light on dark."""
    picture = FORMS[form](digit, rng)
    return 255 - picture if rng.random() < 0.5 else picture


# No digits


def _size(rng) -> tuple[int, int]:
    """The size of a picture: 28 x 28 in one of four cases, else up to 600."""
    return (28, 28) if rng.random() < 0.25 else tuple(int(side) for side in rng.integers(40, 601, 2))


def _tones(rng) -> tuple[int, int]:
    """Two distinguishable tones: background and ink."""
    low = int(rng.integers(0, 100))
    high = int(rng.integers(low + 60, 256))
    return (low, high) if rng.random() < 0.5 else (high, low)


def _paint(share: np.ndarray, rng) -> np.ndarray:
    """Ink coverage of each pixel, 0 to 1 -> a picture in two tones."""
    background, ink = _tones(rng)
    return np.rint(background + (ink - background) * np.clip(share, 0, 1)).astype(np.uint8)


def _slope(rng) -> np.ndarray:
    height, width = _size(rng)
    angle = rng.choice([0, 0.5, 1, 1.5]) * np.pi if rng.random() < 0.5 else rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    along = x * np.cos(angle) + y * np.sin(angle)
    along = (along - along.min()) / np.ptp(along)
    return _paint(along ** rng.choice([1, 1, 0.5, 2]), rng)


def _radial(rng) -> np.ndarray:
    height, width = _size(rng)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    centre = rng.uniform(-0.5, 0.5, 2)
    away = np.hypot(x - centre[0], y - centre[1]) / rng.uniform(0.3, 2)
    return _paint(1 - away, rng)


def _text(rng) -> np.ndarray:
    """A page, Latin or Chinese, several lines."""
    height, width = (int(side) for side in rng.integers(100, 601, 2))
    size = int(rng.integers(8, min(height, width) // 4))
    chinese = rng.random() < 0.4
    font = ImageFont.truetype(str(fonts.FILE if chinese else rng.choice(LATIN_FONTS)), size)
    image = Image.new("L", (width, height))
    draw = ImageDraw.Draw(image)
    margin = int(rng.integers(0, 20))
    for top in range(margin, height - size, round(size * rng.uniform(1.1, 1.8))):
        words = rng.choice([*_CHINESE_TEXT] if chinese else _LATIN_TEXT.split(), 60)
        draw.text((margin, top), ("" if chinese else " ").join(words), 255, font)
    return _paint(np.asarray(image) / 255, rng)


def _salt_and_pepper(rng) -> np.ndarray:
    """Pixels of either tone on the background, or on one of the tones."""
    noise = rng.random(_size(rng))
    density = 10 ** rng.uniform(-2.5, -0.3)
    picture = np.full(noise.shape, 0 if rng.random() < 0.5 else 128)
    picture[noise < density] = 255
    if rng.random() < 0.5:
        picture[noise > 1 - density / 2] = 0
    return picture.astype(np.uint8) if rng.random() < 0.5 else (255 - picture).astype(np.uint8)


def _dots(rng) -> np.ndarray:
    """One pixel, a few, or small round dots."""
    height, width = _size(rng)
    share = np.zeros((height, width))
    radius = 0 if rng.random() < 0.6 else rng.uniform(0.5, max(1, min(height, width) / 40))
    y, x = np.mgrid[0:height, 0:width]
    for _ in range(1 if rng.random() < 0.6 else rng.integers(2, 6)):
        top, left = rng.integers(0, height), rng.integers(0, width)
        share = np.maximum(share, radius + 0.5 - np.hypot(y - top, x - left))
    return _paint(np.where(share > 0, share.clip(0.7, 1), 0), rng)


def _checkerboard(rng) -> np.ndarray:
    height, width = _size(rng)
    field = rng.integers(2, max(3, min(height, width) // 3))
    y, x = np.mgrid[0:height, 0:width]
    return _paint((y // field + x // field) % 2, rng)


def _stripes(rng) -> np.ndarray:
    height, width = _size(rng)
    angle, period = rng.uniform(0, np.pi), rng.uniform(3, min(height, width) / 2)
    y, x = np.mgrid[0:height, 0:width]
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period)
    return _paint(wave * (5 if rng.random() < 0.5 else 0.5) + 0.5, rng)


def _smooth_noise(rng) -> np.ndarray:
    """Light and dark regions as in a landscape: noise at several scales."""
    height, width = _size(rng)
    total = np.zeros((height, width))
    for octave in range(1, 6):
        grid = rng.normal(size=(2**octave + 1, 2**octave + 1)).astype(np.float32)
        total += np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)) / 1.6**octave
    low, high = np.percentile(total, [2, 98])
    return _paint((total - low) / (high - low), rng)


def _empty_frame(rng) -> np.ndarray:
    """A rectangle along the border, sometimes two."""
    height, width = _size(rng)
    share = np.zeros((height, width))
    for _ in range(rng.integers(1, 3)):
        margin = int(rng.integers(0, min(height, width) // 6))
        line = int(rng.integers(1, max(2, min(height, width) // 15)))
        inside = np.zeros_like(share)
        inside[margin : height - margin, margin : width - margin] = 1
        edge = margin + line
        inside[edge : height - edge, edge : width - edge] = 0
        share = np.maximum(share, inside)
    return _paint(share, rng)


def _several_digits(rng) -> np.ndarray:
    """Two to six typed digits side by side."""
    font = ImageFont.truetype(str(rng.choice(LATIN_FONTS)), int(rng.integers(24, 120)))
    text = "".join(str(digit) for digit in rng.integers(0, 10, rng.integers(2, 7)))
    left, top, right, bottom = font.getbbox(text)
    margin = int(rng.integers(2, 40))
    image = Image.new("L", (right - left + 2 * margin, bottom - top + 2 * margin))
    ImageDraw.Draw(image).text((margin - left, margin - top), text, 255, font)
    return _paint(np.asarray(image) / 255, rng)


def _scribble(rng) -> np.ndarray:
    """A long random walk of a pen."""
    side = int(rng.integers(100, 401))
    steps = np.cumsum(rng.normal(0, 0.06, (int(rng.integers(120, 400)), 2)).cumsum(axis=0) % 1 - 0.5, axis=0)
    steps = np.abs((steps * 0.5) % 2 - 1)  # mirrored at the picture's sides
    image = Image.new("L", (side, side))
    points = [tuple(point) for point in (steps * 0.9 + 0.05) * side]
    ImageDraw.Draw(image).line(points, 255, int(rng.integers(2, 2 + side // 25)), joint="curve")
    return _paint(np.asarray(image) / 255, rng)


def _photograph(rng) -> np.ndarray:
    """A part of matplotlib's sample photo, a portrait."""
    with Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg") as image:
        grey = np.asarray(image.convert("L"))
    height, width = (int(rng.integers(side // 6, side + 1)) for side in grey.shape)
    top, left = rng.integers(0, grey.shape[0] - height + 1), rng.integers(0, grey.shape[1] - width + 1)
    return np.ascontiguousarray(grey[top : top + height, left : left + width])


# The limits in one_digit.py were chosen on pictures of these kinds.
NO_DIGITS = {
    "linear gradient": _slope,
    "radial gradient": _radial,
    "page of text": _text,
    "salt and pepper": _salt_and_pepper,
    "dots": _dots,
    "several digits": _several_digits,
}
# These kinds were not used to choose the limits.
NO_DIGITS_UNSEEN = {
    "checkerboard": _checkerboard,
    "stripes": _stripes,
    "smooth noise": _smooth_noise,
    "frame": _empty_frame,
    "scribble": _scribble,
    "photograph": _photograph,
}
