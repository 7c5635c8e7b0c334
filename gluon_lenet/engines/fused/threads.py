"""A C function's address -> that function, entered by several threads at once.

The threads are OpenMP's, those MXNet computes with: they wait for work awake for a moment, so that handing it to them
takes microseconds where Python's threads take a tenth of a training step.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading


def run(function: int, argument: int, threads: int):
    """Call `void function(argument)`, both addresses, from up to `threads` threads; returns when all are done.

    The function must share out the work itself: it may be that fewer threads come.
    """
    parallel, process = _openmp()
    if threads > 1 and parallel and process == os.getpid():
        parallel(function, argument, threads, 0)
        return
    call = _callable(function)
    helpers = [threading.Thread(target=call, args=(argument,)) for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    call(argument)
    for helper in helpers:
        helper.join()


@functools.cache  # made anew, it takes longer than calling it
def _callable(function: int):
    """`void function(argument)`, an address, as a function that Python can call."""
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)


@functools.cache
def _openmp():
    """`GOMP_parallel(function, argument, threads, flags)` of the library MXNet loaded, or None; and this process.

    Its threads are waited for in vain in a process that is forked from one that used them.
    """
    for library in (None, "libgomp.so.1"):  # None: whatever this process has loaded for all
        try:
            parallel = ctypes.CDLL(library).GOMP_parallel
        except (OSError, AttributeError):
            continue
        parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        parallel.restype = None
        return parallel, os.getpid()
    return None, os.getpid()
