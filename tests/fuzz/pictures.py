"""Pictures of every kind and mode, damaged, forged, huge, thin, animated, rotated -> `read_digit`, `read_clothing`."""

from __future__ import annotations

import io
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from fuzz.mutate import EDGES, Tape, cases, damage
from fuzz.target import Target
from gluon_lenet.data.idx import read_idx
from gluon_lenet.inference.pictures import forms

FILE = Path("picture")
DIGIT = read_idx(Path(__file__).parents[1] / "samples" / "mnist" / "t10k-images-idx3-ubyte.gz")[0]  # a 7
READERS = [forms.read_digit, forms.read_clothing]
MAX_PIXELS = 4_000_000  # instead of the default, 50 million, so that the accepted pictures are read faster

PNG = b"\x89PNG\r\n\x1a\n"
CHUNKS = [
    *(b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"gAMA", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"fdAT"),
    *(b"zTXt", b"pHYs"),
]
TURNS = {  # EXIF orientation -> how the picture is transposed in a file with this orientation
    1: lambda digit: digit,
    2: np.fliplr,
    3: lambda digit: np.rot90(digit, 2),
    4: np.flipud,
    5: np.transpose,
    6: np.rot90,
    7: lambda digit: np.rot90(digit, 2).T,
    8: partial(np.rot90, k=3),
}


def _saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _colours(digit: np.ndarray, mode: str) -> Image.Image:
    grey = Image.fromarray(digit)
    if mode == "LA":
        return Image.merge("LA", [grey, Image.new("L", grey.size, 255)])
    if mode == "RGBA":
        return Image.merge("RGBA", [grey, grey, grey, Image.new("L", grey.size, 255)])
    if mode == "I;16":
        return Image.fromarray(digit.astype(np.uint16) * 257)
    if mode == "F":
        return Image.fromarray(digit.astype(np.float32))
    return grey.convert(mode)


def _turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return _saved(Image.fromarray(np.ascontiguousarray(TURNS[orientation](DIGIT))), "PNG", exif=exif)


def _pictures() -> tuple[list[bytes], list[bytes]]:
    """Files of the digit: lossless ones, and others, including unreadable ones."""
    negative = Image.fromarray(255 - DIGIT)
    exact = [_saved(_colours(DIGIT, mode), "PNG") for mode in ("L", "LA", "P", "RGB", "RGBA", "I;16")]
    exact += [_saved(_colours(DIGIT, mode), "BMP") for mode in ("L", "P", "RGB")]
    exact += [_saved(_colours(DIGIT, mode), "WEBP", lossless=True) for mode in ("RGB", "RGBA")]
    exact += [_turned(orientation) for orientation in TURNS]
    exact += [_saved(_colours(DIGIT, "L"), "GIF", save_all=True, append_images=[negative], duration=50)]
    exact += [_saved(_colours(DIGIT, "L"), "PNG", save_all=True, append_images=[negative], duration=50)]
    others = [_saved(_colours(DIGIT, "1"), kind) for kind in ("PNG", "BMP", "GIF", "TIFF")]
    others += [_saved(_colours(DIGIT, mode), "JPEG") for mode in ("L", "RGB", "CMYK")]
    others += [
        _saved(_colours(DIGIT, "RGB"), "JPEG", progressive=True),
        _saved(negative, "JPEG", exif=b"Exif\0\0MM\0*"),
    ]
    others += [_saved(_colours(DIGIT, mode), "WEBP") for mode in ("RGB", "RGBA")]
    others += [_saved(_colours(DIGIT, "RGB"), "WEBP", save_all=True, append_images=[negative], duration=50)]
    others += [_saved(_colours(DIGIT, mode), "TIFF") for mode in ("L", "F", "I;16", "CMYK")]
    others += [_saved(_colours(DIGIT, "L"), kind) for kind in ("PPM", "TGA", "ICO", "PCX")]
    return exact, others


EXACT, OTHERS = _pictures()


def make(tape: Tape) -> tuple[int, bytes]:
    """The number of a reader, and a file: the digit, damaged or not; a forged PNG; another size; random bytes."""
    kind = tape.one(["exact", "damaged", "damaged", "damaged", "chunks", "chunks", "png", "png", "any", "random"])
    if kind == "exact":
        data = tape.one(EXACT)
    elif kind == "damaged":
        data = damage(tape, tape.one(EXACT + OTHERS))
    elif kind == "chunks":
        data = _forged(tape, tape.one([data for data in EXACT if data.startswith(PNG)]))
    elif kind == "png":
        data = _png(tape)
    elif kind == "any":
        data = _any(tape)
    else:
        data = tape.one([b"", PNG, b"\xff\xd8\xff", b"BM", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"II*\0"])
        data += tape.data(tape.number(0, 40))
    return tape.number(0, 1), data


def _chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def _forged(tape: Tape, data: bytes) -> bytes:
    """A PNG with one chunk changed, repeated, removed, or preceded by another, and valid checksums."""
    chunks, at = [], len(PNG)
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    k = tape.number(0, len(chunks) - 1)
    name, body = chunks[k]
    what = tape.one(["damage", "damage", "another", "another", "again", "gone", "name"])
    if what == "damage":
        chunks[k] = name, damage(tape, body)
    elif what == "another":
        chunks.insert(k, (tape.one(CHUNKS), tape.data(tape.one([0, 1, 2, 3, 4, 6, 13, 26]))))
    elif what == "again":
        chunks.insert(tape.number(0, len(chunks)), (name, body))
    elif what == "gone":
        del chunks[k]
    else:
        chunks[k] = tape.one(CHUNKS), body
    return PNG + b"".join(_chunk(*chunk) for chunk in chunks)


def _png(tape: Tape) -> bytes:
    """A PNG of any depth, colour type, interlacing and size; its pixel data may be missing or of another size."""
    if tape.chance(3):
        width, height = (tape.one(EDGES[:-5]) for _ in range(2))
    else:
        width, height = tape.number(1, 60), tape.number(1, 60)
    depth, colour = tape.one([1, 2, 4, 8, 8, 8, 16, 3]), tape.one([0, 2, 3, 4, 6, 5])
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, colour, 0, 0, tape.number(0, 1)])
    row = b"\0" + (tape.data(8) * (width // 4 + 1))[: -(-width * depth * {2: 3, 4: 2, 6: 4}.get(colour, 1) // 8)]
    rows = b"".join([row, b"\0" * len(row)][tape.number(0, 3) == 0] for _ in range(min(height, 60)))
    chunks = [(b"IHDR", head)]
    if colour == 3 or tape.chance(8):
        chunks.append((b"PLTE", tape.data(tape.number(0, 4) * 3)))
    if tape.chance(4):
        chunks.append((b"tRNS", tape.data(tape.number(0, 6))))
    chunks += [(b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")]
    return PNG + b"".join(_chunk(*chunk) for chunk in chunks)


def _any(tape: Tape) -> bytes:
    """The digit or a blank picture of any size, from 1 pixel to a thin strip or a bomb, in any mode and format."""
    size = tape.one([(1, 1), (1, 28), (28, 1), (2, 2), (3, 700), (900, 2), (29, 28), (60, 41), (20, 20), (401, 7)])
    if tape.chance(60):
        return _saved(Image.new("1", tape.one([(2000, 2001), (9000, 9000), (1, 60_000)])), "PNG")
    digit = (
        np.asarray(Image.fromarray(DIGIT).resize(size)) if tape.chance(2) else np.full(size, tape.number(0, 255), "u1")
    )
    if tape.chance(3):
        digit = 255 - digit
    mode, kind = tape.one(
        [("1", "PNG"), ("L", "BMP"), ("LA", "PNG"), ("P", "GIF"), ("RGB", "JPEG"), ("CMYK", "JPEG"), ("I;16", "PNG")]
    )
    return _saved(_colours(digit, mode), kind)


def read(case: tuple[int, bytes]) -> np.ndarray:
    reader, data = case
    FILE.write_bytes(data)
    if READERS[reader] is forms.read_digit:
        return forms.read_digit(FILE, MAX_PIXELS)
    return forms.read_clothing(FILE)


def holds(case: tuple[int, bytes], image: np.ndarray) -> None:
    """The image is in the data set's form and not blank; it equals the digit if the file stores it losslessly."""
    _, data = case
    assert (image.dtype, image.shape) == (np.uint8, (28, 28))
    assert image.max() > 0
    if data in EXACT:
        assert np.array_equal(image, DIGIT)


TARGET = Target(cases(make, size=100), read, holds, culprit=f"{FILE}: ")
