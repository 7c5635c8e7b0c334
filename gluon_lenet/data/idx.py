"""IDX bytes <-> uint8 arrays, strict: images (n, h, w), labels (n,).

The format, from LeCun's MNIST page: two zero bytes, one byte for the type (0x08 is uint8, the only one here), one for
the number of dimensions, each dimension as a big-endian uint32, then the values in C order, and nothing after them.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gluon_lenet.atomic import open_regular
from gluon_lenet.errors import InputError

MAX_BYTES = 1 << 28  # of one file, unpacked; five times the largest file of the two data sets

_UINT8 = 0x08
_MAX_DIMENSIONS = 3
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class IdxFile:
    """One of a data set's files: name, shape and hash."""

    name: str
    shape: tuple[int, ...]
    sha256: str  # of the unpacked bytes, since mirrors pack differently

    @property
    def size(self) -> int:
        """Bytes, unpacked."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)


class IDXError(InputError):
    """A file is not the expected IDX file; the message names the file and what is wrong."""


def read_idx(path: str | os.PathLike) -> np.ndarray:
    """The array in an IDX file, gzipped or not: uint8, one to three dimensions, read-only.

    Raises:
        IDXError: not a complete IDX file of uint8.
        OSError: the file cannot be read.
    """
    return parse_idx(read_bytes(path), os.fspath(path))


def read_bytes(path: str | os.PathLike, limit: int = MAX_BYTES) -> bytes | memoryview:
    """The bytes of a regular file, unpacked if they are gzipped, whatever the file's extension.

    They are a read-only copy in memory: later changes of the file do not affect them.

    Raises:
        IDXError: not a regular file, longer than `limit` bytes, or a truncated or broken gzip stream.
        OSError: the file cannot be read.
    """
    try:
        file = open_regular(path)
    except InputError as error:
        raise IDXError(str(error)) from None
    with file:
        size = os.fstat(file.fileno()).st_size
        if size > max_packed(limit):
            raise IDXError(f"{os.fspath(path)}: longer than the {limit} bytes it may have")
        memory = np.empty(size, np.uint8)  # large pages: reading into `bytes` takes three times as long
        size = file.readinto(memory)  # less if the file was truncated meanwhile
    memory.flags.writeable = False
    return unpack(memoryview(memory)[:size], os.fspath(path), limit)


def max_packed(limit: int) -> int:
    """The largest size of a gzip file of `limit` bytes: deflate adds 5 bytes to a block it cannot compress."""
    return limit + limit // 1000 + 4096


def unpack(data: bytes | memoryview, name: str, limit: int = MAX_BYTES) -> bytes | memoryview:
    """`data`, unpacked if it is gzipped; never more than `limit` bytes, even of a gzip bomb.

    Raises:
        IDXError: longer than `limit` bytes, or a truncated or broken gzip stream.
    """
    if data[:2] == _GZIP_MAGIC:
        try:
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(limit + 1)
        except EOFError:
            raise IDXError(f"{name}: the gzip stream is cut off") from None
        except (OSError, zlib.error) as error:
            raise IDXError(f"{name}: the gzip stream is broken ({error})") from None
    if len(data) > limit:
        raise IDXError(f"{name}: longer than the {limit} bytes it may have")
    return data


def parse_idx(data: bytes | memoryview, name: str) -> np.ndarray:
    """IDX bytes -> a read-only uint8 array of one to three dimensions that shares their memory.

    Args:
        data: the whole file, unpacked.
        name: of the file, for messages.

    Raises:
        IDXError: wrong magic number, type or dimensions, or the header and the number of values disagree.
    """
    if len(data) < 4:
        raise IDXError(f"{name}: {len(data)} bytes are too short for an IDX file")
    zeros, dtype, ndim = data[:2], data[2], data[3]
    if zeros != b"\0\0":
        raise IDXError(f"{name}: not an IDX file; it begins with {data[:4].hex(' ')}, an IDX file with 00 00")
    if dtype != _UINT8:
        raise IDXError(f"{name}: IDX type code 0x{dtype:02x}; must be 0x08, uint8")
    if not 1 <= ndim <= _MAX_DIMENSIONS:
        raise IDXError(f"{name}: {ndim} dimensions; must be 1 (labels) to {_MAX_DIMENSIONS} (images)")
    header = 4 + 4 * ndim
    if len(data) < header:
        raise IDXError(f"{name}: {len(data)} bytes end inside the header of {header} bytes")
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, header, 4))
    if 0 in shape:
        raise IDXError(f"{name}: the header promises {_times(shape)} values, which is none")
    promised, held = math.prod(shape), len(data) - header  # Python integers cannot overflow
    if promised > held:
        raise IDXError(f"{name}: cut off; the header promises {_times(shape)} values, {held} follow")
    if promised < held:
        raise IDXError(f"{name}: {held - promised} bytes trail the {_times(shape)} values of the header")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def parse_images(data: bytes | memoryview, name: str, size: tuple[int, int] = (28, 28)) -> np.ndarray:
    """IDX bytes -> images, uint8 (n, h, w) with (h, w) = `size`; raises IDXError for anything else."""
    images = parse_idx(data, name)
    if images.ndim != 3 or images.shape[1:] != size:
        raise IDXError(f"{name}: holds {_times(images.shape)} values; must be images, n x {_times(size)}")
    return images


def parse_labels(data: bytes | memoryview, name: str, num_classes: int = 10) -> np.ndarray:
    """IDX bytes -> labels, uint8 (n,), each below `num_classes`; raises IDXError for anything else."""
    labels = parse_idx(data, name)
    if labels.ndim != 1:
        raise IDXError(f"{name}: holds {_times(labels.shape)} values; must be labels, one dimension")
    wrong = labels >= num_classes
    if wrong.any():
        at = int(wrong.argmax())
        raise IDXError(f"{name}: label {labels[at]} at position {at}; labels are 0 to {num_classes - 1}")
    return labels


def check_pair(images: np.ndarray, labels: np.ndarray, images_name: str, labels_name: str) -> None:
    """Raise IDXError unless there is one label per image."""
    if len(images) != len(labels):
        raise IDXError(f"{labels_name}: {len(labels)} labels for the {len(images)} images of {images_name}")


def idx_bytes(array: np.ndarray) -> bytes:
    """A uint8 array of one to three dimensions, none of them empty -> IDX bytes; raises ValueError for other arrays."""
    if array.dtype != np.uint8 or not 1 <= array.ndim <= _MAX_DIMENSIONS or array.size == 0:
        raise ValueError(f"IDX here is uint8 of 1 to 3 dimensions, not {array.dtype} of shape {array.shape}")
    return bytes((0, 0, _UINT8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write_idx(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write a uint8 array as an IDX file, gzipped if the name ends in .gz; raises ValueError as `idx_bytes` does."""
    data = idx_bytes(array)
    if os.fspath(path).endswith(".gz"):
        packed = io.BytesIO()
        with gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as file:  # no name, no time: reproducible bytes
            file.write(data)
        data = packed.getvalue()
    Path(path).write_bytes(data)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
