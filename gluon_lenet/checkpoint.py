"""A run's directory: config.json, metrics.jsonl, curves.png, weights.safetensors; each file is whole or absent."""

from __future__ import annotations

import io
import json
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from gluon_lenet.errors import InputError

import numpy as np
from mxnet import nd
from mxnet.gluon import Block
from safetensors import SafetensorError
from safetensors import numpy as safetensors

CONFIG, METRICS, CURVES, WEIGHTS = "config.json", "metrics.jsonl", "curves.png", "weights.safetensors"


class RunDir:
    """The folder of one training run, made new; what is already there is never touched."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def create(cls, path: str | Path | None, recipe: str) -> RunDir:
        """Make the folder `path`, or `runs/<recipe>-<time>` if it is None.

        Raises:
            InputError: it is a file, holds a run already, or cannot be written to.
        """
        try:
            if path is not None:
                path = Path(path)
                path.mkdir(parents=True, exist_ok=True)
                taken = [name for name in (CONFIG, METRICS, CURVES, WEIGHTS) if (path / name).exists()]
                if taken:
                    raise InputError(f"run directory {path} already holds a run ({taken[0]}); name a new folder")
                with tempfile.TemporaryFile(dir=path):
                    pass  # to find out now, not after the first epoch, that nothing can be written there
                return cls(path)
            stamp = time.strftime("%Y%m%d-%H%M%S")
            for suffix in ["", *(f"-{n}" for n in range(2, 1000))]:  # several runs may start in one second
                path = Path("runs", f"{recipe}-{stamp}{suffix}")
                try:
                    path.mkdir(parents=True)
                except FileExistsError:
                    if not path.is_dir():
                        raise
                    continue
                return cls(path)
            raise InputError(f"run directory {path} and all its like exist; name one by --run-dir")
        except (FileExistsError, NotADirectoryError):
            raise InputError(f"run directory {path}: it, or a folder above it, is a file; name a folder") from None
        except OSError as error:
            raise InputError(f"run directory {path} cannot be written to: {error.strerror}; name another") from None

    def write_config(self, config: dict) -> None:
        """Write everything needed to repeat the run."""
        write_atomically(self.path / CONFIG, (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())

    def append_metrics(self, result) -> None:
        """Append one `training.EpochResult` as one line, on disk before this returns."""
        with open(self.path / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def write_curves(self, figure) -> None:
        """Write a matplotlib figure."""
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=120)
        write_atomically(self.path / CURVES, png.getvalue())

    def write_weights(self, net: Block, metadata: dict) -> None:
        """Write the net's weights; the previous ones stay until the new ones are whole."""
        save_weights(self.path / WEIGHTS, net, metadata)


def save_weights(path: Path, net: Block, metadata: dict) -> None:
    """Write the parameters of `net` as safetensors, named by their place in it ("0.weight").

    `metadata` goes into the file's header as JSON, as one entry: safetensors writes several in no fixed order, and
    equal weights are to give equal files.
    """
    arrays = {name: param.data(param.list_ctx()[0]).asnumpy() for name, param in _parameters(net).items()}
    write_atomically(path, safetensors.save(arrays, {"gluon_lenet": json.dumps(metadata)}))


def load_weights(path: str | Path, net: Block) -> None:
    """Give `net`, initialized, the weights in `path`; nothing is changed unless all of them fit.

    Raises:
        InputError: the file cannot be read, or its names, shapes or dtypes are not the net's.
    """
    try:
        arrays = safetensors.load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as safetensors: {error}") from None
    parameters = _parameters(net)
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
    for name, param in parameters.items():
        param.set_data(nd.array(arrays[name], dtype=arrays[name].dtype))


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, or a machine that loses power, finds the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _parameters(net: Block) -> dict:
    """Parameters by their place in the net, which does not change with the names Gluon counts up."""
    return dict(sorted(net._collect_params_with_prefix().items()))
