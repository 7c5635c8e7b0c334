"""Arrays computed outside MXNet -> a node of autograd's graph, whose backward pass is a Python function.

`mx.autograd.Function` does the same, but in MXNet 1.9.1 it ignores `grad_req` "add", stops at the first input whose
gradient is not wanted, and does not say which gradients are.
"""

from __future__ import annotations

import atexit
import ctypes
import itertools
import logging
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import mxnet as mx
import numpy as np
from mxnet.base import _LIB, NDArrayHandle, c_handle_array, check_call
from mxnet.ndarray import NDArray
from numba import carray, cfunc, types

from gluon_lenet.engines.fused import arrays

log = logging.getLogger(__name__)

_NULL, _WRITE, _IN_PLACE, _ADD = range(4)  # MXNet's OpReqType

Backward = Callable[[list[np.ndarray], list[bool]], list[np.ndarray | None]]


class _Node(NamedTuple):
    """What a node needs until MXNet deletes it. Holding one of its arrays would keep the graph alive for ever."""

    backward: Backward
    input_shapes: list[tuple[int, ...]]
    output_shapes: list[tuple[int, ...]]
    is_deleted: np.ndarray  # int64 (1,)
    memory: tuple  # of the C structures


class _Callbacks(ctypes.Structure):
    """MXNet's MXCallbackList: a backward and a delete function, and what each is called with."""

    _fields_ = [  # ctypes wants a list
        ("number", ctypes.c_int),
        ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("contexts", ctypes.POINTER(ctypes.c_void_p)),
    ]


_nodes: dict[int, _Node] = {}  # by number, from 1: MXNet's callbacks are called with it
_numbers, _to_look_at = itertools.count(1), deque()


def record(inputs: list[NDArray], outputs: list[NDArray], backward: Backward) -> None:
    """Add to the graph that `outputs` are a function of `inputs`; to be called while autograd records.

    Args:
        inputs, outputs: float32 arrays on the CPU; the outputs must have been made while autograd did not record.
        backward: the gradients of the outputs, and which of the inputs' are wanted -> the gradients of the inputs, None
            where none is wanted. MXNet calls it from a thread of its own, as often as it goes back through the graph;
            it must not wait for MXNet, nor hold `inputs` or `outputs`.
    """
    forget(most=8)
    number, is_deleted = next(_numbers), np.zeros(1, np.int64)
    contexts = (ctypes.c_void_p * 2)(number, is_deleted.ctypes.data)
    callbacks = _Callbacks(2, _FUNCTIONS, contexts)
    shapes = [array.shape for array in inputs], [array.shape for array in outputs]
    _nodes[number] = _Node(backward, *shapes, is_deleted, (callbacks, contexts))
    _to_look_at.append(number)
    check_call(
        _LIB.MXCustomFunctionRecord(
            len(inputs), c_handle_array(inputs), len(outputs), c_handle_array(outputs), ctypes.byref(callbacks)
        )
    )


def forget(most: int | None = None) -> None:
    """Free what nodes needed that MXNet has deleted; looks at `most` of them, or at all."""
    for _ in range(len(_to_look_at) if most is None else min(most, len(_to_look_at))):
        number = _to_look_at.popleft()
        if _nodes[number].is_deleted[0]:
            del _nodes[number]
        else:
            _to_look_at.append(number)


@ctypes.CFUNCTYPE(
    ctypes.c_int,  # whether it succeeded
    ctypes.c_int,  # number of gradients given, one for each output
    ctypes.c_int,  # number of gradients wanted, one for each input
    ctypes.POINTER(ctypes.c_void_p),  # the handles of the former, then of the latter; the callee frees them
    ctypes.POINTER(ctypes.c_int),  # what is to be done with each of the latter
    ctypes.c_int,
    ctypes.c_void_p,
)
def _on_backward(num_given, num_wanted, handles, requests, is_training, number):
    try:
        node = _nodes[number]
        views = _as_numpy(handles[: num_given + num_wanted], node.output_shapes + node.input_shapes)
        given, targets = views[:num_given], views[num_given:]
        gradients = node.backward(given, [requests[i] != _NULL for i in range(num_wanted)])
        for target, gradient, request in zip(targets, gradients, requests[:num_wanted], strict=True):
            if request == _ADD:
                target += gradient.reshape(target.shape)
            elif request != _NULL:
                target[...] = gradient.reshape(target.shape)
    except _WrongArrayError as error:
        log.error("%s", error)
        return 0
    except Exception:  # it must not get into MXNet's C++, which fails with an error of its own instead
        log.exception("the gradients could not be computed")
        return 0
    return 1


@cfunc(types.int32(types.CPointer(types.int64)))
def _on_delete(is_deleted):
    # Without Python: in a fork MXNet waits for the thread that calls this, while Python's lock is held.
    carray(is_deleted, 1)[0] = 1
    return 1


_FUNCTIONS = (ctypes.c_void_p * 2)(ctypes.cast(_on_backward, ctypes.c_void_p).value, _on_delete.address)


class _WrongArrayError(Exception):
    pass


def _as_numpy(handles: list[int], shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Views of the memory of MXNet's arrays, which must be float32 of these shapes, and whose handles are freed."""
    owners = [NDArray(ctypes.cast(handle, NDArrayHandle)) for handle in handles]
    for array, shape in zip(owners, shapes, strict=True):
        if array.shape != shape or array.dtype != np.float32:
            raise _WrongArrayError(
                f"a gradient must be float32 {shape}, as what it is of, not {np.dtype(array.dtype)} {array.shape}"
            )
    memory = arrays.Memory(owners)
    memory.moved()
    return list(map(arrays.view, memory.addresses, shapes))


def _finish() -> None:
    """Wait until no node computes: in a fork, or while Python ends, its backward pass would wait for Python's lock."""
    if _nodes:
        with suppress(mx.MXNetError):  # of something else, which is raised where it is waited for
            mx.nd.waitall()


atexit.register(_finish)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_finish)
