"""MXNet's CPU arrays -> the address of their memory; and NumPy arrays that begin where vectors like it."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterable

import numpy as np
from mxnet.base import _LIB, check_call
from mxnet.ndarray import NDArray

_get_data = _LIB.MXNDArrayGetData  # looked up once: it is called for every array in every training step

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


def aligned_zeros(shape: tuple[int, ...], dtype=np.float32) -> np.ndarray:
    """As `np.zeros`, the memory a multiple of ALIGNMENT bytes from 0."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


@functools.lru_cache(maxsize=64)  # made anew, it takes longer than what a training step does with it
def view(address: int, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 array at an address, which must stay valid as long as it is used."""
    return np.frombuffer((ctypes.c_float * int(np.prod(shape))).from_address(address), np.float32).reshape(shape)


class Memory:
    """The memory of MXNet's CPU arrays.

    Attributes:
        addresses: one integer per array, as of the last call of `moved`.
    """

    def __init__(self, arrays: Iterable[NDArray]):
        self._arrays = list(arrays)  # keeps them, and so their handles
        self._pointers = (ctypes.c_void_p * len(self._arrays))()
        size = ctypes.sizeof(ctypes.c_void_p)
        self._asked = [(array.handle, ctypes.byref(self._pointers, i * size)) for i, array in enumerate(self._arrays)]
        self._before = None
        self.addresses = []

    def moved(self) -> bool:
        """Ask MXNet for the addresses, and say whether one is another than before.

        To be asked before every use, while MXNet is idle: oneDNN rearranges convolution weights in place when the net
        runs forward only, and being asked for the address makes MXNet put them back in order.
        """
        check_call(any([_get_data(handle, pointer) for handle, pointer in self._asked]))
        now = bytes(self._pointers)
        if now == self._before:
            return False
        self._before, self.addresses = now, list(self._pointers)
        return True
