"""Arrays by structural name ("0.weight") <-> the parameters of a net, checked before any of them changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mxnet import nd
from mxnet.gluon import Block, Parameter

from gluon_lenet.errors import InputError


def parameters(net: Block) -> dict[str, Parameter]:
    """Parameters by structural name, which does not depend on Gluon's global counters."""
    return dict(sorted(net._collect_params_with_prefix().items()))


def set_weights(net: Block, weights: dict[str, np.ndarray]) -> None:
    """Set the weights of `net`, initialized, by structural name ("0.weight"); they must fit (`check_fit`)."""
    for name, param in parameters(net).items():
        param.set_data(nd.array(weights[name], dtype=weights[name].dtype))


def check_fit(path: str | Path, arrays: dict, parameters: dict) -> None:
    """Raise InputError, with `path`, unless names, shapes and dtypes of the arrays are those of the parameters."""
    if arrays.keys() != parameters.keys():
        odd = sorted(arrays.keys() ^ parameters.keys())
        raise InputError(f"{path} holds other parameters than the net: {', '.join(map(repr, odd))} on one side only")
    for name, param in parameters.items():
        # before the first batch some shapes are unknown: 0 matches any size
        fits = len(param.shape) == arrays[name].ndim and all(
            want in (0, got) for want, got in zip(param.shape, arrays[name].shape, strict=True)
        )
        if not fits or arrays[name].dtype != np.dtype(param.dtype):
            raise InputError(
                f"{path}: {name} is {arrays[name].dtype} {arrays[name].shape}, the net's is "
                f"{np.dtype(param.dtype)} {param.shape}"
            )


def check_numbers(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Raise InputError, with `path` and the array's name, if a number is NaN, infinite, or its square would be."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"{path}: {name} has numbers that are NaN or infinite")
        largest = np.abs(array).max(initial=0)
        if array.dtype.kind == "f" and largest > np.sqrt(np.finfo(array.dtype).max):
            raise InputError(f"{path}: {name} has a number of size {largest:.2g}, whose square is infinite")
