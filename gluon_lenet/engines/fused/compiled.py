"""A task (`tables.RUN_TASK` or `UPDATE_TASK`) -> done, by the compiled kernel and the processor's cores.

Numba compiles the kernel once on a machine and keeps it on disk, in `__pycache__` or the user's cache folder.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from pathlib import Path

import numpy as np
from numba import cfunc, from_dtype, types
from numba.core import event

from gluon_lenet.engines.fused import arrays, blocks, memory, rules, sizes, tables, threads
from gluon_lenet.engines.fused.program import Program
from gluon_lenet.nets import layers

_TABLES = {tables.RUN: tables.RUN_TASK, tables.UPDATE: tables.UPDATE_TASK}
_ANY, _RUNS, _UPDATES = (from_dtype(table) for table in (tables.ANY_TASK, *_TABLES.values()))


class Task:
    """What the threads are to do.

    Args:
        kind: tables.RUN or tables.UPDATE.
        shares: in how many shares the work is divided, and so how many threads can take part.

    Attributes:
        totals: what they count, float64 (shares, tables.TOTALS).
    """

    def __init__(self, kind: int, shares: int):
        self._array, self._shares = np.zeros(1, _TABLES[kind]), shares
        self._fields, self._values = self._array[0], {}  # a view of it, and what was written there
        self._address = self._array.ctypes.data
        self._counters = np.zeros(tables.COUNTERS, np.int64)
        self.totals = np.zeros((shares, tables.TOTALS))
        self.set(kind=kind, shares=shares, counters=self._counters.ctypes.data, totals=self.totals.ctypes.data)

    def set(self, **fields):
        """Give fields of the task their values."""
        for name, value in fields.items():
            if self._values.get(name) != value:  # to write takes ten times as long
                self._fields[name] = self._values[name] = value

    def run(self, shares: int | None = None):
        """Do it, compiling the kernel if it must be; returns when all threads are done.

        Args:
            shares: fewer than otherwise, for this time; `totals` has as many rows that count.
        """
        shares = shares or self._shares
        self.set(shares=shares)
        self._counters[:] = 0
        threads.run(address(), self._address, shares)


class RunTask(Task):
    """A task `tables.RUN_TASK` of a program, with memory for each thread; what is to be computed is still to be set.

    Args:
        program: where everything is in a thread's memory.
        layers: the program's table, with the addresses of parameters.
        threads: how many can take part.
    """

    def __init__(self, program: Program, layers: np.ndarray, threads: int):
        super().__init__(tables.RUN, threads)
        floats = arrays.aligned_zeros((threads, program.size))
        starts = np.zeros((threads, sizes.LANES), np.int64)
        self._used = layers, program.fields, floats, starts  # by their addresses
        first_pixel, image_row, image_plane = program.image
        self.set(
            memory=floats.ctypes.data,
            size=program.size,
            sums_size=program.sums_size,
            scratch=program.scratch,
            kept=program.kept,
            kept_size=program.kept_size,
            layers=layers.ctypes.data,
            num_layers=len(layers),
            fields=program.fields.ctypes.data,
            num_fields=len(program.fields),
            channels=program.input_shape[0],
            first_pixel=first_pixel,
            image_row=image_row,
            image_plane=image_plane,
            rubbish=program.loss.rubbish,
            smoothing=program.loss.smoothing,
            starts=starts.ctypes.data,
        )


class _Announcer(event.Listener):
    """Says on stderr that the kernels are being compiled, when Numba begins to."""

    def __init__(self):
        self.said = False

    def on_start(self, started):
        if not self.said:
            print("compiling the fused kernels, once on this machine (10 to 40 s) ...", file=sys.stderr, flush=True)
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
    """The compiled function `void run_task(int64_t address)` of a task, which several threads may enter at once."""
    # Numba compiles again what it has on the disk if this file has changed, or a variable that the function takes from
    # here: a hash of the other files.
    sources = [*sorted(Path(__file__).parent.glob("*.py")), Path(layers.__file__)]
    version = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()

    def run_task(address):
        _ = version
        if memory.at_address(_ANY, address, 1)[0].kind == tables.RUN:
            blocks.run(memory.at_address(_RUNS, address, 1)[0])
        else:
            rules.update(memory.at_address(_UPDATES, address, 1)[0])

    return cfunc(types.void(types.int64), cache=True, error_model="numpy")(run_task)
