"""MXNet's CPU arrays -> the address of their memory; and NumPy arrays that begin where vectors like it."""

from __future__ import annotations

import ctypes
import functools

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
    """The memory of one of MXNet's CPU arrays."""

    def __init__(self, array: NDArray):
        self._array, self._handle, self._pointer = array, array.handle, ctypes.c_void_p()
        self._reference = ctypes.byref(self._pointer)
        self.address = 0

    def moved(self) -> bool:
        """Ask MXNet for the address, and say whether it is another than before.

        To be asked before every use, while MXNet is idle: oneDNN rearranges convolution weights in place when the net
        runs forward only, and being asked for the address makes MXNet put them back in order.
        """
        check_call(_get_data(self._handle, self._reference))
        address = self._pointer.value
        if address == self.address:
            return False
        self.address = address
        return True


class Nowhere:
    """In place of the memory of an array that does not exist: its address is 0."""

    address = None

    def moved(self) -> bool:
        """Whether it was asked for the first time."""
        before, self.address = self.address, 0
        return before is None
