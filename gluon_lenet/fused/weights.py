"""The net's parameters and their gradients -> their addresses in the table of layers."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import mxnet as mx
import numpy as np
from mxnet.base import _LIB, check_call
from mxnet.gluon import Parameter
from mxnet.ndarray import NDArray

from gluon_lenet.fused import arrays
from gluon_lenet.fused.program import Unsupported
from gluon_lenet.layers import TableConv2D

_set_is_fresh = _LIB.MXNDArraySetGradState


class Weight:
    """A parameter that the kernels read where MXNet has it; and so its gradient.

    Args:
        parameter: on `mx.cpu()` in float32.
        layer: the row of the table that is to know `name` and `name_gradient`.
    """

    def __init__(self, parameter: Parameter, layer: np.void | dict, name: str):
        self.parameter, self.layer, self.name = parameter, layer, name
        self._arrays = self._gradients = None
        self._memory = []  # (name in the table, memory) of the weight, and of its gradient

    def connect(self) -> bool:
        """See that the weight and its gradient are in plain layout, and their addresses in the table.

        Returns:
            Whether one of the addresses is another than before.
        """
        parameter, moved = self.parameter, False
        if parameter._data is not self._arrays or parameter._grad is not self._gradients or self._arrays is None:
            self._look_up()
        for name, memory in self._memory:
            if memory.moved():
                self.layer[name], moved = memory.address, True
        return moved

    def check_gradient(self) -> None:
        """Raise Unsupported if MXNet would write the gradient elsewhere than where the trainer reads it."""
        if self._gradients is not None and not _is_same(self._arrays[0].grad, self._gradients[0]):
            raise Unsupported(f"{self.parameter.name} has a gradient that the trainer does not know (attach_grad)")

    def places(self) -> list[tuple[int, int, str]]:
        """First byte, end and name of the memory of the weight and of its gradient."""
        size, name = prod(self.parameter.shape) * 4, self.parameter.name
        return [(memory.address, memory.address + size, name) for _, memory in self._memory if memory.address]

    @property
    def has_gradient(self) -> bool:
        """Whether the parameter is trained, and not frozen."""
        return self._gradients is not None

    def _look_up(self):
        parameter = self.parameter
        data = parameter.data()  # raises what Gluon raises for a parameter that is not initialized
        if parameter.list_ctx() != [mx.cpu()]:
            raise Unsupported(f"{parameter.name} is on {parameter.list_ctx()}; the kernels run on cpu(0)")
        if data.dtype != np.float32:
            raise Unsupported(f"{parameter.name} is {np.dtype(data.dtype)}; the kernels compute in float32")
        if parameter.grad_req == "add":
            raise Unsupported(f"{parameter.name} has grad_req 'add'; the kernels serve 'write' and 'null'")
        if type(data) is not NDArray or (parameter._grad is not None and type(parameter._grad[0]) is not NDArray):
            raise Unsupported(f"{parameter.name} or its gradient is no dense array")
        self._arrays, self._gradients = parameter._data, parameter._grad
        gradient = arrays.Nowhere() if self._gradients is None else arrays.Memory(self._gradients[0])
        self._memory = [(self.name, arrays.Memory(data)), (f"{self.name}_gradient", gradient)]

    def finish(self):
        """Let the trainer know that the gradient is new."""
        if self._gradients is not None:
            check_call(
                _set_is_fresh(self._arrays[0].handle, 1)
            )  # what `data()._fresh_grad = True` does, at half the cost


class Kernel:
    """A `TableConv2D`'s weights, laid out as the kernel of a dense convolution: zeros where maps are not connected."""

    def __init__(self, block: TableConv2D, layer: np.void):
        outputs, inputs, *taps = block.kernel_shape
        self._kernel, self._gradient = (arrays.aligned_zeros((outputs * inputs, *taps)) for _ in range(2))
        self._connected = np.zeros(outputs * inputs, np.uint8)
        self._parts = []  # the weights of the maps of one fan-in, and their places in the kernel
        for fan_in, pairs in block.pairs.items():
            places = np.array([o * inputs + i for o, i in pairs])
            self._connected[places] = 1
            self._parts.append((Weight(getattr(block, f"weight{fan_in}"), {}, "weight"), places))
        layer["connected"] = self._connected.ctypes.data
        layer["weight"], layer["weight_gradient"] = self._kernel.ctypes.data, self._gradient.ctypes.data

    def connect(self) -> bool:
        """Copy the weights as they are now; whether one of their addresses is another than before."""
        moved = False
        for weight, places in self._parts:
            moved |= weight.connect()
            self._kernel[places] = self._at(weight.layer["weight"], places)
        return moved

    @property
    def has_gradient(self) -> bool:
        """See `Weight.has_gradient`."""
        return any(weight.has_gradient for weight, _ in self._parts)

    def places(self) -> list[tuple[int, int, str]]:
        """See `Weight.places`."""
        return [place for weight, _ in self._parts for place in weight.places()]

    def check_gradient(self) -> None:
        """See `Weight.check_gradient`."""
        for weight, _ in self._parts:
            weight.check_gradient()

    def finish(self):
        """Copy the gradients to where the trainer looks for them."""
        for weight, places in self._parts:
            if weight.layer["weight_gradient"]:
                self._at(weight.layer["weight_gradient"], places)[:] = self._gradient[places]
            weight.finish()

    def _at(self, address, places) -> np.ndarray:
        return arrays.view(address, (len(places), *self._kernel.shape[1:]))


def check_apart(weights: list[Weight | Kernel]) -> None:
    """Raise Unsupported if two arrays share memory: a gradient is written there, and not added to what is there."""
    places = sorted(place for weight in weights for place in weight.places())
    for (_, end, name), (start, _, other) in pairwise(places):
        if start < end:
            raise Unsupported(f"{name} and {other} share memory; the kernels serve parameters that do not")


def _is_same(array: NDArray | None, other: NDArray) -> bool:
    """Whether two of MXNet's arrays are one place in memory."""
    if array is None:
        return False
    memories = arrays.Memory(array), arrays.Memory(other)
    return all([memory.moved() for memory in memories]) and memories[0].address == memories[1].address
