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
from contextlib import contextmanager

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
from gluon_lenet.engines.recorded import record
from gluon_lenet.errors import InputError

log = logging.getLogger("gluon_lenet.accelerate")

CHECKS = 2  # calls of each net and image shape that are computed by both, and compared
# How far the two may be apart, as a fraction of the norm. Rounding may decide which of two pixels max pooling takes,
# above all behind a sigmoid, which moves a gradient to another pixel; that was up to 0.003 of the gradient of a weight,
# and up to 0.013 of the images', over 12 initializations of the chapter's net.
_CLOSE, _CLOSE_MAXPOOL, _CLOSE_MAXPOOL_IMAGES = 1e-3, 0.03, 0.1

_MOST_NETS, _MOST_SHAPES = 8, 4  # that are remembered, and image shapes of each

_original, _original_update = Block.__call__, Trainer._update


class _Settings:
    """What is accelerated: all nets or some, and whether it is an error to leave a net to MXNet."""

    def __init__(self):
        self.all, self.nets, self.strict = False, weakref.WeakSet(), False


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


class _Known:
    """What is known of one net."""

    def __init__(self, net: Block):
        self.net = net
        self.served: OrderedDict[tuple, _Served] = OrderedDict()  # by the shape of an image
        self.why = None  # the last call was left to MXNet
        self.difference = None  # between the kernels and MXNet, once one was found
        self.said = set()

    def say(self, text: str) -> None:
        """Log a sentence about the net, once."""
        if text not in self.said:
            self.said.add(text)
            log.info("%s: %s", self.net.name, text)


_settings, _thread = _Settings(), _Thread()
_nets: OrderedDict[int, _Known] = OrderedDict()  # by id; a known net is kept alive, so that the id stays its own


class Acceleration:
    """What `accelerate` returns: as a context manager, it restores at its end what was before."""

    def __init__(self, before: tuple):
        self._before = before

    def __enter__(self) -> Acceleration:
        return self

    def __exit__(self, *exception) -> None:
        _settings.all, nets, _settings.strict = self._before
        _settings.nets = weakref.WeakSet(nets)
        _install()


def accelerate(net: Block | bool = True, *, strict: bool = False) -> Acceleration:
    """Let nets that are called in any loop be computed by the fused kernels on the CPU, and their gradients, too.

    Afterwards `net(X)`, within `autograd.record()` or not, is computed by the kernels where they serve the net, and so
    is `backward`, whatever the loss and the loop. Everything else is left to MXNet, call by call. The logger
    "gluon_lenet.accelerate" says at level INFO what is accelerated, and what is not and why; `explain(net)` says it of
    one net. The first calls of each net are compared with MXNet's logits and gradients; if they differ, the net is left
    to MXNet, with a warning.

    Args:
        net: a net; True for all, also for those made later; False to undo all earlier calls.
        strict: raise InputError where nothing of a net with parameters can be accelerated.

    Returns:
        A context manager that undoes this call at its end. It can be ignored.

    Raises:
        InputError: `net` is none of these.
    """
    before = _settings.all, list(_settings.nets), _settings.strict
    if net is False:
        _settings.all, _settings.nets, _settings.strict = False, weakref.WeakSet(), False
        _nets.clear()
    elif net is True:
        _settings.all, _settings.strict = True, strict
    elif isinstance(net, Block):
        _settings.nets.add(net)
        _settings.strict = strict
    else:
        raise InputError(f"accelerate takes a net, True or False, not {net!r}")
    _install()
    return Acceleration(before)


def explain(net: Block) -> str:
    """Whether a net is accelerated, or why not: a sentence in English and one in Chinese, a line each.

    It tells of the net's calls so far, and of what has changed since.
    """
    name = net.name
    if not (_settings.all or net in _settings.nets):
        return (
            f"{name} is computed by MXNet: gluon_lenet.accelerate() has not been called.\n"
            f"{name} 由 MXNet 计算：尚未调用 gluon_lenet.accelerate()。"
        )
    known = _nets.get(id(net))
    if known is None or not (known.served or known.why):
        return f"{name} has not been called yet.\n{name} 尚未被调用。"
    shapes = [shape for shape, served in known.served.items() if served.function.is_current()]
    if known.difference is None and shapes:
        images = " and ".join(map(str, shapes))
        return (
            f"{name} is computed by the fused kernels, forward and backward, for images of shape {images}.\n"
            f"{name} 由融合内核计算（前向与反向），图像形状 {images}。"
        )
    why = known.difference or known.why
    return f"{name} is computed by MXNet: {why}.\n{name} 由 MXNet 计算，原因：{why}。"


def load_ipython_extension(ipython) -> None:
    """What `%load_ext gluon_lenet` calls: `patch_d2lzh()` and `accelerate()`.

    IPython hands no options to an extension; `gluon_lenet.accelerate(False)` undoes the latter.
    """
    patch_d2lzh()
    accelerate()


def unload_ipython_extension(ipython) -> None:
    """What `%unload_ext gluon_lenet` calls: `accelerate(False)`."""
    accelerate(False)


def _install() -> None:
    """Put `_call` and `_update` in the places of Gluon's own, or those back."""
    is_on = _settings.all or len(_settings.nets) > 0
    if Block.__call__ in (_call, _original):  # else somebody else has replaced it since, and calls ours
        Block.__call__ = _call if is_on else _original
    if Trainer._update in (_update, _original_update):
        Trainer._update = _update if is_on else _original_update


def _call(self, *args):
    """`Block.__call__`: by the kernels if they serve, else the original."""
    if _thread.is_comparing or not (_settings.all or self in _settings.nets):
        return _original(self, *args)
    if type(self) not in (nn.Sequential, nn.HybridSequential):
        return _leave_to_mxnet(self, args, f"it is a {type(self).__name__}, not a Sequential", _settings.strict)
    known = _known(self)
    with _comparing():
        try:
            images, served = _prepare(known, args)
            result = _serve(known, served, *images)
        except Unsupported as error:
            why, strict = str(error), _settings.strict and not isinstance(error, _NotInitializedError)
        else:
            known.say("computed by the fused kernels")
            _thread.num_served += 1
            return result
    return _leave_to_mxnet(self, args, why, strict)


def _update(self, *args, **kwargs):
    """`Trainer._update`: by the kernels' SGD and Adam where they serve, which compute the same bits."""
    if self._contexts == [mx.cpu()]:
        updater.install(self)
    return _original_update(self, *args, **kwargs)


def _known(net: Block) -> _Known:
    known = _nets.get(id(net))
    if known is None:
        known = _nets[id(net)] = _Known(net)
        if len(_nets) > _MOST_NETS:
            _nets.popitem(last=False)
    return known


def _leave_to_mxnet(net: Block, args: tuple, why: str, strict: bool):
    if _thread.depth == 0:
        _thread.num_served = 0
    _thread.depth += 1
    try:
        result = _original(net, *args)
    finally:
        _thread.depth -= 1
    if _thread.depth == 0 and _thread.num_served == 0 and not isinstance(net, Loss) and net.collect_params():
        known = _known(net)
        known.why = why
        known.say(f"left to MXNet: {why}")
        if strict:
            raise InputError(f"{net.name} cannot be accelerated: {why}")
    return result


@contextmanager
def _comparing():
    """Calls of nets within this are MXNet's: those that find out about the net, or compare."""
    _thread.is_comparing = True
    try:
        yield
    finally:
        _thread.is_comparing = False


def _prepare(known: _Known, args: tuple) -> tuple[tuple[mx.nd.NDArray, tuple], _Served]:
    """What a call passes -> the images, the shape of one as the kernels see it, and the net's function for it.

    Raises:
        Unsupported: the kernels cannot serve this call; the message says why.
    """
    if isinstance(threading.current_thread(), threading._DummyThread):  # waiting for MXNet there would wait for itself
        raise Unsupported("it is called by a thread of MXNet's own, in a custom operator or its backward pass")
    if len(args) != 1 or type(args[0]) is not mx.nd.NDArray:
        raise Unsupported("it is called with something else than one array")
    X = args[0]
    if X.context != mx.cpu() or X.dtype != np.float32 or X.stype != "default":
        raise Unsupported(f"its input is {np.dtype(X.dtype)} on {X.context}, not dense float32 on cpu(0)")
    if X.ndim not in (2, 3, 4) or not X.size:
        raise Unsupported(f"its input has the shape {X.shape}")
    if why := proof.why_not_default_mode():
        raise Unsupported(why)
    shape = X.shape[1:]
    served = known.served.get(shape)
    if served is None or not served.function.is_current():
        known.served.pop(shape, None)
        known.difference = None  # the net is another one now
        served = known.served[shape] = _Served(_read(known.net, shape))
        if len(known.served) > _MOST_SHAPES:
            known.served.popitem(last=False)
    if known.difference is not None:
        raise Unsupported(known.difference)
    return (X, shape), served


def _read(net: Block, shape: tuple[int, ...]) -> NetFunction:
    for parameter in net.collect_params().values():
        if parameter._data is None:
            raise _NotInitializedError("its parameters are not initialized yet")
    if why := proof.half_frozen(net):
        raise Unsupported(why)
    function = NetFunction(net, shape if len(shape) == 3 else (1, 1, int(np.prod(shape))))
    if len(shape) != 3 and function.begins_with_maps:
        raise Unsupported(f"its input has the shape (b, {', '.join(map(str, shape))})")
    return function


def _serve(known: _Known, served: _Served, X: mx.nd.NDArray, shape: tuple) -> mx.nd.NDArray:
    """The net's output, with a node in autograd's graph if it records."""
    function, is_recording = served.function, autograd.set_recording(False)
    try:
        mx.nd.waitall()  # a trainer's step may still be changing the weights
        values = function.values()
        memory = Memory([X])
        memory.moved()
        images = memory.addresses[0]
        if served.num_compared < CHECKS:
            difference = _difference(known.net, function, X, values, images)
            if difference is not None:
                known.difference = difference
                warnings.warn(f"{known.net.name} is left to MXNet: {difference}", stacklevel=4)
                raise Unsupported(difference)
            served.num_compared += 1
        seed = new_seed() if function.draws and autograd.is_training() else None
        store = _Store(function, len(X)) if is_recording else None
        logits = function.forward(values, images, len(X), store and store.array, seed)
        output = mx.nd.array(logits)
    finally:
        autograd.set_recording(is_recording)
    if is_recording:

        def backward(given, wanted):
            gradient = np.ascontiguousarray(given[0])
            flat, of_images = function.backward(values, store.array, gradient, with_images=wanted[0], seed=seed)
            return [of_images, *(flat[part] for part in function.parts)]

        record([X, *(parameter.data() for parameter in function.parameters)], [output], backward)
    return output


class _NotInitializedError(Unsupported):
    """The net must be called once by MXNet, which finds out the shapes of its parameters."""


class _Store:
    """Room for what the backward pass needs of a forward pass; given back when the graph no longer needs it."""

    def __init__(self, function: NetFunction, batch: int):
        self._function, self.array = function, function.new_store(batch)

    def __del__(self):
        self._function.free_store(self.array)


def _difference(net: Block, function: NetFunction, X, values, images) -> str | None:
    """Compute a call by MXNet and by the kernels, without dropout, and compare; None if they are close."""
    again = mx.nd.array(X.asnumpy())
    again.attach_grad()
    with autograd.record():  # in training mode: else oneDNN's max pooling does not keep what its backward pass needs
        expected = _without_dropout(net, again) if function.draws else _original(net, again)
    store = _Store(function, len(X))
    logits = function.forward(values, images, len(X), store.array)
    if not np.isfinite(expected.asnumpy()).all():
        return None  # nothing to compare
    weight = np.random.default_rng(0).normal(size=logits.shape).astype(np.float32)  # of the logits in a sum
    places = zip(function.parameters, function.parts, strict=True)
    trained = [(parameter, part) for parameter, part in places if parameter.data().grad is not None]
    arrays = [again, *(parameter.data() for parameter, _ in trained)]
    of_input, *gradients = autograd.grad(expected, arrays, head_grads=mx.nd.array(weight))
    flat, of_images = function.backward(values, store.array, weight, with_images=True)
    has_maxpool = any(isinstance(block, nn.MaxPool2D) for block in net._children.values())
    close, close_images = (_CLOSE_MAXPOOL, _CLOSE_MAXPOOL_IMAGES) if has_maxpool else (_CLOSE, _CLOSE)
    compared = [("its output", logits, expected, _CLOSE), ("its input's gradient", of_images, of_input, close_images)]
    for (parameter, part), gradient in zip(trained, gradients, strict=True):
        compared.append((f"the gradient of {parameter.name}", flat[part], gradient, close))
    for name, ours, theirs, bound in compared:
        ours, theirs = ours.ravel().astype(np.float64), theirs.asnumpy().ravel().astype(np.float64)
        distance, size = np.linalg.norm(ours - theirs), np.linalg.norm(theirs)
        if not distance <= bound * size:
            return f"the kernels' result differs from MXNet's: {name}, by {distance:.1e} of {size:.1e}"
    return None


def _without_dropout(net: Block, x):
    for block in net._children.values():
        x = x if isinstance(block, nn.Dropout) else block(x)
    return x


proof.ACCEPTED.append(_call)
