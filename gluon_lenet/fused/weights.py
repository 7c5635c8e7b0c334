"""The net's parameters and their gradients -> their addresses in the table of layers."""

from __future__ import annotations

import mxnet as mx
import numpy as np
from mxnet.gluon import Parameter

from gluon_lenet.fused import arrays
from gluon_lenet.fused.program import Unsupported
from gluon_lenet.layers import TableConv2D


class Weight:
    """A parameter that the kernels read where MXNet has it; and so its gradient.

    Args:
        parameter: on `mx.cpu()` in float32.
        layer: the row of the table that is to know `name` and `name_gradient`.
    """

    def __init__(self, parameter: Parameter, layer: np.void | dict, name: str):
        self.parameter, self.layer, self.name = parameter, layer, name
        self._arrays = self._gradients = None
        self._memory = []  # of the weight, and of the gradient if there is one

    def connect(self):
        """See that the weight and its gradient are in plain layout, and their addresses in the table."""
        parameter = self.parameter
        if parameter._data is not self._arrays or parameter._grad is not self._gradients or self._arrays is None:
            self._look_up()
        for name, memory in zip((self.name, f"{self.name}_gradient"), self._memory, strict=False):
            if memory.moved():
                self.layer[name] = memory.address

    def _look_up(self):
        parameter = self.parameter
        data = parameter.data()  # raises what Gluon raises for a parameter that is not initialized
        if parameter.list_ctx() != [mx.cpu()]:
            raise Unsupported(f"{parameter.name} is on {parameter.list_ctx()}; the kernels run on cpu(0)")
        if data.dtype != np.float32:
            raise Unsupported(f"{parameter.name} is {np.dtype(data.dtype)}; the kernels compute in float32")
        if parameter.grad_req == "add":
            raise Unsupported(f"{parameter.name} has grad_req 'add'; the kernels serve 'write' and 'null'")
        self._arrays, self._gradients = parameter._data, parameter._grad
        gradients = [arrays.Nowhere()] if self._gradients is None else map(arrays.Memory, self._gradients)
        self._memory = [arrays.Memory(data), *gradients]

    def finish(self):
        """Let the trainer know that the gradient is new."""
        if self._gradients is not None:
            self._arrays[0]._fresh_grad = True


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

    def connect(self):
        """Copy the weights as they are now."""
        for weight, places in self._parts:
            weight.connect()
            self._kernel[places] = self._at(weight.layer["weight"], places)

    def finish(self):
        """Copy the gradients to where the trainer looks for them."""
        for weight, places in self._parts:
            if weight.layer["weight_gradient"]:
                self._at(weight.layer["weight_gradient"], places)[:] = self._gradient[places]
            weight.finish()

    def _at(self, address, places) -> np.ndarray:
        return arrays.view(address, (len(places), *self._kernel.shape[1:]))
