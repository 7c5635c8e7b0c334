"""A task (`blocks.TASK`) -> done, by the compiled kernel and the processor's cores.

Numba compiles the kernel once on a machine and keeps it on disk, in `__pycache__` or the user's cache folder.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from pathlib import Path

import numpy as np
from numba import carray, cfunc, from_dtype, types
from numba.core import event

from gluon_lenet.engines.fused import activations, blocks, rules, threads, tiles, vectors
from gluon_lenet.nets import layers


class Task:
    """What the threads are to do.

    Args:
        kind: blocks.RUN or blocks.UPDATE.
        shares: in how many shares the work is divided, and so how many threads can take part.

    Attributes:
        totals: what they count, float64 (shares, blocks.TOTALS).
    """

    def __init__(self, kind: int, shares: int):
        self._array, self._shares = np.zeros(1, blocks.TASK), shares
        self._fields = self._array[0]  # a view of it
        self._address = self._array.ctypes.data
        self._counters = np.zeros(blocks.COUNTERS, np.int64)
        self.totals = np.zeros((shares, blocks.TOTALS))
        self.set(kind=kind, shares=shares, counters=self._counters.ctypes.data, totals=self.totals.ctypes.data)

    def set(self, **fields):
        """Give fields of `blocks.TASK` their values."""
        for name, value in fields.items():
            self._fields[name] = value

    def run(self):
        """Do it, compiling the kernel if it must be; returns when all threads are done."""
        self._counters[:] = 0
        threads.run(address(), self._address, self._shares)


class _Announcer(event.Listener):
    """Says on stderr that the kernels are being compiled, when Numba begins to."""

    def __init__(self):
        self.said = False

    def on_start(self, started):
        if not self.said:
            print("compiling the fused kernels, once on this machine (about 10 s) ...", file=sys.stderr, flush=True)
            self.said = True

    def on_end(self, ended):
        pass


class _Refuser(event.Listener):
    """Breaks off what Numba begins to compile."""

    def on_start(self, started):
        raise _NotCompiledError

    def on_end(self, ended):
        pass


class _NotCompiledError(Exception):
    pass


def is_compiled() -> bool:
    """Whether the disk has the kernel for this processor, this Numba and these sources; compiles nothing."""
    try:
        with event.install_listener("numba:compile", _Refuser()):
            _kernel()
    except _NotCompiledError:
        return False
    return True


@functools.cache
def address() -> int:
    """The address of the kernel, compiled or read from the disk at the first call."""
    with event.install_listener("numba:compile", _Announcer()):
        return _kernel().address


def _kernel():
    """The compiled function `void run_task(TASK *)`, which any number of threads may enter at once."""
    # Numba compiles again what it has on the disk if this file has changed, or a variable that the function takes from
    # here: a hash of the other files.
    sources = [module.__file__ for module in (layers, vectors, activations, tiles, blocks, rules)]
    version = hashlib.sha256(b"".join(Path(source).read_bytes() for source in sources)).hexdigest()

    def run_task(pointer):
        _ = version
        task = carray(pointer, 1)[0]
        if task.kind == blocks.RUN:
            blocks.run(task)
        else:
            rules.update(task)

    signature = types.void(types.CPointer(from_dtype(blocks.TASK)))
    return cfunc(signature, cache=True, error_model="numpy")(run_task)
