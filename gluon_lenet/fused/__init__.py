"""A sequential LeNet and uint8 images -> loss, correct count and gradients, several times as fast as MXNet on a CPU.

vectors.py   Python functions that write LLVM instructions for one vector of 16 (or 8) images
tiles.py     the register tiles written with them: convolution, pooling, dense layer, ..., forward and backward
blocks.py    loops over the tiles: a block of images through all layers and back
program.py   a Gluon net -> the table of layers that blocks.py works through
arrays.py    MXNet's memory, without copies
threads.py   a C function, called by several threads at once
"""

from __future__ import annotations

import functools
import sys

import mxnet as mx
import numpy as np
from mxnet.gluon import Parameter
from numba.core import event

from gluon_lenet import compat
from gluon_lenet.fused import arrays, blocks, threads
from gluon_lenet.fused.program import Program, Unsupported
from gluon_lenet.fused.vectors import LANES

__all__ = ["LANES", "FusedNet", "Unsupported"]


class FusedNet:
    """The forward and backward pass of a Gluon net on the CPU, for softmax cross-entropy.

    The net stays the owner of its parameters: weights are read where they are, gradients are written into
    `param.grad()`, and `trainer.step(batch_size)` follows as after `loss.backward()`.

    Args:
        net: an `nn.Sequential` or `nn.HybridSequential`, initialized on `mx.cpu()` in float32.
        input_shape: (channels, height, width) of the images.
        threads: how many threads share a batch; MXNet's number by default.

    Raises:
        Unsupported: the kernels cannot serve the net; the message names the layer that stands in the way.
    """

    def __init__(self, net, input_shape=(1, 28, 28), threads: int | None = None):
        self.net, self.input_shape = net, tuple(input_shape)
        self._program = Program(net, self.input_shape)
        _materialize(net, self.input_shape, self._program)
        self._values = {}  # a parameter -> its values, where MXNet has them
        self._threads = threads or compat.num_threads()
        program = self._program
        self._layers = program.layers
        self._parameters = [_Parameter(*entry) for entry in program.parameters()]
        self._connect()
        self._memory = arrays.aligned_zeros((self._threads, program.size))
        self._starts = np.zeros((self._threads, LANES), np.int64)
        self._totals = np.zeros((self._threads, 4))
        self._ticket = np.zeros(1, np.int64)
        self._task = np.zeros(1, blocks.TASK)
        task = self._task[0]
        for name in ("memory", "starts", "totals", "ticket", "layers"):
            task[name] = getattr(self, f"_{name}").ctypes.data
        task["shares"], task["size"], task["num_layers"] = self._threads, program.size, len(self._layers)
        task["sums_size"], task["scratch"], task["staging"] = program.sums_size, program.scratch, program.staging
        task["first_pixel"] = program.layers[0]["input"] + program.inside(0)
        task["channels"], task["height"], task["width"] = self.input_shape

    @property
    def num_classes(self) -> int:
        """Number of logits an image."""
        return self._program.num_classes

    def backprop(self, images: np.ndarray, rows: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
        """One forward and backward pass over a batch; the gradients are left in each parameter's `grad()`.

        The loss is summed over the batch, and so are the gradients, as `trainer.step(batch_size)` expects.

        Args:
            images: all images of the data set, uint8 (n, h, w) (divided by 255 on the way) or float32 (n, c, h, w).
            rows: int64 (b,), which of them are the batch.
            labels: int32 (n,), one an image of the data set.

        Returns:
            Loss sum and number of correct predictions.

        Raises:
            ValueError: arrays of the wrong shape or type; a label or a row out of range.
        """
        self._connect()
        result = self._run(images, rows, labels, train=True)
        for parameter in self._parameters:
            parameter.mark_fresh()
        return result

    def forward(self, images: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Logits float32 (b, classes) of the images `rows`, or of all; for the arrays see `backprop`."""
        if rows is None:
            rows = np.arange(len(images))
        logits = np.empty((len(rows), self.num_classes), np.float32)
        self._connect()
        self._run(images, rows, logits=logits)
        return logits

    def evaluate(self, images: np.ndarray, labels: np.ndarray) -> int:
        """How many of all images are predicted right; for the arrays see `backprop`."""
        self._connect()
        return self._run(images, np.arange(len(images)), labels)[1]

    def weights_are_finite(self, parameters: list[Parameter]) -> bool:
        """Whether no weight of these is NaN or infinite, after all that MXNet was asked to do with them."""
        mx.nd.waitall()
        for parameter in parameters:
            array, values = parameter.data(), self._values.get(parameter)
            if values is None or values.array is not array:
                self._values[parameter] = values = arrays.Values(array)
            if not np.isfinite(values()).all():
                return False
        return True

    def _connect(self):
        # Whatever MXNet still does with weights or gradients, the trainer's last step for one, must be done. (Waiting
        # for each array to be written costs a round trip to a thread of MXNet's an array.)
        mx.nd.waitall()
        for parameter in self._parameters:
            parameter.connect(self._layers)

    def _run(self, images, rows, labels=None, logits=None, train=False):
        address, is_float = self._check_images(images)
        rows = np.ascontiguousarray(rows, np.int64)
        if rows.ndim != 1 or not len(rows):
            raise ValueError(f"rows must be a sequence of at least one number, not an array of shape {rows.shape}")
        if labels is not None:
            labels = np.ascontiguousarray(labels, np.int32)
            if labels.shape != (len(images),):
                raise ValueError(f"labels must have the shape ({len(images)},), one an image, not {labels.shape}")
        task = self._task[0]
        task["images"], task["is_float"], task["num_images"] = address, is_float, len(images)
        task["rows"], task["batch"] = rows.ctypes.data, len(rows)
        task["labels"] = 0 if labels is None else labels.ctypes.data
        task["logits"] = 0 if logits is None else logits.ctypes.data
        task["train"] = train
        self._run_phase(blocks.RUN)
        loss, correct, bad_labels, bad_rows = self._totals.sum(axis=0).tolist()
        if bad_rows:
            raise ValueError(f"rows must be between 0 and {len(images) - 1}, the last image")
        if bad_labels:
            raise ValueError(f"{int(bad_labels)} labels are outside 0 ... {self.num_classes - 1}, the net's classes")
        if train:
            self._run_phase(blocks.WRITE_GRADIENTS)
        return loss, int(correct)

    def _run_phase(self, phase):
        self._task["phase"], self._ticket[0] = phase, 0
        threads.run(_compiled(), self._task.ctypes.data, self._threads)

    def _check_images(self, images) -> tuple[int, bool]:
        """The images' address, and whether they are floats."""
        channels, height, width = self.input_shape
        shapes = {np.dtype(np.float32): [(channels, height, width)]}
        shapes[np.dtype(np.uint8)] = [(channels, height, width)] + ([(height, width)] if channels == 1 else [])
        if images.dtype not in shapes or images.shape[1:] not in shapes[images.dtype]:
            raise ValueError(
                f"images must be uint8 (n, {height}, {width}) or float32 (n, {channels}, {height}, {width}), "
                f"not {images.dtype} {images.shape}"
            )
        if not images.flags.c_contiguous:
            raise ValueError("images must be C-contiguous")
        return images.ctypes.data, images.dtype == np.float32


class _Parameter:
    """A parameter of the net and its place in the table of layers."""

    def __init__(self, name, layer, parameter):
        self.name, self.layer, self.parameter = name, layer, parameter
        self._arrays = self._gradients = None
        self._memory = []  # of the weight, and of the gradient if there is one

    def connect(self, layers):
        """See that the weight and its gradient are in plain layout, and their addresses in the table."""
        parameter = self.parameter
        if parameter._data is not self._arrays or parameter._grad is not self._gradients or self._arrays is None:
            self._look_up()
        for name, memory in zip((self.name, f"{self.name}_gradient"), self._memory, strict=False):
            if memory.moved():
                layers[name][self.layer] = memory.address

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

    def mark_fresh(self):
        """Let the trainer know that the gradient is new."""
        if self._gradients is not None:
            self._arrays[0]._fresh_grad = True


def _materialize(net, input_shape, program):
    """Run the net once if some shapes are not known yet, so that deferred parameters come into being."""
    if any(parameter._deferred_init for _, _, parameter in program.parameters()):
        net(mx.nd.zeros((1, *input_shape)))


class _Announcer(event.Listener):
    """Says on stderr that the kernels are being compiled, when Numba begins to."""

    def __init__(self):
        self.said = False

    def on_start(self, started):
        if not self.said:
            print("compiling the fused kernels, once on this machine (about 10 s) ...", file=sys.stderr, flush=True)
            self.said = True

    def on_end(self, ended):
        pass


@functools.cache
def _compiled() -> int:
    """The address of the kernel, compiled or read from the disk at the first call."""
    with event.install_listener("numba:compile", _Announcer()):
        return blocks.kernel().address
