"""IDX files whose magic number, dimensions, counts, length or gzip stream is wrong -> `data.idx`."""

from __future__ import annotations

import gzip
from math import prod
from pathlib import Path

import numpy as np

from fuzz.mutate import EDGES, Tape, cases, damage
from fuzz.target import Target
from gluon_lenet.data import idx

FILE = Path("some-idx-ubyte")
LIMIT = 4096  # bytes, unpacked


def make(tape: Tape) -> bytes:
    """An IDX file, right or with its header changed, gzipped or not, whole or damaged."""
    wrong = tape.one(["nothing", "magic", "count", "length", "bytes", "bytes", "random", "long"])
    if wrong == "random":
        return tape.data(tape.number(0, 40))
    shape = [tape.number(1, 5) for _ in range(tape.number(1, 3))]
    values = tape.data(tape.number(1, 8)) * prod(shape)
    magic, ndim, counts, length = [0, 0, 8], len(shape), list(shape), prod(shape)
    if wrong == "magic":
        magic[tape.number(0, 2)] = tape.number(0, 255)
        ndim = tape.number(0, 255) if tape.chance(2) else ndim
    elif wrong == "count":
        counts[tape.number(0, ndim - 1)] = tape.one(EDGES) % 2**32
        length = min(length, prod(counts)) if tape.chance(2) else length
    elif wrong == "length":
        length = max(0, length + tape.number(-3, 3))
    elif wrong == "long":
        counts[0] = tape.number(LIMIT // prod(shape[1:]) - 9, LIMIT)
        values, length = bytes(prod(counts)), prod(counts)
    data = bytes([*magic, ndim]) + b"".join(count.to_bytes(4, "big") for count in counts) + values[:length]
    packing = tape.number(0, 4)
    if packing == 3:
        data = gzip.compress(data, 1)
    elif packing == 4:  # two gzip streams, one after the other, are one file
        data = gzip.compress(data[:7], 1) + gzip.compress(data[7:], 1)
    return damage(tape, data) if wrong == "bytes" else data


def read(case: bytes) -> np.ndarray:
    FILE.write_bytes(case)
    return idx.parse_idx(idx.read_bytes(FILE, LIMIT), str(FILE))


def holds(case: bytes, array: np.ndarray) -> None:
    """The array is exactly what the header declares; it is accepted as labels only if it is 1-D and below 10."""
    if case[:2] == b"\x1f\x8b":
        case = gzip.decompress(case)
    assert len(case) <= LIMIT
    assert case[:3] == b"\0\0\x08"
    shape = np.frombuffer(case, ">u4", case[3], 4).tolist()
    assert (array.dtype, list(array.shape), array.flags.writeable) == (np.uint8, shape, False)
    assert case[4 + 4 * len(shape) :] == array.tobytes()
    assert idx.idx_bytes(array) == case
    try:
        labels = idx.parse_labels(case, str(FILE))
    except idx.IDXError:
        assert array.ndim != 1 or array.max() > 9
    else:
        assert labels.tobytes() == array.tobytes()
        assert labels.max() < 10


TARGET = Target(cases(make), read, holds, culprit=str(FILE))
