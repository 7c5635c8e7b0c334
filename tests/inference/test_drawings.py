"""Pictures of real MNIST digits in many forms, converted back to MNIST's form; broken files; figures."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from conftest import ROOT
from gluon_lenet.data.datasets import load_dataset
from gluon_lenet.data.idx import read_idx
from gluon_lenet.errors import InputError
from gluon_lenet.inference.pictures.decode import MAX_PIXELS
from gluon_lenet.inference.pictures.forms import normalize_digit, read_digit
from gluon_lenet.viz.drawings import show_drawings
from pictures import enlarge, photo

SAMPLES = read_idx(ROOT / "tests" / "samples" / "mnist" / "t10k-images-idx3-ubyte.gz")  # uint8 (256, 28, 28)
DIGITS = SAMPLES[:40]
DIGIT = SAMPLES[0]  # a 7

# Correlation of the result with the original digit. A picture of another size than 28 x 28 is rescaled, and its centre
# of mass may round to the next pixel: a shift by one pixel alone gives about 0.75.
CLOSE = 0.999
SIMILAR = 0.55  # of each
SIMILAR_MEAN = 0.85  # of many


def correlation(a, b) -> float:
    return float(np.corrcoef(a.ravel().astype(float), b.ravel().astype(float))[0, 1])


def assert_similar(drawings, digits=DIGITS, mean=SIMILAR_MEAN, each=SIMILAR) -> None:
    found = [correlation(drawing, digit) for drawing, digit in zip(drawings, digits, strict=True)]
    assert np.mean(found) >= mean, found
    assert min(found) >= each, found


def saved(image, path, **options) -> Path:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A grey PNG that declares its size and contains `data` as pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


# MNIST's own images


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_mnist_and_its_negative_come_through_unchanged(every):
    """The test images: not one pixel changes, in either polarity; so accuracy on the negative is the same."""
    images = load_dataset("mnist").test_images[::every]
    start = time.process_time()
    plain = np.stack([normalize_digit(image) for image in images])
    assert time.process_time() - start < 30  # of CPU time; takes 4
    np.testing.assert_array_equal(plain, images)
    for image in images[::10]:
        np.testing.assert_array_equal(normalize_digit(255 - image), image)


def test_result_is_a_new_uint8_array_and_the_input_stays():
    before = DIGIT.copy()
    drawing = normalize_digit(DIGIT)
    assert drawing.shape == (28, 28)
    assert drawing.dtype == np.uint8
    assert drawing.flags.writeable
    assert not np.shares_memory(drawing, DIGIT)
    np.testing.assert_array_equal(DIGIT, before)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64])
def test_any_number_type(dtype):
    np.testing.assert_array_equal(normalize_digit(DIGIT.astype(dtype)), DIGIT)


# Files


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize(
    ("mode", "extension", "options"),
    [
        ("L", "png", {}),
        ("LA", "png", {}),
        ("RGB", "png", {}),
        ("RGBA", "png", {}),
        ("P", "png", {}),
        ("I;16", "png", {}),
        ("L", "bmp", {}),
        ("RGB", "bmp", {}),
        ("L", "gif", {}),
        ("P", "gif", {}),
        ("RGB", "webp", {"lossless": True}),
        ("L", "jpg", {"quality": 100}),
        ("RGB", "jpg", {"quality": 100}),
        ("CMYK", "jpg", {"quality": 100}),
    ],
)
def test_formats_and_modes(tmp_path, mode, extension, options, inverted):
    pixels = 255 - DIGIT if inverted else DIGIT
    image = Image.fromarray(pixels.astype(np.uint16) * 257 if mode == "I;16" else pixels)
    image = image if mode == "I;16" else image.convert(mode)
    drawing = read_digit(saved(image, tmp_path / f"digit.{extension}", **options))
    if extension == "jpg":
        assert correlation(drawing, DIGIT) > CLOSE
    else:
        np.testing.assert_array_equal(drawing, DIGIT)


@pytest.mark.parametrize("inverted", [False, True])
def test_one_bit(tmp_path, inverted):
    big = enlarge(DIGIT, 10) > 127
    path = saved(Image.fromarray(big ^ inverted), tmp_path / "digit.png")
    with Image.open(path) as image:
        assert image.mode == "1"
    assert correlation(read_digit(path), DIGIT) > SIMILAR


def test_name_and_ending_do_not_matter(tmp_path):
    path = tmp_path / "数字 七"
    Image.fromarray(DIGIT).save(path, format="PNG")
    np.testing.assert_array_equal(read_digit(str(path)), DIGIT)
    np.testing.assert_array_equal(read_digit(os.fsencode(path)), DIGIT)


@pytest.mark.parametrize("extension", ["gif", "webp", "png"])
def test_animation_gives_its_first_picture(tmp_path, extension):
    frames = [Image.fromarray(enlarge(image, 4)).convert("RGB") for image in SAMPLES[:3]]
    options = {"lossless": True} if extension == "webp" else {}
    frames[0].save(tmp_path / f"a.{extension}", save_all=True, append_images=frames[1:], duration=50, **options)
    assert correlation(read_digit(tmp_path / f"a.{extension}"), SAMPLES[0]) > SIMILAR


@pytest.mark.parametrize("ink", [0, 90, 200, 255])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_ink_of_any_tone_on_nothing(tmp_path, ink, mode):
    image = Image.merge("LA", [Image.new("L", (28, 28), ink), Image.fromarray(DIGIT)]).convert(mode)
    np.testing.assert_array_equal(read_digit(saved(image, tmp_path / "a.png")), DIGIT)


@pytest.mark.parametrize("inverted", [False, True])
def test_opaque_drawing_with_a_transparent_rim(tmp_path, inverted):
    """The paper is opaque; the transparent area around it is treated as paper, too."""
    pixels = np.pad(255 - DIGIT if not inverted else DIGIT, 4)
    alpha = np.pad(np.full((28, 28), 255, np.uint8), 4)
    image = Image.merge("LA", [Image.fromarray(pixels), Image.fromarray(alpha)])
    assert correlation(read_digit(saved(image, tmp_path / "a.png")), DIGIT) > CLOSE


def test_transparent_palette(tmp_path):
    image = Image.fromarray((DIGIT > 127).astype(np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 0, 0, 0] + [0] * 762)
    path = saved(image, tmp_path / "a.gif", transparency=0)
    assert correlation(read_digit(path), (DIGIT > 127) * 255) > CLOSE


@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        ((255, 0, 0), (0, 130, 0)),
        ((255, 255, 0), (255, 255, 255)),
        ((0, 0, 160), (255, 255, 255)),
        ((90, 90, 90), (0, 0, 0)),
    ],
)
def test_colours(tmp_path, ink, paper):
    """Red on green of the same brightness, yellow on white, blue on white, dark grey on black."""
    share = DIGIT[..., None] / 255
    pixels = np.rint(np.array(paper) + (np.array(ink) - np.array(paper)) * share).astype(np.uint8)
    assert correlation(read_digit(saved(pixels, tmp_path / "a.png")), DIGIT) > CLOSE


@pytest.mark.parametrize("extension", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path, orientation, extension):
    turn_away = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: np.rot90,
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    pixels = np.ascontiguousarray(turn_away(enlarge(DIGIT, 4)))
    path = saved(pixels, tmp_path / f"a.{extension}", exif=exif, quality=95)
    assert correlation(read_digit(path), DIGIT) > SIMILAR


def test_exif_that_cannot_be_read_is_ignored(tmp_path):
    path = saved(DIGIT, tmp_path / "a.jpg", quality=100, exif=b"Exif\0\0nonsense")
    assert correlation(read_digit(path), DIGIT) > CLOSE


# Sizes, places, pens, photos


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("factor", [2, 5, 12, 40])
def test_enlarged(factor, inverted):
    digits = DIGITS if factor < 40 else DIGITS[:10]
    pictures = [enlarge(digit, factor) for digit in digits]
    assert_similar([normalize_digit(255 - p if inverted else p) for p in pictures], digits)


def test_a_large_file(tmp_path):
    path = saved(255 - enlarge(DIGIT, 150), tmp_path / "a.jpg")  # 4200 x 4200, decoded at an eighth
    assert correlation(read_digit(path), DIGIT) > SIMILAR


def test_anywhere_on_a_canvas():
    rng = np.random.default_rng(0)
    drawings = []
    for digit in DIGITS:
        canvas = np.full((480, 640), 255, np.uint8)
        top, left = rng.integers(0, 480 - 168), rng.integers(0, 640 - 168)
        canvas[top : top + 168, left : left + 168] = 255 - enlarge(digit, 6)
        canvas[5, 5] = canvas[470:473, 3:5] = 0  # specks
        drawings.append(normalize_digit(canvas))
    assert_similar(drawings)


@pytest.mark.parametrize("shape", [(200, 60), (60, 200)])
def test_the_aspect_ratio_stays(shape):
    picture = np.full((300, 300), 255, np.uint8)
    picture[20 : 20 + shape[0], 30 : 30 + shape[1]] = 0
    rows, columns = np.nonzero(normalize_digit(picture) > 127)
    sides = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert sides == (shape[0] // 10, shape[1] // 10)
    assert abs(rows.mean() - 14) <= 0.5
    assert abs(columns.mean() - 14) <= 0.5


def test_a_fine_pen_is_as_thick_as_mnists():
    """Scaled down, a line one pixel wide in 300 would keep a fifteenth of its ink; it is widened to a stroke."""
    picture = np.full((300, 300), 255, np.uint8)
    picture[40:260, 150] = picture[40, 100:151] = 0
    drawing = normalize_digit(picture)
    assert drawing.max() == 255
    assert 1.5 <= (drawing[14].astype(float) / 255).sum() <= 4  # pixels across the upright stroke


@pytest.mark.parametrize(
    ("light", "inverted", "table"),
    [
        ("even", False, False),
        ("slope", False, False),
        ("slope", True, False),
        ("vignette", False, False),
        ("lamp", False, False),
        ("shadow", False, False),
        ("even", False, True),
        ("slope", False, True),
    ],
)
def test_photos(light, inverted, table):
    """Unevenly lit grey paper, noise, the digit off the centre, in some cases a dark table around the paper."""
    rng = np.random.default_rng(1)
    drawings = [normalize_digit(photo(digit, rng, light, inverted, table)) for digit in DIGITS[:20]]
    assert_similar(drawings, DIGITS[:20], mean=0.8, each=0.25)  # the edge of a shadow may hide part of a digit


def test_photo_as_a_colour_jpeg(tmp_path):
    grey = photo(DIGIT, np.random.default_rng(0), "slope")
    warm = np.stack([grey, grey * 0.95, grey * 0.8], axis=-1).astype(np.uint8)
    assert correlation(read_digit(saved(warm, tmp_path / "a.jpg", quality=75)), DIGIT) > SIMILAR


def test_a_faint_pencil():
    rng = np.random.default_rng(0)
    drawings = [normalize_digit(235 - enlarge(d, 8) * 0.15 + rng.normal(0, 2, (224, 224))) for d in DIGITS]
    assert_similar(drawings)


# What is refused


def error_line(path, **kwargs) -> str:
    """The message of the InputError, after asserting that it is one line that begins with the path."""
    with pytest.raises(InputError) as caught:
        read_digit(path, **kwargs)
    assert caught.value.__suppress_context__
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(f"{path}: ") or "\\" in message
    return message


def test_missing_directory_pipe_and_null(tmp_path):
    assert "no such file" in error_line(tmp_path / "none.png")
    assert "a directory" in error_line(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in error_line(tmp_path / "pipe")
    assert "cannot be read" in error_line(f"{tmp_path}/a\0b.png")
    assert "cannot be read" in error_line(tmp_path / ("long" * 100))


def test_a_name_with_a_line_break_stays_on_one_line(tmp_path):
    assert "two\\nlines.png: no such file" in error_line(tmp_path / "two\nlines.png")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"just text\n", "not an image"),
        (bytes(1000), "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),  # Pillow would start Ghostscript
        (b"\x89PNG\r\n\x1a\n", "header"),
        (png(0, 5), "0 pixels"),
        (png(5, 0), "0 pixels"),
        (png(30, 30), "cut or broken"),
        (png(60_000, 60_000), "too large"),  # past Pillow's own bound
        (png(10_000, 10_000), "10000 x 10000: too large, a picture may have 50,000,000 pixels"),
        (png(1, MAX_PIXELS + 1), "too large"),
        (png(1, 1, b"\0\0"), "blank"),
    ],
)
def test_bad_files(tmp_path, data, message):
    path = tmp_path / "a.png"
    path.write_bytes(data)
    assert message in error_line(path)


@pytest.mark.parametrize("size", [(60_000, 60_000), (8_000, 8_000)])
def test_a_bomb_is_refused_without_decoding_it(tmp_path, size):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(*size, bytes(1_000_000)))
    tracemalloc.start()
    start = time.perf_counter()
    error_line(path)
    assert time.perf_counter() - start < 1
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_a_chunk_that_claims_gigabytes_takes_none(tmp_path):
    path = saved(DIGIT, tmp_path / "a.png")
    data = path.read_bytes()
    at = data.index(b"IDAT")
    path.write_bytes(data[: at - 4] + b"\xff" + data[at - 3 :])
    tracemalloc.start()
    with suppress(InputError):
        read_digit(path)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_the_bound_can_be_set(tmp_path):
    path = saved(DIGIT, tmp_path / "a.png")
    np.testing.assert_array_equal(read_digit(path, max_pixels=28 * 28), DIGIT)
    assert "28 x 28: too large, a picture may have 783 pixels" in error_line(path, max_pixels=783)


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "gif", "webp"])
def test_cut_in_half(tmp_path, extension):
    path = saved(enlarge(DIGIT, 10), tmp_path / f"a.{extension}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    message = error_line(path)
    assert "cut" in message


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "gif", "webp"])
def test_cut_and_flipped_files_raise_nothing_but_input_errors(tmp_path, extension):
    buffer = io.BytesIO()
    Image.fromarray(enlarge(DIGIT, 2)).save(buffer, {"jpg": "jpeg"}.get(extension, extension))
    data = buffer.getvalue()
    rng = np.random.default_rng(0)
    broken = [data[: int(n)] for n in np.linspace(0, len(data) - 1, 60)]
    for _ in range(200):
        flipped = bytearray(data)
        for position in rng.integers(0, min(len(data), rng.choice([40, 300, 1 << 20])), rng.integers(1, 4)):
            flipped[position] ^= 1 << int(rng.integers(8))
        broken.append(bytes(flipped))
    path = tmp_path / "broken"
    refused = []
    for one in broken:
        path.write_bytes(one)
        try:
            drawing = read_digit(path)
        except InputError as error:
            refused.append(str(error))
        else:
            assert drawing.shape == (28, 28)
    assert len(refused) > 40
    assert all(message.isprintable() for message in refused)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("colour", [0, 1])
def test_blank_files(tmp_path, mode, colour):
    image = Image.new("L", (60, 40), 255 * colour).convert(mode)
    if "A" in mode:
        image.putalpha(255 * colour)
    assert "blank" in error_line(saved(image, tmp_path / "a.png"))


def test_blank_arrays_and_noise():
    rng = np.random.default_rng(0)
    blank = [np.full((28, 28), 7), np.zeros((1, 1)), np.zeros((1, 900)), np.zeros((2, 3))]
    blank += [150 + rng.normal(0, sigma, (120, 90)) for sigma in (0.5, 3, 15)]
    blank += [150 + rng.normal(0, 3, (300, 400)) + np.linspace(0, 60, 400)]
    for picture in blank:
        with pytest.raises(InputError, match="blank"):
            normalize_digit(picture)


@pytest.mark.parametrize(
    "picture",
    [np.zeros((28, 28, 3)), np.zeros(784), np.zeros((0, 5)), np.full((28, 28), np.nan), np.full((9, 9), np.inf)],
)
def test_arrays_that_are_no_pictures(picture):
    with pytest.raises(InputError, match="a picture"):
        normalize_digit(picture)


def test_any_shape_gives_a_drawing_or_an_input_error():
    rng = np.random.default_rng(0)
    for _ in range(300):
        shape = tuple(int(n) for n in rng.integers(1, rng.choice([5, 40, 200]), 2))
        picture = np.full(shape, rng.integers(256))
        picture[rng.random(shape) < rng.random() ** 3] = rng.integers(256)
        try:
            drawing = normalize_digit(picture)
        except InputError:
            continue
        assert drawing.shape == (28, 28)
        assert drawing.any()


def test_mxnet_is_not_needed():
    """Reading a picture does not load MXNet."""
    code = "import sys, gluon_lenet.inference.pictures.forms; sys.exit('mxnet' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# Figures


@pytest.mark.parametrize("count", [1, 5, 13])
def test_show_drawings(count, tmp_path):
    names = [f"{i}.png" for i in range(count)]
    figure = show_drawings(DIGITS[:count], ["7"] * count, [0.973] * count, names)
    shown = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in shown] == [f"{name}\n7  97.3%" for name in names]
    np.testing.assert_array_equal(shown[-1].images[0].get_array(), DIGITS[count - 1])
    figure.savefig(tmp_path / "show.png")
    with Image.open(tmp_path / "show.png") as image:
        assert image.width > 100


def test_show_drawings_of_no_files():
    assert show_drawings([], [], [], []).axes


def test_show_drawings_with_any_name(tmp_path):
    """No missing glyph, no formula, no second line: warnings are errors here."""
    names = [
        "我的数字.png",
        "$x^2$_{.png",
        "😀.png",
        "a\nb\t.png",
        os.fsdecode(b"\xff\xfe.png"),
        "/far/away/" + "长" * 80,
    ]
    for extension in ("png", "svg", "pdf"):
        show_drawings(DIGITS[:6], ["7"] * 6, [1.0] * 6, names).savefig(tmp_path / f"show.{extension}")


def test_show_drawings_wants_one_of_each():
    with pytest.raises(ValueError, match="zip"):
        show_drawings(DIGITS[:2], ["7"], [1.0, 1.0], ["a", "b"])
