"""A net <-> Gluon's own `.params` file, for exchange with stock Gluon; runs are stored by checkpoint.py.

The file is MXNet's list of arrays (`src/ndarray/ndarray.cc`). It has no checksum, so that a flipped bit in a weight can
go unnoticed, and MXNet's reader trusts it: a number of dimensions of -1 aborts the process. Here it is parsed as plain
numbers, nothing is allocated beyond the file's size, and everything is checked against the net before the net changes.
"""

from __future__ import annotations

import re
import struct
from math import prod
from pathlib import Path

import numpy as np
from mxnet import gluon
from mxnet.gluon import Block

from gluon_lenet.atomic import read_regular, write_output
from gluon_lenet.errors import InputError
from gluon_lenet.inference.trained import Trained
from gluon_lenet.nets.weights import check_fit, check_numbers, set_weights

LIST_MAGIC = 0x112
ARRAY_MAGIC, NUMPY_MAGIC = 0xF993FAC9, 0xF993FACA  # an array since MXNet 0.12; an array under npx.set_np
DENSE, CPU = 0, 1
DTYPES = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64")  # position = MXNet's number
LARGEST = 2**30  # bytes; a LeNet takes a quarter of a million


def save_params(path: str | Path, net: Block) -> None:
    """Write the net's weights as `net.save_parameters` does, byte for byte, but atomically.

    Raises:
        InputError: the folder of `path` does not exist, or `path` is a folder or another kind that cannot be replaced.
        DiskError: the disk is full, or fails.
    """
    arrays = {name: param._reduce().asnumpy() for name, param in net._collect_params_with_prefix().items()}
    write_output(path, format_params(arrays))


def write_params(path: str | Path, trained: Trained) -> list[Path]:
    """`save_params` of a run's net; returns the file."""
    save_params(path, trained.net)
    return [Path(path)]


def load_params(path: str | Path, net: Block) -> None:
    """Load the weights in `path` into `net`, initialized; it is not changed unless everything fits.

    The arrays may have the names of `net.save_parameters` ("0.weight"), or those of `net.collect_params().save`,
    `save_params` and `HybridBlock.export` ("conv0_weight", "arg:lenet0_conv0_weight"). The numbers of the
    layers do not matter, since Gluon's counters run on within a process: layers are matched in order.

    Raises:
        InputError: the file is missing or incomplete, its names, shapes or dtypes are not the net's, a number is NaN,
            infinite or too large to compute with, or a constant of the net has another value.
    """
    path = Path(path)
    arrays, parameters = read_params(path), net._collect_params_with_prefix()
    places = _match(path, list(arrays), net)
    weights = {place: arrays[name] for name, place in places.items()}
    check_fit(path, weights, parameters)
    check_numbers(path, arrays)
    for name, place in places.items():
        param = parameters[place]
        if isinstance(param, gluon.Constant) and not np.array_equal(arrays[name], param.value.asnumpy()):
            raise InputError(f"{path}: {name}, which is a constant, has other values than the net's")
    set_weights(net, weights)


def read_params(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays in a `.params` file by their names, in the file's order.

    Raises:
        InputError: the file is missing, empty, truncated, or not a .params file.
    """
    data = read_regular(path, LARGEST)
    try:
        return _parse(data)
    except ValueError as error:
        raise InputError(f"{path} is not a .params file of Gluon: {error}") from None


def format_params(arrays: dict[str, np.ndarray]) -> bytes:
    """The bytes of a `.params` file with these arrays."""
    parts = [struct.pack("<3Q", LIST_MAGIC, 0, len(arrays))]
    for array in arrays.values():
        shape = (array.ndim, *array.shape)
        parts.append(struct.pack(f"<Iii{array.ndim}q", ARRAY_MAGIC, DENSE, *shape))
        parts.append(struct.pack("<3i", CPU, 0, DTYPES.index(array.dtype.name)))
        parts.append(array.tobytes())
    parts.append(struct.pack("<Q", len(arrays)))
    for name in map(str.encode, arrays):
        parts += [struct.pack("<Q", len(name)), name]
    return b"".join(parts)


def _parse(data: bytes) -> dict[str, np.ndarray]:
    """The inverse of `format_params`; raises ValueError, with the reason, for anything else."""
    at = 0

    def piece(size: int) -> bytes:
        nonlocal at
        if size > len(data) - at:
            raise ValueError("it is truncated" if data else "it is empty")
        at += size
        return data[at - size : at]

    def number(form: str) -> int:
        return struct.unpack(f"<{form}", piece(struct.calcsize(f"<{form}")))[0]

    if number("Q") != LIST_MAGIC:
        raise ValueError("its first bytes are wrong")
    piece(8)  # reserved
    arrays = []
    for k in range(number("Q")):  # a count that is too large fails at the end of the file
        magic, kind, ndim = number("I"), number("i"), number("i")
        if magic not in (ARRAY_MAGIC, NUMPY_MAGIC) or kind != DENSE or not 1 <= ndim <= 8:
            raise ValueError(f"array {k} has a form that is not MXNet 1's for dense arrays")
        shape = [number("q") for _ in range(ndim)]
        piece(8)  # the device it was on
        dtype = number("i")
        if min(shape) < 1 or not 0 <= dtype < len(DTYPES):
            raise ValueError(f"array {k} has the shape {tuple(shape)} and the number {dtype} for its dtype")
        dtype = np.dtype(DTYPES[dtype])
        arrays.append(np.frombuffer(piece(prod(shape) * dtype.itemsize), dtype).reshape(shape))
    count = number("Q")
    if count != len(arrays):
        raise ValueError(f"it has {len(arrays)} arrays and {count} names")
    names = [piece(number("Q")).decode() for _ in arrays]
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes follow its end")
    if not all(map(str.isprintable, names)):
        raise ValueError("it has a name that cannot be printed")
    if len(set(names)) < len(names):
        raise ValueError("a name occurs twice")
    return dict(zip(names, arrays, strict=True))


def _match(path: Path, names: list[str], net: Block) -> dict[str, str]:
    """The names in the file -> the parameters' structural names in the net ("0.weight")."""
    places = {id(param): place for place, param in net._collect_params_with_prefix().items()}
    if any("." in name for name in names):
        ours = {place: ("", *place.rpartition(".")[::2]) for place in places.values()}
        theirs = {name: ("", *name.rpartition(".")[::2]) for name in names}
    else:
        blocks, ours, theirs = [], {}, {}
        net.apply(blocks.append)
        for block in blocks:
            kind = re.sub(r"\d+_$", "", block.prefix).rpartition("_")[2]  # "conv" of conv0_, or of lenet0_conv0_
            for param in block._reg_params.values():
                ours[places[id(param)]] = kind, block.prefix, param.name.removeprefix(block.prefix)
        known = {(kind, own_name) for kind, _, own_name in ours.values()}
        for name in names:
            for kind, own_name in known:
                found = re.fullmatch(rf"(?:arg:|aux:)?((?:.*_)?{kind}\d+_){own_name}", name)
                if found:
                    theirs[name] = kind, found[1], own_name
    ours, theirs = _by_rank(ours), _by_rank(theirs)
    odd = sorted({*names} - {*theirs.values()} | {theirs[key] for key in theirs.keys() - ours.keys()})
    missing = sorted(ours[key] for key in ours.keys() - theirs.keys())
    if odd or missing:
        sides = [f"{' '.join(odd)} has no place in the net"] if odd else []
        sides += [f"{' '.join(missing)} of the net is not in the file"] if missing else []
        raise InputError(f"{path} holds other parameters than the net: {', '.join(sides)}")
    return {theirs[key]: ours[key] for key in ours}


def _by_rank(names: dict[str, tuple[str, str, str]]) -> dict[tuple[str, int, str], str]:
    """name -> (kind of layer, layer, parameter), inverted: (kind, rank of the layer in its kind, parameter) -> name.

    Layers are ranked by the numbers in their names: conv9_ comes before conv10_.
    """

    def by_number(layer: str) -> list:
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", layer)]

    layers = sorted({(kind, layer) for kind, layer, _ in names.values()}, key=lambda pair: by_number(pair[1]))
    ranks = {}
    for kind, layer in layers:
        ranks[kind, layer] = sum(other == kind for other, _ in ranks)
    return {(kind, ranks[kind, layer], own_name): name for name, (kind, layer, own_name) in names.items()}
