"""MXNet's CPU arrays -> the address of their memory; and NumPy arrays that begin where vectors like it."""

from __future__ import annotations

import ctypes

import numpy as np
from mxnet.base import _LIB, check_call
from mxnet.ndarray import NDArray

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


def aligned_zeros(shape: tuple[int, ...], dtype=np.float32) -> np.ndarray:
    """As `np.zeros`, the memory a multiple of ALIGNMENT bytes from 0."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def address(array: NDArray) -> int:
    """The address of a CPU array's first element; it stays the same as long as the array lives."""
    pointer = ctypes.c_void_p()
    check_call(_LIB.MXNDArrayGetData(array.handle, ctypes.byref(pointer)))
    return pointer.value
