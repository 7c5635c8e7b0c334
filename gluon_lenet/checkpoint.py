"""A net and its trainer <-> one safetensors file with a JSON header: verified, whole or absent, never a pickle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from mxnet import gluon, nd
from mxnet.gluon import Block
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors

from gluon_lenet.errors import InputError
from gluon_lenet.run_dir import write_atomically


def save(path: Path, net: Block, trainer: gluon.Trainer | None, header: dict) -> None:
    """Write the net's weights and, with a trainer, its optimizer's states as one safetensors file.

    Tensors are named by their place: "weights/0.weight", "optimizer/0.weight/1". `header` is stored as JSON beside the
    optimizer's update counts and a SHA-256 over all of it, since safetensors does not notice a flipped bit.
    """
    arrays = {f"weights/{name}": _array(param) for name, param in _parameters(net).items()}
    if trainer is not None:
        arrays |= _optimizer_arrays(net, trainer)
        header = {**header, "updates": _update_counts(net, trainer)}
    text = json.dumps(header, ensure_ascii=False)
    # one entry, because safetensors writes several in no fixed order, and equal weights are to give equal files
    metadata = {"gluon_lenet": json.dumps({"header": text, "sha256": _digest(arrays, text)})}
    write_atomically(path, safetensors.save(arrays, metadata))


def load(path: str | Path, net: Block, trainer: gluon.Trainer | None = None, name: str | None = None) -> dict:
    """Give `net`, initialized, the weights in `path`, and the trainer its optimizer's states; returns the header.

    Nothing is changed unless everything fits. Nets may differ in what has no weights, activations or pooling: with
    `name`, the header's "net" must be that.

    Raises:
        InputError: the file cannot be read, was changed after it was written, or its names, shapes or dtypes are not
            those of the net and the optimizer, or the net is not called `name`.
    """
    arrays, header = _read(Path(path))
    weights = {name.removeprefix("weights/"): array for name, array in arrays.items() if name.startswith("weights/")}
    check_fit(path, weights, _parameters(net))
    if name is not None and header.get("net") != name:
        raise InputError(f"{path} holds the net {header.get('net')}, the run's is {name}")
    if trainer is not None:
        states = _optimizer_states(path, arrays, header, net, trainer)
    set_weights(net, weights)
    if trainer is not None:
        _set_optimizer_states(net, trainer, states, header["updates"])
    return header


def read_header(path: str | Path) -> dict:
    """The header `save` was given; raises InputError as `load` does."""
    return _read(Path(path))[1]


def set_weights(net: Block, weights: dict[str, np.ndarray]) -> None:
    """Give `net`, initialized, the weights by their places in it ("0.weight"), which must fit (`check_fit`)."""
    for name, param in _parameters(net).items():
        param.set_data(nd.array(weights[name], dtype=weights[name].dtype))


def check_fit(path: str | Path, arrays: dict, parameters: dict) -> None:
    """Raise InputError, with `path`, unless names, shapes and dtypes of the arrays are those of the parameters."""
    if arrays.keys() != parameters.keys():
        odd = sorted(arrays.keys() ^ parameters.keys())
        raise InputError(f"{path} holds other parameters than the net: {', '.join(odd)} on one side only")
    for name, param in parameters.items():
        # a net that has seen no data does not know all of its shapes: 0 stands for any
        fits = len(param.shape) == arrays[name].ndim and all(
            want in (0, got) for want, got in zip(param.shape, arrays[name].shape, strict=True)
        )
        if not fits or arrays[name].dtype != np.dtype(param.dtype):
            raise InputError(
                f"{path}: {name} is {arrays[name].dtype} {arrays[name].shape}, the net's is "
                f"{np.dtype(param.dtype)} {param.shape}"
            )


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = json.loads((file.metadata() or {})["gluon_lenet"])
            text, sha256 = metadata["header"], metadata["sha256"]
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as safetensors: {error}") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} was not written by gluon_lenet: its header lacks our entry") from None
    if _digest(arrays, text) != sha256:
        raise InputError(f"{path} is damaged: its SHA-256 is not the one it was written with")
    return arrays, json.loads(text)


def _digest(arrays: dict[str, np.ndarray], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _flat(state) -> list[nd.NDArray]:
    """The arrays of one parameter's optimizer state: SGD has none, momentum one, Adam two."""
    if state is None:
        return []
    return [state] if isinstance(state, nd.NDArray) else [array for part in state for array in _flat(part)]


def _places(net: Block, trainer: gluon.Trainer) -> dict[int, str]:
    """The trainer's number of a parameter -> the parameter's place in the net."""
    places = {id(param): name for name, param in _parameters(net).items()}
    return {index: places[id(param)] for index, param in enumerate(trainer._params)}


def _optimizer_arrays(net: Block, trainer: gluon.Trainer) -> dict[str, np.ndarray]:
    places = _places(net, trainer)
    return {
        f"optimizer/{places[index]}/{k}": array.asnumpy()
        for index, state in trainer._updaters[0].states.items()
        for k, array in enumerate(_flat(state))
    }


def _update_counts(net: Block, trainer: gluon.Trainer) -> dict:
    """How often each parameter was updated: Adam's bias correction and every schedule go by it."""
    places, optimizer = _places(net, trainer), trainer._optimizer
    counts = optimizer._all_index_update_counts.get(trainer._contexts[0].device_id, {})
    return {
        "optimizer": type(optimizer).__name__,
        "num_update": optimizer.num_update,
        "counts": {places[index]: count for index, count in counts.items()},
    }


def _optimizer_states(path, arrays: dict, header: dict, net: Block, trainer: gluon.Trainer) -> dict[int, object]:
    """Fresh states of the trainer's optimizer by parameter number, filled from the file; the trainer is not touched."""
    name, updates = type(trainer._optimizer).__name__, header.get("updates", {})
    if updates.get("optimizer") != name:
        raise InputError(f"{path} holds no states of the optimizer {name}")
    states, odd = {}, {key for key in arrays if key.startswith("optimizer/")}
    for index, place in _places(net, trainer).items():
        if place not in updates["counts"]:
            continue  # was not updated yet
        states[index] = trainer._optimizer.create_state_multi_precision(index, nd.array(arrays[f"weights/{place}"]))
        for k, array in enumerate(_flat(states[index])):
            key = f"optimizer/{place}/{k}"
            if key not in arrays or arrays[key].shape != array.shape or arrays[key].dtype != array.dtype:
                raise InputError(f"{path}: {key} is missing or not {np.dtype(array.dtype)} {array.shape}")
            array[:] = nd.array(arrays[key], dtype=array.dtype)
            odd.discard(key)
    if odd:
        raise InputError(f"{path} holds states the optimizer {name} does not have: {', '.join(sorted(odd))}")
    return states


def _set_optimizer_states(net: Block, trainer: gluon.Trainer, states: dict, updates: dict) -> None:
    optimizer = trainer._optimizer
    indices = {place: index for index, place in _places(net, trainer).items()}
    counts = {indices[place]: count for place, count in updates["counts"].items()}
    for ctx, updater in zip(trainer._contexts, trainer._updaters, strict=True):
        updater.states = {index: updater.sync_state_context(state, ctx) for index, state in states.items()}
        updater.states_synced = dict.fromkeys(states, True)
        optimizer._all_index_update_counts[ctx.device_id] = dict(counts)
    optimizer._set_current_context(trainer._contexts[0].device_id)
    optimizer.num_update = updates["num_update"]


def _parameters(net: Block) -> dict:
    """Parameters by their place in the net, which does not change with the names Gluon counts up."""
    return dict(sorted(net._collect_params_with_prefix().items()))


def _array(param: gluon.Parameter) -> np.ndarray:
    return param.data(param.list_ctx()[0]).asnumpy()
