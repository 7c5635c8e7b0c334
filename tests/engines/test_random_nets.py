"""Random nets, hooked, shared, subclassed, edited: `choose` computes what MXNet computes, or both raise an error.

Hypothesis draws a net from all of Gluon's layers that take images (most are LeNets with something odd about them),
changes it in ways Python and Gluon allow, and changes it again after the engine has read it. After each change the
loss, the count of correct answers, every gradient and the calls of every hook are compared with MXNet's own.
"""

from __future__ import annotations

import warnings
from collections import Counter
from contextlib import suppress
from functools import partial
from types import MethodType

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from mxnet import autograd, gluon
from mxnet.gluon import HybridBlock, contrib, nn

from gluon_lenet.data.batches import Batches, check_labels
from gluon_lenet.data.transforms import Transform
from gluon_lenet.engines.choice import choose
from gluon_lenet.engines.fused.engine import Fused
from gluon_lenet.engines.proof import half_frozen
from gluon_lenet.nets.layers import PrintLayer, RBFOutput, ScaledTanh, Subsampling, TableConv2D
from random_cases import random_cases

CLASSES = 10


class OwnDense(nn.Dense):
    def hybrid_forward(self, F, x, weight, bias=None):
        return super().hybrid_forward(F, x, weight, bias) * 1.5


class SameDense(nn.Dense):
    """A subclass that changes nothing."""


class OwnActivation(nn.Activation):
    def hybrid_forward(self, F, x):
        return F.relu(x) * x


class OwnPooling(nn.MaxPool2D):
    def forward(self, x, *args):
        return super().forward(x * 0.5, *args)


class Backwards(nn.HybridSequential):
    """Doubles the input of its last layer."""

    def hybrid_forward(self, F, x):
        *first, last = self._children.values()
        for block in first:
            x = block(x)
        return last(x * 2)


class OwnCall(nn.Sequential):
    def __call__(self, x):
        return super().__call__(x) + 1


ACTIVATIONS = ["sigmoid", "tanh", "relu", "softrelu", "softsign"]


def _conv(draw):
    pad = draw(st.sampled_from([0, 0, 0, 2]))
    size = draw(st.sampled_from([5, 5, *range(1, 10)]))
    return nn.Conv2D(draw(st.integers(1, 7)), size, padding=pad, activation=draw(st.sampled_from([*ACTIVATIONS, None])))


def _odd_conv(draw):
    kernel, groups = draw(st.integers(1, 9)), draw(st.sampled_from([1, 1, 2]))
    return nn.Conv2D(
        2 * draw(st.integers(1, 3)),
        kernel,
        strides=draw(st.integers(1, 2)),
        padding=draw(st.integers(0, 3)),
        dilation=draw(st.integers(1, 2)),
        groups=groups,
        use_bias=draw(st.booleans()),
        activation=draw(st.sampled_from([*ACTIVATIONS, None])),
    )


def _pool(draw):
    return draw(st.sampled_from([nn.MaxPool2D, nn.AvgPool2D]))(pool_size=2, strides=2)


def _odd_pool(draw):
    size, strides, padding = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(0, 1))
    kind = draw(st.sampled_from([nn.MaxPool2D, nn.AvgPool2D]))
    more = {"count_include_pad": draw(st.booleans())} if kind is nn.AvgPool2D else {}
    return kind(size, strides, min(padding, size // 2), ceil_mode=draw(st.booleans()), **more)


def _dense(draw):
    return nn.Dense(
        draw(st.integers(2, 20)), activation=draw(st.sampled_from([*ACTIVATIONS, None])), use_bias=draw(st.booleans())
    )


def _nested(draw):
    inner = draw(st.sampled_from([nn.Sequential, nn.HybridSequential]))()
    inner.add(*(make(draw) for make in draw(st.lists(st.sampled_from([_dense, _activation]), max_size=2))))
    return inner


def _activation(draw):
    return nn.Activation(draw(st.sampled_from(ACTIVATIONS)))


def _concurrent(draw):
    both = contrib.nn.HybridConcurrent(axis=1)
    both.add(nn.Dense(3), contrib.nn.Identity() if draw(st.booleans()) else nn.Dense(2))
    return both


ODD = {
    "convolution": _odd_conv,
    "pooling": _odd_pool,
    "global pooling": lambda draw: draw(st.sampled_from([nn.GlobalMaxPool2D, nn.GlobalAvgPool2D]))(),
    "transposed": lambda draw: nn.Conv2DTranspose(3, draw(st.integers(1, 5))),
    "reflection": lambda draw: nn.ReflectionPad2D(draw(st.integers(1, 2))),
    "dropout": lambda draw: nn.Dropout(0.0),  # others drop other numbers than MXNet's; see test_dropout.py
    "batch norm": lambda draw: nn.BatchNorm(),
    "instance norm": lambda draw: nn.InstanceNorm(),
    "layer norm": lambda draw: nn.LayerNorm(),
    "group norm": lambda draw: nn.GroupNorm(1),
    "leaky relu": lambda draw: nn.LeakyReLU(0.1),
    "prelu": lambda draw: nn.PReLU(),
    "elu": lambda draw: nn.ELU(),
    "selu": lambda draw: nn.SELU(),
    "gelu": lambda draw: nn.GELU(),
    "swish": lambda draw: nn.Swish(),
    "flatten": lambda draw: nn.Flatten(),
    "lambda": lambda draw: nn.HybridLambda(lambda F, x: x * 2),
    "named lambda": lambda draw: nn.Lambda("tanh"),
    "nested": _nested,
    "concurrent": _concurrent,
    "identity": lambda draw: contrib.nn.Identity(),
    "unflattened dense": lambda draw: nn.Dense(draw(st.integers(2, 9)), flatten=False),
    "print": lambda draw: PrintLayer(),
    "subclass": lambda draw: draw(st.sampled_from([OwnDense, SameDense]))(draw(st.integers(2, 9))),
    "own activation": lambda draw: OwnActivation("relu"),
    "own pooling": lambda draw: OwnPooling(),
    "another activation": _activation,
    "another dense": _dense,
    "another convolution": _conv,
    "another pooling": _pool,
}


@st.composite
def layers(draw):
    """Roughly the layers of a LeNet: supported by the kernels, except for one unusual layer in half of the nets."""
    blocks = []
    if draw(st.integers(0, 7)) == 0:  # the layers of LeNet-5 (1998)
        blocks += [nn.Conv2D(6, 5), ScaledTanh(), Subsampling(6), ScaledTanh(), TableConv2D(), ScaledTanh()]
        blocks += [nn.Dense(12), ScaledTanh()]
        blocks += [RBFOutput(np.sign(np.random.default_rng(0).normal(size=(CLASSES, 12))).astype(np.float32))]
    else:
        for _ in range(draw(st.integers(0, 2))):
            blocks.append(_conv(draw))
            if draw(st.booleans()):
                blocks.append(_pool(draw))
            if draw(st.integers(0, 3)) == 0:
                blocks.append(draw(st.sampled_from([_activation(draw), ScaledTanh()])))
        if draw(st.integers(0, 3)) == 0:
            blocks.append(nn.Flatten())
        blocks += [_dense(draw) for _ in range(draw(st.integers(0, 2)))]
        blocks.append(nn.Dense(CLASSES))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        kind = draw(st.sampled_from(sorted(ODD)))
        note(f"odd: {kind}")
        blocks.insert(draw(st.integers(0, len(blocks) - 1)), ODD[kind](draw))
    return blocks


# --- changes ----------------------------------------------------------------------------------------------------------


def _blocks(net):
    found = []
    net.apply(found.append)
    return found


def _of(net, *kinds):
    return [block for block in _blocks(net) if isinstance(block, kinds)]


def _hook(draw, net, calls):
    block = draw(st.sampled_from(_blocks(net)))
    number = len(calls)
    calls[number] = 0

    def count(*args):
        calls[number] += 1

    getattr(block, draw(st.sampled_from(["register_forward_hook", "register_forward_pre_hook"])))(count)


def _unhook(draw, net, calls):
    for block in _blocks(net):
        block._forward_hooks.clear()
        block._forward_pre_hooks.clear()


def _own_forward(draw, net, calls):
    block = draw(st.sampled_from(_blocks(net)))
    forward = type(block).forward
    block.forward = MethodType(lambda self, x, *args: forward(self, x, *args) * 0.5, block)


def _no_own_forward(draw, net, calls):
    for block in _blocks(net):
        vars(block).pop("forward", None)


def _share(draw, net, calls):
    """Two dense layers with one weight."""
    dense = nn.Dense(CLASSES, in_units=CLASSES)
    dense.initialize(mx.init.Xavier())
    net.add(dense, nn.Dense(CLASSES, in_units=CLASSES, params=dense.params))


def _twice(draw, net, calls):
    net.add(draw(st.sampled_from(list(net._children.values()))))


def _append(draw, net, calls):
    new = draw(st.sampled_from([_dense, _activation]))(draw)
    new.initialize(mx.init.Xavier())
    net.add(new)
    if draw(st.booleans()):
        last = nn.Dense(CLASSES)
        last.initialize(mx.init.Xavier())
        net.add(last)


def _replace(draw, net, calls):
    name = draw(st.sampled_from(list(net._children)))
    if isinstance(net._children[name], nn.Dense):
        new = type(net._children[name])(
            net._children[name]._units, activation=draw(st.sampled_from([*ACTIVATIONS, None]))
        )
    else:
        new = _activation(draw)
    new.initialize(mx.init.Xavier())
    net._children[name] = new


def _remove(draw, net, calls):
    if len(net._children) > 1:
        net._children.pop(draw(st.sampled_from(list(net._children))))


def _reorder(draw, net, calls):
    net._children.move_to_end(draw(st.sampled_from(list(net._children))))


def _another_activation(draw, net, calls):
    found = [block for block in _of(net, nn.Dense, nn.Conv2D) if block.act is not None]
    if found:
        kind = draw(st.sampled_from(["sigmoid", "relu", "own"]))
        # past Gluon's `__setattr__`, which rejects a value of another type
        vars(draw(st.sampled_from(found)))["act"] = OwnActivation("tanh") if kind == "own" else nn.Activation(kind)


def _change_in_place(draw, net, calls):
    """Changes of settings that Gluon's layers read at each call."""
    found = _of(net, nn.Activation)
    if found and draw(st.booleans()):
        draw(st.sampled_from(found))._act_type = draw(st.sampled_from(ACTIVATIONS))
    found = _of(net, nn.MaxPool2D, nn.AvgPool2D)
    if found and draw(st.booleans()):
        pool = draw(st.sampled_from(found))
        pool._kwargs["pool_type"] = draw(st.sampled_from(["max", "avg", "sum"]))
    found = _of(net, nn.Conv2D)
    if found and draw(st.booleans()):
        draw(st.sampled_from(found))._kwargs["pad"] = draw(st.sampled_from([(0, 0), (2, 2), (1, 1)]))
    found = _of(net, nn.Dense)
    if found and draw(st.booleans()):
        draw(st.sampled_from(found))._flatten = draw(st.booleans())


def _grad_req(draw, net, calls):
    net.collect_params(draw(st.sampled_from([".*", ".*weight", ".*bias"]))).setattr(
        "grad_req", draw(st.sampled_from(["null", "write", "add"]))
    )


def _hybridize(draw, net, calls):
    net.hybridize(draw(st.booleans()), static_alloc=draw(st.booleans()))


def _reinitialize(draw, net, calls):
    net.initialize(mx.init.Normal(0.3), force_reinit=True)


def _set_weights(draw, net, calls):
    for parameter in net.collect_params().values():
        if parameter._data is not None and parameter.grad_req != "null":
            parameter.set_data(parameter.data() * 1.25)


def _cast(draw, net, calls):
    net.cast("float64")


def _new_arrays(draw, net, calls):
    """Every weight moves to another address in memory."""
    net.collect_params().reset_ctx(mx.cpu())


def _attach(draw, net, calls):
    found = [p for p in net.collect_params().values() if p._data is not None and p.grad_req == "write"]
    if found:
        draw(st.sampled_from(found)).data().attach_grad(draw(st.sampled_from(["write", "add"])))


def _class(draw, net, calls):
    if type(net) is nn.HybridSequential:
        net.__class__ = draw(st.sampled_from([Backwards, nn.HybridSequential]))
    found = _of(net, nn.Dense)
    if found:
        draw(st.sampled_from(found)).__class__ = draw(st.sampled_from([OwnDense, SameDense, nn.Dense]))


CHANGES = {
    change.__name__: change
    for change in (
        _hook,
        _unhook,
        _own_forward,
        _no_own_forward,
        _share,
        _twice,
        _append,
        _replace,
        _remove,
        _reorder,
        _another_activation,
        _change_in_place,
        _grad_req,
        _hybridize,
        _reinitialize,
        _set_weights,
        _cast,
        _new_arrays,
        _class,
    )
}
ONLY_BEFORE = {"_attach": _attach}  # an engine notices this only when it reads the net

# These write past the end of their parameters if their input has more channels than at creation, which may kill the
# process: nets with one get no changes of shape.
UNCHECKED = (nn.BatchNorm, nn.InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.PReLU)
OF_SHAPE = {"_share", "_twice", "_append", "_replace", "_remove", "_reorder", "_change_in_place"}


# --- comparison -------------------------------------------------------------------------------------------------------


def by_mxnet(net, X, y):
    """Loss sum and correct count; an error where MXNet is known to be silently wrong.

    MXNet treats a label that is no class as another label; the other case is `half_frozen`.
    """
    if why := half_frozen(net):
        raise ValueError(why)
    with autograd.record():
        y_hat = net(X)
        check_labels(y.asnumpy(), y_hat.shape[1])
        loss = gluon.loss.SoftmaxCrossEntropyLoss()(y_hat, y).sum()
    loss.backward()
    return loss.asscalar(), int((y_hat.asnumpy().argmax(axis=1) == y.asnumpy()).sum())


def by_engine(engine, data_iter):
    """Loss sum and correct count."""
    return engine.backprop(next(engine.batches(data_iter))).wait().totals[:2]


def outcome(net, calls, compute):
    """The outcome of a computation: None for an error, or numbers, gradients, calls of hooks."""
    before = dict(calls)
    for parameter in net.collect_params().values():
        if parameter._grad is not None:
            parameter.zero_grad()
    mx.random.seed(1)
    try:
        loss, correct = compute()
        gradients = {
            name: parameter.grad().asnumpy().astype(np.float64)
            for name, parameter in net._collect_params_with_prefix().items()
            if parameter._grad is not None
        }
    except Exception as error:
        note(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        with suppress(mx.MXNetError):
            mx.nd.waitall()  # raises pending errors now, not during the next net
        return None
    return float(loss), gradients, {number: calls[number] - before[number] for number in calls}, correct


def difference(one, other):
    """Where two outcomes differ; None if nowhere."""
    if (one is None) != (other is None):
        return "an error on one side only"
    if one is None:
        return None
    if not np.isclose(one[0], other[0], rtol=1e-4, equal_nan=True):
        return f"loss {one[0]} and {other[0]}"
    if one[1].keys() != other[1].keys():
        return "other gradients"
    largest = max((np.abs(gradient).max() for gradient in one[1].values()), default=0)
    for name, gradient in one[1].items():
        scale = max(np.abs(gradient).max(), 1e-3 * largest)
        if not np.allclose(gradient, other[1][name], rtol=0, atol=3e-4 * scale + 1e-7, equal_nan=True):
            return f"gradient of {name}: {np.abs(gradient - other[1][name]).max()} of {np.abs(gradient).max()}"
    return None if one[2:] == other[2:] else f"calls of hooks, correct count: {one[2:]} and {other[2:]}"


def compare(draw, net, engine, side, pad, calls):
    """Assert that the engine, or else a new one, computes what MXNet computes; None if there is none for this net.

    Where two pixels differ only by rounding, about once in millions, max pooling may choose either of them. So a
    difference counts only if it appears in three batches with different pixels.
    """
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    mxnet_first = draw(st.booleans())
    for _ in range(3):
        images = generator.integers(0, 256, (5, side, side), np.uint8)
        labels = generator.integers(0, CLASSES, 5)
        data_iter = Batches(images, labels, 5, transform=Transform(pad=pad))
        try:
            engine = engine or choose(net, [mx.cpu()], data_iter)
        except Exception as error:
            note(str(error))
            assert outcome(net, calls, partial(by_mxnet, net, *next(iter(data_iter)))) is None
            return None
        sides = [partial(by_mxnet, net, *next(iter(data_iter))), partial(by_engine, engine, data_iter)]
        found = [outcome(net, calls, compute) for compute in (sides if mxnet_first else sides[::-1])]
        wrong = difference(*found)
        if wrong is None:
            return engine
        note(wrong)
    raise AssertionError(f"{wrong}; by {engine}; {net}")


def check(data, counts):
    """One random net, compared after each of its changes."""
    draw = data.draw
    mx.random.seed(draw(st.integers(0, 1000)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the net left the kernels, and Gluon's own warnings
        blocks, calls = draw(layers()), {}
        containers = [nn.Sequential, OwnCall]
        if all(isinstance(block, HybridBlock) for block in blocks):
            containers += [nn.HybridSequential, nn.HybridSequential, Backwards]
        net = draw(st.sampled_from(containers))()
        net.add(*blocks)
        net.initialize(mx.init.Xavier(magnitude=2))
        pad = draw(st.sampled_from([0, 0, 1]))
        side = draw(st.sampled_from([14, 16, 18])) - 2 * pad
        after = {name: CHANGES[name] for name in CHANGES.keys() - (OF_SHAPE if _of(net, *UNCHECKED) else set())}
        before = after | ONLY_BEFORE
        for name in draw(st.lists(st.sampled_from(sorted(before)), max_size=2)) if draw(st.booleans()) else []:
            note(f"before: {name}")
            before[name](draw, net, calls)
        engine = compare(draw, net, None, side, pad, calls)
        if engine is None:
            counts["no net at all"] += 1
            return
        counts["fused" if isinstance(engine, Fused) else "autograd"] += 1
        for name in draw(st.lists(st.sampled_from(sorted(after)), min_size=1, max_size=3)):
            note(f"after: {name}")
            after[name](draw, net, calls)
            was = len(engine._warned) if isinstance(engine, Fused) else None
            compare(draw, net, engine, side, pad, calls)
            if was is not None:
                counts["fused, then left to MXNet" if len(engine._warned) > was else "fused after a change"] += 1


def run(number):
    """Check a number of nets; the kernels must have served many of them, but not all."""
    counts = Counter()

    @random_cases(number)
    @given(st.data())
    def nets(data):
        check(data, counts)

    nets()
    print(dict(counts))
    assert counts["fused"] > number / 5
    assert counts["autograd"] > number / 5
    assert counts["fused after a change"] > number / 20
    assert counts["fused, then left to MXNet"] > number / 40


def test_200_random_nets():
    run(200)


@pytest.mark.slow
def test_2000_random_nets():
    run(2000)
