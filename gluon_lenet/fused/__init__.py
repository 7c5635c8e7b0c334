"""A sequential LeNet and uint8 images -> loss, correct count and gradients, several times as fast as MXNet on a CPU.

vectors.py   Python functions that write LLVM instructions for one vector of 16 (or 8) images
tiles.py     the register tiles written with them: convolution, pooling, dense layer, ..., forward and backward
blocks.py    loops over the tiles: a block of images through all layers and back
program.py   a Gluon net -> the table of layers that blocks.py works through
weights.py   the net's parameters and their gradients, where the table says they are
arrays.py    MXNet's memory, without copies
threads.py   a C function, called by several threads at once
"""

from __future__ import annotations

import functools
import sys

import mxnet as mx
import numpy as np
from mxnet.gluon import Parameter
from mxnet.gluon.loss import Loss
from numba.core import event

from gluon_lenet import compat
from gluon_lenet.data.transforms import Transform
from gluon_lenet.fused import arrays, blocks, threads
from gluon_lenet.fused.program import Program, Unsupported, read_loss
from gluon_lenet.fused.vectors import LANES
from gluon_lenet.fused.weights import Kernel, Weight

__all__ = ["LANES", "FusedNet", "Unsupported"]

_PLAIN = Transform()


class FusedNet:
    """The forward and backward pass of a Gluon net on the CPU, and its loss.

    The net stays the owner of its parameters: weights are read where they are, gradients are written into
    `param.grad()`, and `trainer.step(batch_size)` follows as after `loss.backward()`.

    The methods take images as they are stored, and say with a `Transform` what the net is to see of them: the padding
    and `(pixel / 255 - mean) / std` are done on the way into the kernels, the resizing must have been done.

        images     uint8 (n, h - 2 pad, w - 2 pad), or (n, channels, ...); or float32 (n, channels, h, w), all done
        rows       int64 (b,), which of them are the batch
        labels     int32 (n,), one an image
        transform  divides by 255 and does nothing else by default

    and raise ValueError for arrays of the wrong shape or type, and for a label or a row out of range.

    Args:
        net: an `nn.Sequential` or `nn.HybridSequential`, initialized on `mx.cpu()` in float32.
        input_shape: (channels, height, width) of what the net sees.
        threads: how many threads share a batch; MXNet's number by default.
        loss: softmax cross-entropy (the default) or `losses.MAPLoss`.

    Raises:
        Unsupported: the kernels cannot serve the net or the loss; the message names what stands in the way.
    """

    def __init__(self, net, input_shape=(1, 28, 28), threads: int | None = None, loss: Loss | None = None):
        self.net, self.input_shape = net, tuple(input_shape)
        self._program = program = Program(net, self.input_shape)
        rubbish = read_loss(loss)
        _materialize(net, self.input_shape)
        self._values = {}  # a parameter -> its values, where MXNet has them
        self._threads = threads or compat.num_threads()
        self._layers = program.layers
        self._weights = [Weight(parameter, program.layers[i], name) for name, i, parameter in program.parameters()]
        self._weights += [Kernel(block, program.layers[i]) for i, block in program.table_convolutions()]
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
        task["sums_size"], task["scratch"], task["rubbish"] = program.sums_size, program.scratch, rubbish
        task["first_pixel"], task["image_row"], task["image_plane"] = program.input_places()
        task["channels"] = self.input_shape[0]

    @property
    def num_classes(self) -> int:
        """Number of logits an image."""
        return self._program.num_classes

    def backprop(
        self, images: np.ndarray, rows: np.ndarray, labels: np.ndarray, transform: Transform = _PLAIN
    ) -> tuple[float, int]:
        """One forward and backward pass over a batch; the gradients are left in each parameter's `grad()`.

        The loss is summed over the batch, and so are the gradients, as `trainer.step(batch_size)` expects.

        Returns:
            Loss sum and number of correct predictions.
        """
        result = self._run(images, rows, labels, transform, train=True)
        for weight in self._weights:
            weight.finish()
        return result

    def evaluate(
        self, images: np.ndarray, rows: np.ndarray, labels: np.ndarray, transform: Transform = _PLAIN
    ) -> tuple[float, int]:
        """The forward pass alone: loss sum and number of correct predictions; memory does not grow with the batch."""
        return self._run(images, rows, labels, transform)

    def forward(self, images: np.ndarray, rows: np.ndarray | None = None, transform: Transform = _PLAIN) -> np.ndarray:
        """Logits float32 (b, classes) of the images `rows`, or of all."""
        if rows is None:
            rows = np.arange(len(images))
        logits = np.empty((len(rows), self.num_classes), np.float32)
        self._run(images, rows, None, transform, logits)
        return logits

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
        for weight in self._weights:
            weight.connect()

    def _run(self, images, rows, labels, transform, logits=None, train=False):
        rows = np.ascontiguousarray(rows, np.int64)
        if rows.ndim != 1 or not len(rows):
            raise ValueError(f"rows must be a sequence of at least one number, not an array of shape {rows.shape}")
        if labels is not None:
            labels = np.ascontiguousarray(labels, np.int32)
            if labels.shape != (len(images),):
                raise ValueError(f"labels must have the shape ({len(images)},), one an image, not {labels.shape}")
        self._connect()
        self._describe_images(images, transform)
        task = self._task[0]
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

    def _describe_images(self, images, transform):
        """Tell the kernels where the images are and what to make of them."""
        channels, height, width = self.input_shape
        is_float = images.dtype == np.float32
        pad = 0 if is_float else transform.pad
        inner = height - 2 * pad, width - 2 * pad
        shapes = [(channels, *inner)] + ([inner] if channels == 1 and not is_float else [])
        if images.dtype not in (np.uint8, np.float32) or images.shape[1:] not in shapes:
            raise ValueError(
                f"images must be uint8 (n, {height - 2 * transform.pad}, {width - 2 * transform.pad}) or "
                f"float32 (n, {channels}, {height}, {width}), not {images.dtype} {images.shape}"
            )
        if not images.flags.c_contiguous:
            raise ValueError("images must be C-contiguous")
        task, program = self._task[0], self._program
        task["images"], task["is_float"], task["num_images"] = images.ctypes.data, is_float, len(images)
        task["height"], task["width"], task["pad"] = *inner, pad
        task["mean"], task["std"] = transform.mean, transform.std
        task["staging"] = program.staging if pad or program.steps[0].padding else task["first_pixel"]

    def _run_phase(self, phase):
        self._task["phase"], self._ticket[0] = phase, 0
        threads.run(_compiled(), self._task.ctypes.data, self._threads)


def _materialize(net, input_shape):
    """Run the net once if some shapes are not known yet, so that deferred parameters come into being."""
    if any(parameter._deferred_init for parameter in net.collect_params().values()):
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
