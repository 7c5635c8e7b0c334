"""A sequential LeNet -> a `FusedNet`, which computes loss, correct count, gradients and logits of uint8 images."""

from __future__ import annotations

from threading import Lock

import mxnet as mx
import numpy as np
from mxnet.gluon.loss import Loss, SoftmaxCrossEntropyLoss

from gluon_lenet.compat.threads import MOST_THREADS, num_threads
from gluon_lenet.data.batches import check_labels
from gluon_lenet.data.transforms import Transform
from gluon_lenet.engines.fused import arrays
from gluon_lenet.engines.fused.compiled import RunTask
from gluon_lenet.engines.fused.program import Program
from gluon_lenet.engines.fused.reading import Unsupported
from gluon_lenet.engines.fused.sizes import LANES
from gluon_lenet.engines.fused.weights import BuiltKernel, Weight, check_apart
from gluon_lenet.engines.proof import half_frozen, why_not_default_mode
from gluon_lenet.engines.reasons import Reason

_PLAIN = Transform()


class FusedNet:
    """The forward and backward pass of a Gluon net on the CPU, and its loss.

    The net stays the owner of its parameters: weights are read where they are, gradients are written into
    `param.grad()`, and `trainer.step(batch_size)` follows as after `loss.backward()`. A net that has changed since the
    last call, by a layer more or a hook, say, is read again, and so is the loss. Calls from several threads take turns.

    The methods take images as they are stored, and say with a `Transform` what the net is to see of them: the padding
    and `(pixel / 255 - mean) / std` are done on the way into the kernels, the resizing must have been done.

        images     uint8 (n, h - 2 pad, w - 2 pad), or (n, channels, ...); or float32 (n, channels, h, w), all done
        rows       int64 (b,), which of them are the batch
        labels     integers (n,), one an image, 0 to classes - 1
        transform  divides by 255 and does nothing else by default

    and raise

        ValueError   for arrays of the wrong shape or type, and for a label or a row out of range
        Unsupported  if the kernels cannot serve what the net has become

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
        self.loss = SoftmaxCrossEntropyLoss() if loss is None else loss
        self._threads = num_threads() if threads is None else threads
        if not 1 <= self._threads <= MOST_THREADS:
            raise ValueError(f"threads must be from 1 to {MOST_THREADS}, not {threads}")
        self._lock = Lock()
        self._program = None
        self.follow()

    def follow(self) -> None:
        """Read the net again if it has changed since the last call, as every other method does first.

        To be called before each pass: it also looks for what is rare and would cost too much in every step, MXNet's
        global modes, replaced operations, methods replaced in a class, attributes of parameters, and gradients attached
        to a weight past its parameter.

        Raises:
            Unsupported: the kernels cannot serve what it has become.
        """
        if why := why_not_default_mode():
            raise Unsupported(why)
        with self._lock:
            if self._program is not None and not self._program.record.is_as_declared():
                self._program = None
            self._follow()
            for weight in self._weights:
                weight.check_gradient()

    def _follow(self, train=True):
        if self._program is None or not self._program.record.is_current():
            self._program = None  # if reading fails now, it is tried again at the next call
            self._read()
        # Whatever MXNet still does with weights or gradients, the trainer's last step for one, must be done. (Waiting
        # for each array to be written costs a round trip to a thread of MXNet's an array.)
        mx.nd.waitall()
        is_placed, self._is_placed = self._is_placed, False  # if something is refused now, it is looked at again
        if any([weight.look_up() for weight in self._weights]) or not is_placed:  # all of them
            self._weights_memory = arrays.Memory(array for weight in self._weights for array in weight.data())
            self._gradients_memory = arrays.Memory(array for weight in self._weights for array in weight.gradients())
        moved = self._weights_memory.moved()
        if train or moved:  # a forward pass alone does without: to ask takes longer than an eighth of a single image
            moved = self._gradients_memory.moved() or moved
        if moved:
            addresses, gradients = iter(self._weights_memory.addresses), iter(self._gradients_memory.addresses)
            for weight in self._weights:
                weight.place(addresses, gradients)
            check_apart(self._weights)
            self._why_untrainable = None
            if not any(weight.has_gradient for weight in self._weights):
                self._why_untrainable = Reason("all parameters are frozen")
            elif half := half_frozen(self.net):
                self._why_untrainable = half
        self._is_placed = True
        for kernel in self._kernels:
            kernel.gather()

    def _read(self):
        """Make the table of layers of the net as it is now, and the memory to work in."""
        program = Program(self.net, self.input_shape, self.loss)
        if _is_deferred(self.net):
            self.net(mx.nd.zeros((1, *self.input_shape), ctx=mx.cpu()))
            program = Program(self.net, self.input_shape, self.loss)
        self._weights = [Weight(parameter, program.layers[i], name) for name, i, parameter in program.parameters()]
        steps = zip(program.steps, program.layers, strict=True)
        self._kernels = [BuiltKernel(step, layer) for step, layer in steps if step.parts]
        self._weights += self._kernels
        self._task = RunTask(program, program.layers, self._threads)
        self._described = ()  # the images and the transform that the task knows of
        self._is_placed = False  # whether the table has the addresses of the parameters, which were checked
        self._program = program

    @property
    def num_classes(self) -> int:
        """Number of logits an image."""
        return self._program.num_classes

    @property
    def draws(self) -> bool:
        """Whether training draws random numbers, those of dropout."""
        return self._program.draws

    def backprop(
        self,
        images: np.ndarray,
        rows: np.ndarray,
        labels: np.ndarray,
        transform: Transform = _PLAIN,
        seed: int | None = None,
    ) -> tuple[float, int]:
        """One forward and backward pass over a batch; the gradients are left in each parameter's `grad()`.

        The loss is summed over the batch, and so are the gradients, as `trainer.step(batch_size)` expects.

        Args:
            images, rows, labels, transform: see the class.
            seed: for dropout, which drops the same numbers for the same seed; by default one from MXNet's generator.

        Returns:
            Loss sum and number of correct predictions.
        """
        with self._lock:
            self._follow()
            if self._why_untrainable is not None:
                raise Unsupported(self._why_untrainable)
            if self._program.draws and seed is None:
                seed = new_seed()
            result = self._run(images, rows, labels, transform, train=True, seed=seed or 0)
            for weight in self._weights:
                weight.finish()
        return result

    def evaluate(
        self, images: np.ndarray, rows: np.ndarray, labels: np.ndarray, transform: Transform = _PLAIN
    ) -> tuple[float, int]:
        """The forward pass alone: loss sum and number of correct predictions; memory does not grow with the batch."""
        with self._lock:
            self._follow(train=False)
            return self._run(images, rows, labels, transform)

    def forward(self, images: np.ndarray, rows: np.ndarray | None = None, transform: Transform = _PLAIN) -> np.ndarray:
        """Logits float32 (b, classes) of the images `rows`, or of all."""
        if rows is None:
            rows = np.arange(len(images))
        with self._lock:
            self._follow(train=False)
            return self._run(images, rows, None, transform)

    def _run(self, images, rows, labels, transform, train=False, seed=0):
        """Loss sum and correct count, or without labels the logits."""
        rows = _as_integers(rows, np.int64, "rows")
        if rows.ndim != 1 or not len(rows):
            raise ValueError(f"rows must be a sequence of at least one number, not an array of shape {rows.shape}")
        if labels is not None:
            labels = _as_integers(labels, np.int32, "labels")
            if labels.shape != (len(images),):
                raise ValueError(f"labels must have the shape ({len(images)},), one an image, not {labels.shape}")
        self._describe_images(images, transform)
        logits = np.empty((len(rows), self.num_classes), np.float32) if labels is None else None
        self._task.set(
            rows=rows.ctypes.data,
            batch=len(rows),
            labels=0 if labels is None else labels.ctypes.data,
            logits=0 if logits is None else logits.ctypes.data,
            train=train,
            drops=train,
            seed=seed,
        )
        # to wake a thread for one block takes longer than the block; but gradients are summed as in any other batch
        shares = self._threads if train or len(rows) > LANES else 1
        self._task.run(shares)
        loss, correct, bad_labels, bad_rows, _ = map(sum, zip(*self._task.totals[:shares].tolist(), strict=True))
        if bad_rows:
            raise ValueError(f"rows must be between 0 and {len(images) - 1}, the last image")
        if bad_labels:
            check_labels(labels[rows], self.num_classes)
        return (loss, int(correct)) if logits is None else logits

    def _describe_images(self, images, transform):
        """Tell the kernels where the images are and what to make of them."""
        known = self._described
        if known and known[0] is images and known[1] == images.shape and known[2] is transform:
            return
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
        program = self._program
        self._task.set(
            images=images.ctypes.data,
            is_float=is_float,
            num_images=len(images),
            height=inner[0],
            width=inner[1],
            pad=pad,
            mean=transform.mean,
            std=transform.std,
            staging=program.staging if pad or program.is_padded else program.image[0],
        )
        self._described = images, images.shape, transform


def new_seed() -> int:
    """A seed for dropout from MXNet's generator, which `mx.random.seed` governs."""
    return int(mx.nd.random.randint(0, 2**31 - 1, shape=(1,), ctx=mx.cpu()).asscalar())


def _is_deferred(net) -> bool:
    """Whether some parameters come into being, with their shapes, only when the net is first called."""
    return any(parameter._deferred_init for parameter in net.collect_params().values())


def _as_integers(numbers, dtype, name) -> np.ndarray:
    """The numbers as a contiguous array of the integer type `dtype`, each as it was."""
    given = np.asarray(numbers)
    array = np.ascontiguousarray(given, dtype)
    if given.dtype.kind not in "iu" or (given.dtype != dtype and not np.array_equal(array, given)):
        raise ValueError(f"{name} must be integers of at most {np.dtype(dtype).itemsize * 8} bits, not {given.dtype}")
    return array
