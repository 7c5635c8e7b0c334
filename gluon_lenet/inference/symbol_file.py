"""A hybridizable net -> Gluon's symbol (JSON) and its parameters, the two files that `SymbolBlock.imports` loads."""

from __future__ import annotations

from pathlib import Path

import mxnet as mx

from gluon_lenet.atomic import write_output
from gluon_lenet.errors import InputError
from gluon_lenet.inference.params_file import format_params
from gluon_lenet.inference.trained import Trained

SYMBOL, PARAMS = "-symbol.json", "-0000.params"  # the ends of the names, as `HybridBlock.export` gives them
INPUT = "data"


def write_symbol(path: str | Path, trained: Trained) -> list[Path]:
    """Write the net as `net.export` does, but atomically; returns both files.

    `SymbolBlock.imports("NAME-symbol.json", ["data"], "NAME-0000.params")` loads them, without this package: its own
    layers have become MXNet's operations.

    Args:
        path: NAME-symbol.json; the parameters are written beside it, to NAME-0000.params.
        trained: the net.

    Raises:
        InputError: another name, or as `write_output`.
        DiskError: the disk is full, or fails.
    """
    path = Path(path)
    if not path.name.endswith(SYMBOL) or path.name == SYMBOL:
        raise InputError(f"{path}: end its name in {SYMBOL}; the parameters are written beside it, ending in {PARAMS}")
    symbol = trained.net(mx.sym.var(INPUT))
    parameters, auxiliary = dict(trained.net.collect_params()), symbol.list_auxiliary_states()
    arrays = {
        f"{'aux' if name in auxiliary else 'arg'}:{name}": parameters[name]._reduce().asnumpy()
        for name in symbol.list_inputs()
        if name != INPUT
    }
    params = path.with_name(path.name.removesuffix(SYMBOL) + PARAMS)
    write_output(params, format_params(arrays))
    write_output(path, symbol.tojson().encode())
    return [path, params]
