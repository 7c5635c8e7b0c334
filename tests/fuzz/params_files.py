"""Gluon's .params files with wrong counts, shapes, dtypes, names, or damaged bytes -> `params_file`."""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path

import mxnet as mx
import numpy as np

from fuzz.mutate import EDGES, Tape, cases, damage
from fuzz.target import Target, check_refusal
from gluon_lenet.errors import InputError
from gluon_lenet.inference import params_file
from gluon_lenet.nets.zoo import nn

FILE = Path("weights.params")
NAMES = [
    *("0.bias", "1.weight", "arg:dense0_weight", "dense7_bias", "", "aux:", "a.b.c", "数", "\n", "\0", "dense٣_weight"),
]
_FLOATS = [0.0, -1.5, 1e-45, 1.8e19, 1.9e19, 3e38, float("inf"), float("nan")]


def _net() -> nn.HybridSequential:
    net = nn.HybridSequential()
    net.add(nn.Dense(3, in_units=2))
    net.initialize()
    return net


NET = _net()
PARAMETERS = NET._collect_params_with_prefix()
BLANK = {name: param.data().asnumpy() for name, param in PARAMETERS.items()}


def make(tape: Tape) -> bytes:
    """A file of this net's parameters, named in one of Gluon's two ways, with up to two wrong fields."""
    arrays = []
    for name, other, shape in (("0.weight", "dense0_weight", (3, 2)), ("0.bias", "dense0_bias", (3,))):
        arrays.append({"name": name, "other": other, "magic": params_file.ARRAY_MAGIC, "kind": 0, "shape": list(shape)})
        arrays[-1] |= {"ndim": len(shape), "dtype": 0, "number": 0.5, "context": (1, 0), "values": prod(shape)}
    names = tape.one(["name", "other"])
    lists = {"magic": params_file.LIST_MAGIC, "reserved": 0, "arrays": 2, "names": 2}
    wrong = tape.number(0, 9)
    if wrong == 9:
        return tape.data(tape.number(0, 40))
    for _ in range(0 if wrong == 0 else tape.number(1, 2)):
        array = tape.one(arrays)
        what = tape.one(
            ["list", "field", "shape", "reshape", "dtype", "dtype", "number", "number", "name", "twice", "np"]
        )
        if what == "list":
            lists[tape.one(list(lists))] = tape.one(EDGES)
        elif what == "field":
            array[tape.one(["magic", "kind", "ndim", "values"])] = tape.one([*EDGES[:16], 2**32 - 1]) % 2**32
        elif what == "shape" and array["shape"]:
            array["shape"][tape.number(0, len(array["shape"]) - 1)] = tape.one(EDGES)
        elif what == "reshape":
            array["shape"] = [tape.number(0, 3) for _ in range(tape.number(0, 9))]
            array |= {"ndim": len(array["shape"]), "values": prod(array["shape"])}
        elif what == "dtype":
            array["dtype"] = tape.number(0, 12) if tape.chance(2) else tape.one(EDGES) % 2**32
        elif what == "number":
            array["number"] = tape.one(_FLOATS)
        elif what == "name":
            array[names] = tape.one(NAMES)
        elif what == "twice":
            array[names] = arrays[0][names]
        elif what == "np":
            for array in arrays:
                array["magic"] = params_file.NUMPY_MAGIC
    data = _file(lists, arrays, names)
    return damage(tape, data) if wrong >= 7 else data


def _file(lists: dict, arrays: list[dict], names: str) -> bytes:
    parts = [struct.pack("<3Q", lists["magic"], lists["reserved"], lists["arrays"])]
    for array in arrays:
        parts.append(struct.pack("<III", array["magic"], array["kind"], array["ndim"]))
        parts += [struct.pack("<Q", size) for size in array["shape"]]
        parts.append(struct.pack("<iiI", *array["context"], array["dtype"]))
        dtype = np.dtype(dict(enumerate(params_file.DTYPES)).get(array["dtype"], "uint8"))
        with np.errstate(all="ignore"):
            number = np.asarray(array["number"]).astype(dtype)
        parts.append(number.tobytes() * min(array["values"], 1000))
    parts.append(struct.pack("<Q", lists["names"]))
    for array in arrays:
        name = array[names].encode()
        parts += [struct.pack("<Q", len(name)), name]
    return b"".join(parts)


def read(case: bytes) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray] | None]:
    """The arrays in the file, and the net's weights afterwards; None if they do not fit, and the net is unchanged."""
    FILE.write_bytes(case)
    arrays = params_file.read_params(FILE)
    try:
        params_file.load_params(FILE, NET)
    except InputError as error:
        check_refusal(error, str(FILE))
        assert _bits(_weights()) == _bits(BLANK)
        return arrays, None
    weights = _weights()
    for name, param in PARAMETERS.items():
        param.set_data(mx.nd.array(BLANK[name]))
    return arrays, weights


def _weights() -> dict[str, np.ndarray]:
    return {name: param.data().asnumpy() for name, param in PARAMETERS.items()}


def _bits(arrays: dict[str, np.ndarray]) -> dict:
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}


def holds(case: bytes, read: tuple[dict[str, np.ndarray], dict[str, np.ndarray] | None]) -> None:
    """MXNet, which aborts on many invalid files, reads the same arrays, and they are the net's weights."""
    arrays, weights = read
    magics = [struct.pack("<I", magic) in case for magic in (params_file.ARRAY_MAGIC, params_file.NUMPY_MAGIC)]
    if not all(magics):  # MXNet reads either kind of array, but not both in one file
        with mx.util.np_shape(magics[1]):
            theirs = mx.nd.load(str(FILE))
        theirs = theirs if isinstance(theirs, dict) else {}  # MXNet returns a list for a file without names
        assert _bits({name: array.asnumpy() for name, array in theirs.items()}) == _bits(arrays)
    sizes = [32 + 8 * array.ndim + array.nbytes + len(name.encode()) for name, array in arrays.items()]
    assert len(case) == 32 + sum(sizes), "bytes that belong to no array"
    if weights is not None:
        found = {name.replace("_", ".").rpartition(".")[2]: array for name, array in arrays.items()}
        assert _bits({name.rpartition(".")[2]: array for name, array in weights.items()}) == _bits(found)
        assert all(np.isfinite(array * array).all() for array in weights.values())


TARGET = Target(cases(make), read, holds, culprit=str(FILE))
