"""Gluon's `net(X)`, as it stands in any loop -> the same by the fused kernels, with its gradients, where they serve.

`accelerate` replaces `Block.__call__` by a function that asks for each call whether the kernels compute it, and calls
the original if not. What it returns is a node of autograd's graph (`recorded.py`), so that the loss, `backward`,
`grad_req`, the trainer and whatever else a loop does stay MXNet's own.
"""

from __future__ import annotations

import logging
import threading
import warnings
import weakref
from collections import OrderedDict
from contextlib import contextmanager, suppress

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import Block, Trainer, nn
from mxnet.gluon.loss import Loss

from gluon_lenet.data.d2lzh_patch import patch_d2lzh
from gluon_lenet.engines import proof
from gluon_lenet.engines.fused import updater
from gluon_lenet.engines.fused.arrays import Memory
from gluon_lenet.engines.fused.function import NetFunction
from gluon_lenet.engines.fused.net import new_seed
from gluon_lenet.engines.fused.reading import Unsupported
from gluon_lenet.engines.reasons import Reason, in_chinese
from gluon_lenet.engines.recorded import record
from gluon_lenet.errors import InputError

log = logging.getLogger("gluon_lenet.accelerate")

CHECKS = 2  # calls of each net and image shape that are computed by both, and compared
# How far the two may be apart, as a fraction of the norm. Rounding may decide which of two pixels max pooling takes,
# above all behind a sigmoid, which moves a gradient to another pixel; that was up to 0.003 of the gradient of a weight,
# and up to 0.013 of the images', over 12 initializations of the chapter's net.
_CLOSE, _CLOSE_MAXPOOL, _CLOSE_MAXPOOL_IMAGES = 1e-3, 0.03, 0.1

_MOST_SHAPES = 4  # image shapes of a net that are remembered
_NAME = "_gluon_lenet_accelerated"  # of what is known of a net, among its attributes

_original, _original_update = Block.__call__, Trainer._update


class Acceleration:
    """What `accelerate` returns: as a context manager, it undoes that call at its end."""

    def __init__(self, target: bool | weakref.ref[Block], strict: bool):
        self.target, self.strict = target, strict

    def __enter__(self) -> Acceleration:
        return self

    def __exit__(self, *exception) -> None:
        with suppress(ValueError):
            _calls.remove(self)
        _install()


class _Thread(threading.local):
    """What this thread is in the middle of."""

    def __init__(self):
        self.is_comparing = False  # calls are MXNet's
        self.depth = 0  # of calls left to MXNet, one within the other
        self.num_served = 0  # calls within the outermost of them that the kernels served


class _Served:
    """A net's function for one image shape, and how often it was compared with MXNet."""

    def __init__(self, function: NetFunction):
        self.function, self.num_compared = function, 0

    def is_current(self) -> bool:
        """Whether the net is what it was."""
        return self.function.is_current()


class _Refused:
    """Why the kernels cannot serve a net for one image shape, and the net as it was then."""

    def __init__(self, net: Block, why: Reason):
        self.why, self._blocks, self._snapshot = why, [], proof.Snapshot()
        net.apply(self._blocks.append)
        self._types = list(map(type, self._blocks))
        for block in self._blocks:
            self._snapshot.add_block(block)
            self._snapshot.add_classes(block)
            for parameter in block._reg_params.values():
                self._snapshot.add(vars(parameter))

    def is_current(self) -> bool:
        """Whether the net is what it was."""
        return self._snapshot.is_current() and list(map(type, self._blocks)) == self._types


class _Known:
    """What is known of a net; kept among its attributes, and not copied with them."""

    def __init__(self, net: Block | None = None):
        self.net = None if net is None else weakref.ref(net)
        self.by_shape: OrderedDict[tuple, _Served | _Refused] = OrderedDict()  # of an image
        self.why = None  # the last call was left to MXNet
        self.has_served_parts = False  # of the last call
        self.said = set()

    def __deepcopy__(self, memo) -> _Known:
        return _Known()

    def __reduce__(self) -> tuple:
        return _Known, ()


# What `accelerate` was called with, oldest first, less what was undone; and what follows: whether all nets are
# accelerated, or which are, each with whether it is strict.
_calls: list[Acceleration] = []
_all: list[bool] = []
_nets: weakref.WeakKeyDictionary[Block, bool] = weakref.WeakKeyDictionary()
_thread = _Thread()


def accelerate(net: Block | bool = True, *, strict: bool = False) -> Acceleration:
    """Let nets that are called in any loop be computed by the fused kernels on the CPU, and their gradients, too.

    Afterwards `net(X)`, within `autograd.record()` or not, is computed by the kernels where they serve the net, and so
    is `backward`, whatever the loss and the loop. Everything else is left to MXNet, call by call. The logger
    "gluon_lenet.accelerate" says at level INFO what is accelerated, and what is not and why; `explain(net)` says it of
    one net. The first calls of each net are compared with MXNet's logits and gradients; if they differ, the net is left
    to MXNet, with a warning.

    Args:
        net: a net; True for all, also for those made later; False to undo all earlier calls.
        strict: raise InputError where nothing of such a net can be accelerated, if it has parameters.

    Returns:
        A context manager that undoes this call at its end. It can be ignored.

    Raises:
        InputError: `net` is none of these.
    """
    if not isinstance(net, bool | Block):
        raise InputError(f"accelerate takes a net, True or False, not {net!r}")
    call = Acceleration(net if isinstance(net, bool) else weakref.ref(net), strict)
    _calls.append(call)
    _install()
    return call


def explain(net: Block) -> str:
    """Whether a net is accelerated, or why not: a sentence in English and one in Chinese, a line each.

    It tells of the net's calls so far, and of what has changed since.
    """
    name, known = net.name, _known(net)
    if not (_all or net in _nets):
        return (
            f"{name} is computed by MXNet: gluon_lenet.accelerate() has not been called.\n"
            f"{name} 由 MXNet 计算：尚未调用 gluon_lenet.accelerate()。"
        )
    if Block.__call__ is not _call:
        return f"{name} is computed by MXNet: {_WRAPPED}.\n{name} 由 MXNet 计算：Block.__call__ 已被替换。"
    shapes = [shape for shape, found in known.by_shape.items() if isinstance(found, _Served) and found.is_current()]
    if shapes:
        english, chinese = (separator.join(map(str, shapes)) for separator in (" and ", " 和 "))
        return (
            f"{name} is computed by the fused kernels, forward and backward, for images of shape {english}.\n"
            f"{name} 由融合内核计算（前向与反向），图像形状 {chinese}。"
        )
    if known.has_served_parts:
        return f"Parts of {name} are computed by the fused kernels.\n{name} 的一部分由融合内核计算。"
    if known.why is not None:
        return f"{name} is computed by MXNet: {known.why}.\n{name} 由 MXNet 计算，原因：{in_chinese(known.why)}。"
    return f"{name} has not been called yet.\n{name} 尚未被调用。"


def load_ipython_extension(ipython) -> None:
    """What `%load_ext gluon_lenet` calls: `patch_d2lzh()` and `accelerate()`.

    IPython hands no options to an extension; `gluon_lenet.accelerate(False)` undoes the latter.
    """
    patch_d2lzh()
    accelerate()


def unload_ipython_extension(ipython) -> None:
    """What `%unload_ext gluon_lenet` calls: `accelerate(False)`."""
    accelerate(False)


_WRAPPED = "Block.__call__ was replaced before"


def _install() -> None:
    """Find out what is accelerated, and put `_call` and `_update` in the places of Gluon's own, or those back."""
    _all.clear()
    _nets.clear()
    for call in _calls:
        if call.target is True:
            _all[:] = [call.strict]
        elif call.target is False:
            _all.clear()
            _nets.clear()
        elif (net := call.target()) is not None:
            _nets[net] = call.strict
    is_on = bool(_all) or len(_nets) > 0
    if Block.__call__ in (_call, _original):
        Block.__call__ = _call if is_on else _original
    elif is_on:
        warnings.warn(f"{_WRAPPED}: no net is accelerated", stacklevel=3)
    if Trainer._update in (_update, _original_update):
        Trainer._update = _update if is_on else _original_update


def _call(self, *args):
    """`Block.__call__`: by the kernels if they serve, else the original."""
    if _thread.is_comparing or not (_all or self in _nets):
        return _original(self, *args)
    strict = _nets[self] if self in _nets else _all[0]
    if type(self) not in (nn.Sequential, nn.HybridSequential):
        why = Reason("it is a {type}, not a Sequential", type=type(self).__name__)
        return _leave_to_mxnet(self, args, why, strict)
    with _comparing():
        try:
            result = _serve(self, args)
        except _NotInitializedError as error:
            why, strict = error.args[0], False
        except Unsupported as error:
            why = error.args[0]
        else:
            _say(self, "computed by the fused kernels")
            _thread.num_served += 1
            return result
    return _leave_to_mxnet(self, args, why, strict)


def _update(self, *args, **kwargs):
    """`Trainer._update`: by the kernels' SGD and Adam where they serve, which compute the same bits."""
    if self._contexts == [mx.cpu()]:
        updater.install(self)
    return _original_update(self, *args, **kwargs)


def _leave_to_mxnet(net: Block, args: tuple, why: Reason, strict: bool):
    """The original call; said and, if strict, refused unless the kernels served a part of it."""
    if _thread.depth > 0:
        return _original(net, *args)
    _thread.depth, _thread.num_served = 1, 0
    try:
        result = _original(net, *args)
    finally:
        _thread.depth = 0
    if not isinstance(net, Loss) and net.collect_params():
        known = _known(net)
        known.why, known.has_served_parts = why, _thread.num_served > 0
        if not known.has_served_parts:
            _say(net, f"left to MXNet: {why}")
            if strict:
                raise InputError(f"{net.name} cannot be accelerated: {why}")
    return result


def _known(net: Block) -> _Known:
    known = vars(net).get(_NAME)
    if known is None or known.net is None or known.net() is not net:  # a copy has its own
        known = vars(net)[_NAME] = _Known(net)
    return known


def _say(net: Block, text: str) -> None:
    """Log a sentence about a net, once."""
    said = _known(net).said
    if text not in said:
        said.add(text)
        log.info("%s: %s", net.name, text)


@contextmanager
def _comparing():
    """Calls of nets within this are MXNet's: those that find out about the net, or compare."""
    _thread.is_comparing = True
    try:
        yield
    finally:
        _thread.is_comparing = False


def _serve(net: Block, args: tuple) -> mx.nd.NDArray:
    """What the net makes of the arguments, by the kernels.

    Raises:
        Unsupported: the kernels cannot serve this call; the message says why.
    """
    if isinstance(threading.current_thread(), threading._DummyThread):  # waiting for MXNet there would wait for itself
        raise Unsupported(Reason("it is called by a thread of MXNet's own, in a custom operator or its backward pass"))
    if len(args) != 1 or type(args[0]) is not mx.nd.NDArray:
        raise Unsupported(Reason("it is called with something else than one array"))
    X = args[0]
    if X.context != mx.cpu() or X.dtype != np.float32 or X.stype != "default":
        raise Unsupported(
            Reason(
                "its input is {dtype} on {context}, not dense float32 on cpu(0)",
                dtype=np.dtype(X.dtype),
                context=X.context,
            )
        )
    if X.ndim not in (2, 3, 4) or not X.size:
        raise Unsupported(Reason("its input has the shape {shape}", shape=X.shape))
    if why := proof.why_not_default_mode():
        raise Unsupported(why)
    found = _find(net, X.shape[1:])
    is_recording = autograd.set_recording(False)
    try:
        mx.nd.waitall()  # a trainer's step may still be changing the weights
        function, memory = found.function, Memory([X])
        values = function.values()
        memory.moved()
        images = memory.addresses[0]
        if found.num_compared < CHECKS:
            difference = _difference(net, function, X, values, images)
            if difference is not None:
                _known(net).by_shape[X.shape[1:]] = _Refused(net, difference)
                warnings.warn(f"{net.name} is left to MXNet: {difference}", stacklevel=4)
                raise Unsupported(difference)
            found.num_compared += 1
        seed = new_seed() if function.draws and autograd.is_training() else None
        store = _Store(function, len(X)) if is_recording else None
        logits = function.forward(values, images, len(X), store and store.array, seed)
        output = mx.nd.array(logits, ctx=mx.cpu())
    finally:
        autograd.set_recording(is_recording)
    if is_recording:
        _record(function, X, output, values, store, seed)
    return output


def _find(net: Block, shape: tuple[int, ...]) -> _Served:
    """The net's function for images of this shape, as the net is now.

    Raises:
        Unsupported: the kernels cannot serve the net for them; the message says why.
    """
    by_shape = _known(net).by_shape
    found = by_shape.get(shape)
    if found is None or not found.is_current():
        by_shape.pop(shape, None)
        try:
            found = _Served(_read(net, shape))
        except _NotInitializedError:
            raise
        except Unsupported as error:
            found = _Refused(net, error.args[0])
        by_shape[shape] = found
        if len(by_shape) > _MOST_SHAPES:
            by_shape.popitem(last=False)
    if isinstance(found, _Refused):
        raise Unsupported(found.why)
    return found


def _record(function: NetFunction, X, output, values, store, seed) -> None:
    """Add the call to autograd's graph."""

    def backward(given, wanted):
        gradient = np.ascontiguousarray(given[0])
        flat, of_images = function.backward(values, store.array, gradient, with_images=wanted[0], seed=seed)
        return [of_images, *(flat[part] for part in function.parts)]

    record([X, *(parameter.data(mx.cpu()) for parameter in function.parameters)], [output], backward)


def _read(net: Block, shape: tuple[int, ...]) -> NetFunction:
    for parameter in net.collect_params().values():
        if parameter._data is None:
            raise _NotInitializedError(Reason("its parameters are not initialized yet"))
    if why := proof.half_frozen(net):
        raise Unsupported(why)
    function = NetFunction(net, shape if len(shape) == 3 else (1, 1, int(np.prod(shape))))
    if len(shape) != 3 and function.begins_with_maps:
        raise Unsupported(Reason("its input has the shape {shape}", shape=f"(b, {', '.join(map(str, shape))})"))
    return function


class _NotInitializedError(Unsupported):
    """The net must be called once by MXNet, which finds out the shapes of its parameters."""


class _Store:
    """Room for what the backward pass needs of a forward pass; given back when the graph no longer needs it."""

    def __init__(self, function: NetFunction, batch: int):
        self._function, self.array = function, None
        self.array = function.new_store(batch)

    def __del__(self):
        if self.array is not None:
            self._function.free_store(self.array)


def _difference(net: Block, function: NetFunction, X, values, images) -> Reason | None:
    """Compute a call by MXNet and by the kernels, without dropout, and compare; None if they are close."""
    again = mx.nd.array(X.asnumpy(), ctx=mx.cpu())
    again.attach_grad()
    with autograd.record():  # in training mode: else oneDNN's max pooling does not keep what its backward pass needs
        expected = _without_dropout(net, again) if function.draws else _original(net, again)
    store = _Store(function, len(X))
    logits = function.forward(values, images, len(X), store.array)
    if expected.shape != logits.shape:
        return Reason(
            "its output has the shape {expected}, not {computed}", expected=expected.shape, computed=logits.shape
        )
    weight = np.random.default_rng(0).normal(size=logits.shape).astype(np.float32)  # of the logits in a sum
    places = zip(function.parameters, function.parts, strict=True)
    trained = [(parameter, part) for parameter, part in places if parameter.data(mx.cpu()).grad is not None]
    arrays = [again, *(parameter.data(mx.cpu()) for parameter, _ in trained)]
    of_input, *gradients = autograd.grad(expected, arrays, head_grads=mx.nd.array(weight, ctx=mx.cpu()))
    flat, of_images = function.backward(values, store.array, weight, with_images=True)
    has_maxpool = any(isinstance(block, nn.MaxPool2D) for block in net._children.values())
    close, close_images = (_CLOSE_MAXPOOL, _CLOSE_MAXPOOL_IMAGES) if has_maxpool else (_CLOSE, _CLOSE)
    compared = [
        (Reason("its output"), logits, expected, _CLOSE),
        (Reason("its input's gradient"), of_images, of_input, close_images),
    ]
    for (parameter, part), gradient in zip(trained, gradients, strict=True):
        name = Reason("the gradient of {parameter}", parameter=parameter.name)
        compared.append((name, flat[part], gradient, close))
    numbers = [(ours.ravel().astype(np.float64), theirs.asnumpy().ravel()) for _, ours, theirs, _ in compared]
    if not all(np.isfinite(theirs).all() for _, theirs in numbers):
        return None  # nothing to compare
    # A gradient that is nearly 0, compared with the largest, is what rounding has left.
    sizes = [np.linalg.norm(theirs) for _, theirs in numbers]
    least = [0, *[1e-3 * max(sizes[1:])] * len(sizes[1:])]
    for (name, _, _, bound), (ours, theirs), size, floor in zip(compared, numbers, sizes, least, strict=True):
        distance = np.linalg.norm(ours - theirs)
        if not distance <= bound * max(size, floor):
            return Reason(
                "the kernels' result differs from MXNet's: {name}, by {distance:.1e} of {size:.1e}",
                name=name,
                distance=distance,
                size=size,
            )
    return None


def _without_dropout(net: Block, x):
    for block in net._children.values():
        x = x if isinstance(block, nn.Dropout) else block(x)
    return x


proof.ACCEPTED.append(_call)
