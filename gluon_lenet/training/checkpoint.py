"""A net and its trainer <-> one safetensors file with a JSON header: hashed, written atomically, never a pickle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import numpy as np
from mxnet import gluon, nd
from mxnet.gluon import Block
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from gluon_lenet.atomic import read_regular, write_atomically
from gluon_lenet.errors import InputError
from gluon_lenet.fields import decode
from gluon_lenet.nets.weights import check_fit, check_numbers, parameters, set_weights
from gluon_lenet.training.config import Header, Updates

LARGEST = 2**30  # bytes; a LeNet with its optimizer's states takes a million


class _Entry(msgspec.Struct):
    """Our entry in the metadata of the file."""

    header: str  # JSON
    sha256: str  # of the header and all tensors


def save(path: Path, net: Block, trainer: gluon.Trainer | None, header: Header) -> None:
    """Write the net's weights and, with a trainer, its optimizer's states as one safetensors file.

    Tensors are named by structure: "weights/0.weight", "optimizer/0.weight/1". `header` is stored as JSON with the
    optimizer's update counts and a SHA-256 of header and tensors, since safetensors does not detect flipped bits.
    """
    arrays = {f"weights/{name}": _array(param) for name, param in parameters(net).items()}
    if trainer is not None:
        arrays |= _optimizer_arrays(net, trainer)
        header = msgspec.structs.replace(header, updates=_update_counts(net, trainer))
    text = msgspec.json.encode(header).decode()
    # one entry: safetensors writes several in arbitrary order, but equal states of a run must give equal files
    metadata = {"gluon_lenet": json.dumps({"header": text, "sha256": _digest(arrays, text)})}
    write_atomically(path, safetensors.save(arrays, metadata))


def load(path: str | Path, net: Block, trainer: gluon.Trainer | None = None) -> Header:
    """Load weights from `path` into `net`, initialized, and optimizer states into the trainer; returns the header.

    Nothing is changed unless everything fits. `RunConfig.check_owns` checks whether the file belongs to the run.

    Raises:
        InputError: the file cannot be read or was changed after it was written, its names, shapes or dtypes do not
            match the net and the optimizer, or a number is NaN, infinite or too large to compute with.
    """
    arrays, header = _read(Path(path))
    for name in arrays:
        if not name.startswith(("weights/", "optimizer/")):
            raise InputError(f"{path} holds {name!r:.100}, which is not a weight or state of an optimizer")
    weights = {name.removeprefix("weights/"): array for name, array in arrays.items() if name.startswith("weights/")}
    check_fit(path, weights, parameters(net))
    check_numbers(path, arrays)
    if trainer is not None:
        states = _optimizer_states(path, arrays, header, net, trainer)
    set_weights(net, weights)
    if trainer is not None:
        _set_optimizer_states(net, trainer, states, header.updates)
    return header


def read_header(path: str | Path) -> Header:
    """The header given to `save`; raises InputError as `load` does."""
    return _read(Path(path))[1]


def _read(path: Path) -> tuple[dict[str, np.ndarray], Header]:
    data = read_regular(path, LARGEST)
    try:
        arrays = safetensors.load(data)
    except (SafetensorError, KeyError) as error:  # KeyError: a dtype that NumPy does not have
        raise InputError(f"{path} cannot be read as safetensors: {error}") from None
    size = int.from_bytes(data[:8], "little")  # of the JSON that follows, validated by safetensors
    try:
        metadata = json.loads(data[8 : 8 + size])["__metadata__"]["gluon_lenet"]
    except KeyError:
        raise InputError(f"{path} was not written by gluon_lenet: its header lacks our entry") from None
    entry = decode(metadata.encode(), _Entry, f"{path}, entry gluon_lenet")
    if _digest(arrays, entry.header) != entry.sha256:
        raise InputError(f"{path} is damaged: its SHA-256 is not the one it was written with")
    return arrays, decode(entry.header.encode(), Header, f"{path}, header")


def _digest(arrays: dict[str, np.ndarray], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def state_arrays(state) -> list[nd.NDArray]:
    """The arrays of one parameter's optimizer state: SGD has none, momentum one, Adam two."""
    if state is None:
        return []
    return [state] if isinstance(state, nd.NDArray) else [array for part in state for array in state_arrays(part)]


def _places(net: Block, trainer: gluon.Trainer) -> dict[int, str]:
    """The trainer's index of a parameter -> its structural name in the net."""
    places = {id(param): name for name, param in parameters(net).items()}
    return {index: places[id(param)] for index, param in enumerate(trainer._params)}


def _optimizer_arrays(net: Block, trainer: gluon.Trainer) -> dict[str, np.ndarray]:
    places = _places(net, trainer)
    return {
        f"optimizer/{places[index]}/{k}": array.asnumpy()
        for index, state in trainer._updaters[0].states.items()
        for k, array in enumerate(state_arrays(state))
    }


def _update_counts(net: Block, trainer: gluon.Trainer) -> Updates:
    places, optimizer = _places(net, trainer), trainer._optimizer
    counts = optimizer._all_index_update_counts.get(trainer._contexts[0].device_id, {})
    return Updates(
        optimizer=type(optimizer).__name__,
        num_update=optimizer.num_update,
        counts={places[index]: count for index, count in counts.items()},
    )


def _optimizer_states(path, arrays: dict, header: Header, net: Block, trainer: gluon.Trainer) -> dict[int, object]:
    """New states of the trainer's optimizer by parameter index, filled from the file; the trainer is not changed."""
    name, updates, places = type(trainer._optimizer).__name__, header.updates, _places(net, trainer)
    if updates is None or updates.optimizer != name:
        raise InputError(f"{path} holds no states of the optimizer {name}")
    for place in updates.counts.keys() - places.values():
        raise InputError(f"{path}, header: updates.counts names {place!r}, which is not a trained parameter")
    states, odd = {}, {key for key in arrays if key.startswith("optimizer/")}
    for index, place in places.items():
        if place not in updates.counts:
            continue  # not updated yet
        states[index] = trainer._optimizer.create_state_multi_precision(index, nd.array(arrays[f"weights/{place}"]))
        for k, array in enumerate(state_arrays(states[index])):
            key = f"optimizer/{place}/{k}"
            if key not in arrays or arrays[key].shape != array.shape or arrays[key].dtype != array.dtype:
                raise InputError(f"{path}: {key} is missing or not {np.dtype(array.dtype)} {array.shape}")
            array[:] = nd.array(arrays[key], dtype=array.dtype)
            odd.discard(key)
    if odd:
        raise InputError(f"{path} holds states the optimizer {name} does not have: {', '.join(sorted(odd))}")
    return states


def _set_optimizer_states(net: Block, trainer: gluon.Trainer, states: dict, updates: Updates) -> None:
    optimizer = trainer._optimizer
    indices = {place: index for index, place in _places(net, trainer).items()}
    counts = {indices[place]: count for place, count in updates.counts.items()}
    for ctx, updater in zip(trainer._contexts, trainer._updaters, strict=True):
        updater.states = {index: updater.sync_state_context(state, ctx) for index, state in states.items()}
        updater.states_synced = dict.fromkeys(states, True)
        optimizer._all_index_update_counts[ctx.device_id] = dict(counts)
    optimizer._set_current_context(trainer._contexts[0].device_id)
    optimizer.num_update = updates.num_update


def _array(param: gluon.Parameter) -> np.ndarray:
    return param.data(param.list_ctx()[0]).asnumpy()
