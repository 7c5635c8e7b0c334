"""A sequential net and float32 images -> logits, and from a gradient of those the parameters' and the images'.

`FusedNet` reads the weights where MXNet has them, and computes the loss. Here the weights and the gradient of the
logits are arguments, as autograd needs it, which may go back through a forward pass after the weights have changed.
"""

from __future__ import annotations

import ctypes
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from threading import Lock

import numpy as np
from mxnet.gluon import Block, Parameter
from mxnet.gluon.loss import SoftmaxCrossEntropyLoss

from gluon_lenet.compat.threads import num_threads
from gluon_lenet.engines.fused import arrays
from gluon_lenet.engines.fused.compiled import RunTask
from gluon_lenet.engines.fused.program import Program
from gluon_lenet.engines.fused.sizes import LANES
from gluon_lenet.engines.fused.tables import CONVOLUTION, DISTANCES, NOWHERE
from gluon_lenet.engines.fused.weights import data_of


@dataclass(frozen=True)
class _Place:
    """Where a parameter is: in the flat array of all, and in the table of layers."""

    parameter: Parameter
    start: int  # floats
    layer: int
    name: str  # of the field; the gradient's is f"{name}_gradient"
    has_gradient: bool
    places: tuple | None = None  # in the kernel that it is a part of, see `Step.parts`

    @property
    def part(self) -> slice:
        """Its floats in the flat array."""
        return slice(self.start, self.start + prod(self.parameter.shape))


class NetFunction:
    """A net as a function of its parameters and a batch of images; calls from several threads take turns.

    The parameters' values, and their gradients, are flat float32 arrays, one parameter after the other.

    Args:
        net: an initialized `nn.Sequential` or `nn.HybridSequential`.
        input_shape: (channels, height, width) of an image.

    Attributes:
        parameters: in the order of the flat arrays.
        parts: the slice of each in the flat arrays.

    Raises:
        Unsupported: the kernels cannot compute the net; the message names what stands in the way.
    """

    def __init__(self, net: Block, input_shape: tuple[int, int, int]):
        self.input_shape = tuple(input_shape)
        self._program = program = Program(net, self.input_shape, SoftmaxCrossEntropyLoss(), image_gradient=True)
        self._layers, self._places, self._kernels = program.layers.copy(), [], {}
        for name, i, parameter in program.parameters():
            self._add(parameter, i, name, has_gradient=program.steps[i].kind != DISTANCES)
        for i, (step, layer) in enumerate(zip(program.steps, self._layers, strict=True)):
            if step.parts:
                kernel, _ = self._kernels[i] = [np.zeros(step.kernel_shape, np.float32) for _ in range(2)]
                layer["weight"] = kernel.ctypes.data
                layer["connected"] = 0 if step.connected is None else step.connected.ctypes.data
                for parameter, places in step.parts:
                    self._add(parameter, i, "weight", places=places)
        self.parameters = [place.parameter for place in self._places]
        self.parts = [place.part for place in self._places]
        self._size = self.parts[-1].stop
        self._image_gradient = int(self._layers[0]["input_gradient"])
        self._arrays = list(map(data_of, self.parameters))
        self._where = arrays.Memory(self._arrays)
        self._lock, self._task = Lock(), RunTask(program, self._layers, num_threads())
        self._rows = np.zeros(0, np.int64)
        self._stores = deque(maxlen=4)  # not in use; of the last batches
        _, height, width = self.input_shape
        staging = program.staging if program.is_padded else program.image[0]
        self._task.set(is_float=1, height=height, width=width, staging=staging)

    def _add(self, parameter, layer, name, has_gradient=True, places=None):
        start = self._places[-1].part.stop if self._places else 0
        self._places.append(_Place(parameter, start, layer, name, has_gradient, places))

    @property
    def begins_with_maps(self) -> bool:
        """Whether the first layer is a convolution, and not one that takes an image as a vector."""
        return self._program.steps[0].kind == CONVOLUTION

    def is_current(self) -> bool:
        """Whether the net is still what this was made from, with its parameters in the same arrays."""
        record = self._program.record
        return (
            record.is_current()
            and record.is_as_declared()
            and all(
                parameter._data is not None and parameter._data[0] is array
                for parameter, array in zip(self.parameters, self._arrays, strict=True)
            )
        )

    def values(self) -> np.ndarray:
        """A copy of the parameters as they are now; to be called while MXNet is idle."""
        self._where.moved()
        copy = np.empty(self._size, np.float32)
        start = copy.ctypes.data
        for part, address in zip(self.parts, self._where.addresses, strict=True):
            ctypes.memmove(start + part.start * 4, address, (part.stop - part.start) * 4)
        return copy

    @property
    def draws(self) -> bool:
        """Whether training draws random numbers, those of dropout."""
        return self._program.draws

    def forward(
        self, values: np.ndarray, images: int, batch: int, store: np.ndarray | None = None, seed: int | None = None
    ) -> np.ndarray:
        """Logits float32 (batch, classes).

        Args:
            values: of the parameters.
            images: the address of float32 (batch, channels, height, width), C-contiguous.
            batch: the number of images.
            store: as `new_store` makes it, for what `backward` needs.
            seed: for dropout, which drops nothing by default.
        """
        logits = np.empty((batch, self._program.num_classes), np.float32)
        with self._lock:
            self._set(values)
            address = 0 if store is None else store.ctypes.data
            fields = {"images": images, "logits": logits.ctypes.data, "store": address}
            self._run(batch, seed, is_second=0, gradient=0, train=0, **fields)
        return logits

    def new_store(self, batch: int) -> np.ndarray:
        """Room for what `forward` leaves for `backward`; `backward` may be called with it more than once."""
        size = -(-batch // LANES) * self._program.kept_size
        with suppress(IndexError):
            store = self._stores.pop()
            if store.size >= size:
                return store
        return np.empty(size, np.float32)

    def free_store(self, store: np.ndarray) -> None:
        """Let `new_store` use it again: memory that the system has to clear costs as much as the forward pass."""
        self._stores.append(store)

    def backward(
        self,
        values: np.ndarray,
        store: np.ndarray,
        gradient: np.ndarray,
        with_images: bool = False,
        seed: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The gradients of sum(gradient * logits).

        Args:
            values, store: as for `forward`.
            gradient: float32 (batch, classes), C-contiguous.
            with_images: whether the gradient of the images is wanted, which costs more.
            seed: as in the forward pass.

        Returns:
            The parameters' gradients, as one flat array, and the images', (batch, channels, height, width), or None.
        """
        batch = len(gradient)
        result = np.zeros(self._size, np.float32)
        image_gradient = np.empty((batch, *self.input_shape), np.float32) if with_images else None
        with self._lock:
            self._set(values, result)
            self._layers[0]["input_gradient"] = self._image_gradient if with_images else NOWHERE
            self._run(
                batch,
                seed,
                logits=0,
                store=store.ctypes.data,
                is_second=1,
                gradient=gradient.ctypes.data,
                image_gradient=image_gradient.ctypes.data if with_images else 0,
                train=1,
            )
            for place in self._places:
                if place.places is not None:
                    _, kernel_gradient = self._kernels[place.layer]
                    result[place.part] = kernel_gradient[place.places].ravel()
        return result, image_gradient

    def _set(self, values, gradients=None):
        """Tell the kernels where the values are, and the gradients are to be."""
        value = values.ctypes.data
        gradient = None if gradients is None else gradients.ctypes.data
        for place in self._places:
            layer = self._layers[place.layer]
            if place.places is None:
                layer[place.name] = value + place.start * 4
                wanted = gradient is not None and place.has_gradient
                layer[f"{place.name}_gradient"] = gradient + place.start * 4 if wanted else 0
            else:
                kernel, kernel_gradient = self._kernels[place.layer]
                kernel[place.places] = values[place.part].reshape(kernel[place.places].shape)
                layer["weight_gradient"] = 0 if gradient is None else kernel_gradient.ctypes.data

    def _run(self, batch, seed, **fields):
        if len(self._rows) < batch:
            self._rows = np.arange(batch, dtype=np.int64)
        fields |= {"drops": seed is not None, "seed": seed or 0}
        self._task.set(num_images=batch, rows=self._rows.ctypes.data, batch=batch, **fields)
        self._task.run()
