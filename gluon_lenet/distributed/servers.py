"""A process whose DMLC_ROLE is scheduler or server -> that process's whole life."""

from __future__ import annotations

import io
import os
import pickle

import wrapt

from gluon_lenet.distributed.processes import follow_parent

# What the optimizer of a dist_async run consists of.
_HARMLESS = {
    ("copy_reg", "_reconstructor"),  # as MXNet's protocol 0 names them
    ("__builtin__", "object"),
    ("mxnet.optimizer.optimizer", "SGD"),
    ("mxnet.optimizer.optimizer", "Adam"),
    ("mxnet.lr_scheduler", "MultiFactorScheduler"),
    ("mxnet.lr_scheduler", "CosineScheduler"),
}


class _Unpickler(pickle.Unpickler):
    """Loads optimizers and nothing that could run code."""

    def find_class(self, module, name):
        """See pickle.Unpickler."""
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in an optimizer")
        return super().find_class(module, name)


def serve_if_asked() -> None:
    """Be the scheduler or a server if DMLC_ROLE says so, and exit when all workers have left; else return at once.

    MXNet does it when it is imported, and unpickles what it is sent: here only the recipes' optimizers.
    """
    follow_parent()
    if os.environ.get("DMLC_ROLE") not in ("scheduler", "server"):
        return

    @wrapt.when_imported("mxnet.kvstore.kvstore")  # before kvstore_server, whose import is the server's life
    def guard(module):
        def loads(data, *args, **kwargs):
            return _Unpickler(io.BytesIO(data), *args, **kwargs).load()

        pickle.loads = loads  # the process does nothing else

    import mxnet  # noqa: F401

    raise SystemExit(0)
