"""Checkpoints with damaged bytes, or with another header or other tensors, with a valid hash -> `checkpoint.load`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import mxnet as mx
import numpy as np
from mxnet import gluon
from safetensors import numpy as safetensors

from fuzz.mutate import Tape, cases, damage, damage_json, loads, same
from fuzz.target import Target
from gluon_lenet.errors import InputError
from gluon_lenet.nets.zoo import nn
from gluon_lenet.training import checkpoint
from gluon_lenet.training.config import Header
from gluon_lenet.training.metrics import Progress

FILE = Path("last.safetensors")
DTYPES = ["float32", "float64", "float16", "int8", "int32", "int64", "uint8", "bool", "uint64"]
NUMBERS = [0.0, -0.0, 1e-45, 1.8e19, 1.9e19, -3e38, np.inf, -np.inf, np.nan]
NAMES = [
    *("", "weights/", "weights/0.weight/0", "weights/1.weight", "optimizer/0.weight/1", "optimizer/9.bias/0"),
    *("数", "\n"),
]


PLACES = ["0.bias", "0.weight"]  # in the trainer's order


def _net(seed: int) -> tuple[nn.HybridSequential, gluon.Trainer]:
    """A net and its trainer, after a step."""
    mx.random.seed(seed)
    net = nn.HybridSequential()
    net.add(nn.Dense(3, in_units=2))
    net.initialize()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9})
    with mx.autograd.record():
        loss = net(mx.nd.ones((4, 2))).sum()
    loss.backward()
    trainer.step(4)
    return net, trainer


def _state(net, trainer) -> dict[str, np.ndarray]:
    """Everything that `load` sets, by the names it has in a checkpoint."""
    arrays = {f"weights/{name}": param.data().asnumpy() for name, param in net._collect_params_with_prefix().items()}
    states = trainer._updaters[0].states
    return arrays | {f"optimizer/{PLACES[index]}/0": state.asnumpy() for index, state in states.items()}


def _original() -> tuple[bytes, dict[str, np.ndarray], dict]:
    net, trainer = _net(seed=1)
    header = Header(
        run="0" * 32,
        recipe="a",
        net="b",
        seed=1,
        decisions={"lr": 0.1},
        progress=Progress(epoch=2, batch=1, loss_sum=2.5, num_correct=3, num_examples=4),
        rng={"numpy": {"generator": "PCG64", "seed": [1, 2]}},
    )
    checkpoint.save(FILE, net, trainer, header)
    data = FILE.read_bytes()
    return data, safetensors.load(data), json.loads(_entry(data)["header"])


def _retyped(tape: Tape) -> bytes:
    """The original, its bias declared with another dtype of the same or of half the size, which NumPy may not have."""
    halved = tape.chance(2)
    name = tape.one(["BF16", "F16", "I16", "F8_E5M2"] if halved else ["I32", "U32", "BF16", "F64", "C64", "X"])
    shape = f"[{6 if halved else 3}]"
    size = int.from_bytes(DATA[:8], "little")
    head = DATA[8 : 8 + size].replace(b'"dtype":"F32","shape":[3]', f'"dtype":"{name}","shape":{shape}'.encode())
    return len(head).to_bytes(8, "little") + head + DATA[8 + size :]


def _entry(data: bytes) -> dict:
    head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return json.loads(head["__metadata__"]["gluon_lenet"])


DATA, ARRAYS, HEADER = _original()
ORDER = sorted(ARRAYS)
NET, TRAINER = _net(seed=2)
BLANK = _state(NET, TRAINER)


def make(tape: Tape) -> bytes:
    """The original, with or without damaged bytes; or another header, other tensors or both, with a valid hash."""
    wrong = tape.one(["nothing", "bytes", "bytes", "header", "header", "header", "tensors", "tensors", "both", "type"])
    if wrong == "nothing":
        return DATA
    if wrong == "bytes":
        return damage(tape, DATA)
    if wrong == "type":
        return _retyped(tape)
    arrays, text = dict(ARRAYS), json.dumps(HEADER)
    if wrong != "header":
        for _ in range(tape.number(1, 2)):
            _change(tape, arrays)
    if wrong != "tensors":
        text = damage_json(tape, HEADER).decode("utf-8", "replace")
    return _sign(arrays, text)


@np.errstate(over="ignore", invalid="ignore")
def _change(tape: Tape, arrays: dict[str, np.ndarray]) -> None:
    """Change the value, dtype, shape or name of one tensor, or add or remove one; in place."""
    name = tape.one(ORDER)
    array = arrays.pop(name, ARRAYS[name])
    what = tape.one(["value", "value", "number", "dtype", "shape", "name", "less", "more"])
    if what == "less":
        return
    if what == "value":
        array = np.full_like(array, np.float32(tape.number(-1000, 1000)))
    elif what == "number":
        array = array.astype(tape.one(["float32", "float32", "float16", "float64"]))
        array.ravel()[:1] = tape.one(NUMBERS)
    elif what == "dtype":
        array = array.astype(tape.one(DTYPES))
    elif what == "shape":
        array = np.resize(array, [tape.number(0, 3) for _ in range(tape.number(0, 3))])
    elif what == "more":
        arrays[tape.one(NAMES)] = array
    arrays[tape.one(NAMES) if what == "name" else name] = array


def _sign(arrays: dict[str, np.ndarray], text: str) -> bytes:
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    entry = json.dumps({"header": text, "sha256": digest.hexdigest()})
    return safetensors.save(arrays, {"gluon_lenet": entry})


def read(case: bytes) -> tuple[Header, dict[str, np.ndarray]]:
    """The header, and the state of net and trainer afterwards; unchanged if the file is rejected."""
    FILE.write_bytes(case)
    try:
        header = checkpoint.load(FILE, NET, TRAINER)
    except InputError:
        assert _bits(_state(NET, TRAINER)) == _bits(BLANK)
        raise
    state = _state(NET, TRAINER)
    assert TRAINER._optimizer.num_update == header.updates.num_update
    _put_back()
    return header, state


def _put_back() -> None:
    for name, param in NET._collect_params_with_prefix().items():
        param.set_data(mx.nd.array(BLANK[f"weights/{name}"]))
    for index, place in enumerate(PLACES):
        TRAINER._updaters[0].states[index] = mx.nd.array(BLANK[f"optimizer/{place}/0"])


def _bits(arrays: dict[str, np.ndarray]) -> dict:
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}


def holds(case: bytes, read: tuple[Header, dict[str, np.ndarray]]) -> None:
    """Everything read is what the file says, and that matches the hash, or it is the original."""
    header, state = read
    arrays = safetensors.load(case)
    assert _bits(state) == _bits(arrays)
    assert all(
        np.isfinite(array).all() and np.isfinite(array.astype(np.float32) ** 2).all() for array in state.values()
    )
    entry = _entry(case)
    assert same(loads(entry["header"].encode()), json.loads(msgspec.json.encode(header)))
    if _entry(DATA) == entry:
        assert _bits(arrays) == _bits(ARRAYS)


TARGET = Target(cases(make), read, holds, culprit=str(FILE))
