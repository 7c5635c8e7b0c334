"""Arrays computed outside MXNet -> a node of autograd's graph, whose backward pass is a Python function.

`mx.autograd.Function` does the same, but in MXNet 1.9.1 it ignores `grad_req` "add", and stops at the first input whose
gradient is not wanted; and it does not say which gradients are.
"""

from __future__ import annotations

import ctypes
import itertools
import logging
from collections import deque
from collections.abc import Callable

import numpy as np
from mxnet.base import _LIB, MXCallbackList, NDArrayHandle, c_handle_array, check_call
from mxnet.ndarray import NDArray

log = logging.getLogger(__name__)

_BACKWARD = ctypes.CFUNCTYPE(
    ctypes.c_int,  # whether it succeeded
    ctypes.c_int,  # number of gradients given, one for each output
    ctypes.c_int,  # number of gradients wanted, one for each input
    ctypes.POINTER(ctypes.c_void_p),  # the handles of the former, then of the latter; the callee frees them
    ctypes.POINTER(ctypes.c_int),  # what is to be done with each of the latter
    ctypes.c_int,
    ctypes.c_void_p,
)
_DELETE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_NULL, _WRITE, _IN_PLACE, _ADD = range(4)  # MXNet's OpReqType

# The callbacks of the nodes that exist, by number; and the numbers of those that MXNet has deleted. A callback cannot
# be freed while it runs, so the callbacks of deleted nodes are freed when the next node is made.
_nodes, _numbers, _deleted = {}, itertools.count(), deque()

Backward = Callable[[list[np.ndarray], list[bool]], list[np.ndarray | None]]


def record(inputs: list[NDArray], outputs: list[NDArray], backward: Backward) -> None:
    """Add to the graph that `outputs` are a function of `inputs`; to be called while autograd records.

    Args:
        inputs, outputs: float32 arrays on the CPU; the outputs must have been made while autograd did not record.
        backward: the gradients of the outputs, and which of the inputs' are wanted -> the gradients of the inputs, None
            where none is wanted. MXNet calls it from a thread of its own, as often as it goes back through the graph;
            it must not wait for MXNet, nor keep the arrays that it is given.
    """
    while _deleted:
        del _nodes[_deleted.popleft()]
    number = next(_numbers)

    def on_backward(num_given, num_wanted, handles, requests, is_training, context):
        try:
            given = [_as_numpy(handles[i], outputs[i].shape) for i in range(num_given)]
            wanted = [requests[i] != _NULL for i in range(num_wanted)]
            targets = [_as_numpy(handles[num_given + i], shapes[i]) for i in range(num_wanted)]
            gradients = backward([view for view, _ in given], wanted)
            for (target, _), gradient, request in zip(targets, gradients, requests[:num_wanted], strict=True):
                if request == _ADD:
                    target += gradient.reshape(target.shape)
                elif request != _NULL:
                    target[...] = gradient.reshape(target.shape)
        except Exception:  # it must not get into MXNet's C++, which fails with an error of its own instead
            log.exception("the gradients could not be computed")
            return 0
        return 1

    def on_delete(context):
        _deleted.append(number)
        return 1

    shapes = [array.shape for array in inputs]
    functions = [_BACKWARD(on_backward), _DELETE(on_delete)]
    plain = ctypes.CFUNCTYPE(ctypes.c_int)
    callbacks = (plain * 2)(*(ctypes.cast(function, plain) for function in functions))
    contexts = (ctypes.c_void_p * 2)()
    node = MXCallbackList(
        2, ctypes.cast(callbacks, ctypes.POINTER(plain)), ctypes.cast(contexts, ctypes.POINTER(ctypes.c_void_p))
    )
    _nodes[number] = node, functions, callbacks, contexts
    check_call(
        _LIB.MXCustomFunctionRecord(
            len(inputs), c_handle_array(inputs), len(outputs), c_handle_array(outputs), ctypes.byref(node)
        )
    )


def _as_numpy(handle: int, shape: tuple[int, ...]) -> tuple[np.ndarray, NDArray]:
    """A view of the memory of one of MXNet's arrays, and the array, which owns the handle."""
    array = NDArray(ctypes.cast(handle, NDArrayHandle))
    address = ctypes.c_void_p()
    check_call(_LIB.MXNDArrayGetData(array.handle, ctypes.byref(address)))
    size = int(np.prod(shape))
    view = np.frombuffer((ctypes.c_float * size).from_address(address.value), np.float32).reshape(shape)
    return view, array
