"""The net's parameters and their gradients -> their addresses in the table of layers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import prod

import mxnet as mx
import numpy as np
from mxnet.base import _LIB, check_call
from mxnet.gluon import Parameter
from mxnet.ndarray import NDArray

from gluon_lenet.engines.fused import arrays
from gluon_lenet.engines.fused.reading import Step, Unsupported
from gluon_lenet.engines.reasons import Reason

_set_is_fresh = _LIB.MXNDArraySetGradState


def data_of(parameter: Parameter) -> NDArray:
    """The parameter's array, whatever the current context; raises Unsupported if the kernels cannot read it."""
    name, contexts = parameter.name, parameter.list_ctx()  # raises Gluon's error for one that is not initialized
    if contexts != [mx.cpu()]:
        raise Unsupported(
            Reason("{parameter} is on {contexts}; the kernels run on cpu(0)", parameter=name, contexts=contexts)
        )
    data = parameter.data(mx.cpu())
    if data.dtype != np.float32:
        dtype = np.dtype(data.dtype)
        raise Unsupported(Reason("{parameter} is {dtype}; the kernels compute in float32", parameter=name, dtype=dtype))
    if type(data) is not NDArray:
        raise Unsupported(Reason("{parameter} is no dense array", parameter=name))
    return data


class Weight:
    """A parameter that the kernels read where MXNet has it; and so its gradient.

    Args:
        parameter: on `mx.cpu()` in float32.
        layer: the row of the table that is to know `name` and `name_gradient`.
    """

    def __init__(self, parameter: Parameter, layer: np.void | dict, name: str):
        self.parameter, self.layer, self.name = parameter, layer, name
        self._arrays = self._gradients = None
        self._addresses = []

    def look_up(self) -> bool:
        """Whether Gluon has the weight or its gradient in other arrays than at the last call."""
        parameter = self.parameter
        if parameter._data is self._arrays and parameter._grad is self._gradients and self._arrays is not None:
            return False
        self._look_up()
        return True

    def data(self) -> list[NDArray]:
        """The weight."""
        return [self._arrays[0]]

    def gradients(self) -> list[NDArray]:
        """Its gradient; nothing if it is not trained."""
        return [] if self._gradients is None else [self._gradients[0]]

    def place(self, addresses: Iterator[int], gradients: Iterator[int]) -> None:
        """Put the addresses of `data` and of `gradients`, each in that order, into the table."""
        self._addresses = [next(addresses), *(next(gradients) for _ in self.gradients())]
        self.layer[self.name], self.layer[f"{self.name}_gradient"] = (*self._addresses, 0)[:2]

    def check_gradient(self) -> None:
        """Raise Unsupported if MXNet would write the gradient elsewhere than where the trainer reads it."""
        if self._gradients is not None and not _is_same(self._arrays[0].grad, self._gradients[0]):
            raise Unsupported(
                Reason(
                    "{parameter} has a gradient that the trainer does not know (attach_grad)",
                    parameter=self.parameter.name,
                )
            )

    def places(self) -> list[tuple[int, int, str]]:
        """First byte, end and name of the memory of the weight and of its gradient."""
        size, name = prod(self.parameter.shape) * 4, self.parameter.name
        return [(address, address + size, name) for address in self._addresses]

    @property
    def has_gradient(self) -> bool:
        """Whether the parameter is trained, and not frozen."""
        return self._gradients is not None

    def _look_up(self):
        parameter = self.parameter
        data_of(parameter)
        if parameter.grad_req == "add":
            raise Unsupported(
                Reason("{parameter} has grad_req 'add'; the kernels serve 'write' and 'null'", parameter=parameter.name)
            )
        if parameter._grad is not None and type(parameter._grad[0]) is not NDArray:
            raise Unsupported(Reason("the gradient of {parameter} is no dense array", parameter=parameter.name))
        self._arrays, self._gradients = parameter._data, parameter._grad

    def finish(self):
        """Let the trainer know that the gradient is new."""
        if self._gradients is not None:
            check_call(_set_is_fresh(self._arrays[0].handle, 1))  # as `data()._fresh_grad = True`, at half the cost


class BuiltKernel:
    """A convolution's kernels, of the sizes there are tiles for, put together of `Step.parts`; zeros elsewhere."""

    def __init__(self, step: Step, layer: np.void):
        self._kernel, self._gradient = (arrays.aligned_zeros(step.kernel_shape) for _ in range(2))
        self._parts = [(Weight(parameter, {}, "weight"), places) for parameter, places in step.parts]
        self._shapes = [self._kernel[places].shape for _, places in self._parts]
        self._connected = step.connected
        if step.connected is not None:
            layer["connected"] = step.connected.ctypes.data
        layer["weight"], layer["weight_gradient"] = self._kernel.ctypes.data, self._gradient.ctypes.data

    def look_up(self) -> bool:
        """See `Weight.look_up`."""
        return any([weight.look_up() for weight, _ in self._parts])  # all of them

    def data(self) -> list[NDArray]:
        """See `Weight.data`, for one part after the other."""
        return [array for weight, _ in self._parts for array in weight.data()]

    def gradients(self) -> list[NDArray]:
        """See `Weight.gradients`, for one part after the other."""
        return [array for weight, _ in self._parts for array in weight.gradients()]

    def place(self, addresses: Iterator[int], gradients: Iterator[int]) -> None:
        """See `Weight.place`."""
        for weight, _ in self._parts:
            weight.place(addresses, gradients)

    def gather(self) -> None:
        """Copy the weights as they are now."""
        for (weight, places), shape in zip(self._parts, self._shapes, strict=True):
            self._kernel[places] = arrays.view(weight.layer["weight"], shape)

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
        for (weight, places), shape in zip(self._parts, self._shapes, strict=True):
            if weight.layer["weight_gradient"]:
                arrays.view(weight.layer["weight_gradient"], shape)[...] = self._gradient[places]
            weight.finish()


def check_apart(weights: list[Weight | BuiltKernel]) -> None:
    """Raise Unsupported if two arrays share memory: a gradient is written there, and not added to what is there."""
    places = sorted(place for weight in weights for place in weight.places())
    for (_, end, name), (start, _, other) in pairwise(places):
        if start < end:
            raise Unsupported(
                Reason(
                    "{parameter} and {other} share memory; the kernels serve parameters that do not",
                    parameter=name,
                    other=other,
                )
            )


def _is_same(array: NDArray | None, other: NDArray) -> bool:
    """Whether two of MXNet's arrays are one place in memory."""
    if array is None:
        return False
    memory = arrays.Memory([array, other])
    memory.moved()
    return memory.addresses[0] == memory.addresses[1]
