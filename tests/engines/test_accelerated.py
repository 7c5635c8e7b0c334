"""`accelerate`: loops of a reader's own, computed by the kernels, give what plain MXNet gives."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
import subprocess
import sys
import threading
import time
import warnings
import weakref

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

import gluon_lenet
from conftest import ROOT
from gluon_lenet.engines import accelerated, recorded
from gluon_lenet.engines.accelerated import accelerate, explain
from gluon_lenet.engines.fused.function import NetFunction
from gluon_lenet.errors import InputError
from gluon_lenet.nets.zoo import NETS, get_net

RNG = np.random.default_rng(0)
X, Y = RNG.random((3, 20, 1, 28, 28), np.float32), RNG.integers(0, 10, (3, 20))
CLOSE = 2e-5  # max |difference| / max |number|


@pytest.fixture(autouse=True)
def undone():
    yield
    accelerate(False)


def batch(i, count=20):
    return nd.array(X[i, :count]), nd.array(Y[i, :count])


def make(name="lenet5_sigmoid_avgpool", hybridize=False):
    """A net whose rounding errors stay small, always with the same weights."""
    net = NETS[name]()
    net.initialize(mx.init.Xavier())
    shape = (1, 1, 32, 32) if "tanh" in name else (1, 1, 28, 28)
    net(nd.zeros(shape))
    rng = np.random.default_rng(1)
    for parameter in net.collect_params().values():
        scale = 0.3 if len(parameter.shape) == 1 else 1.5 / np.sqrt(np.prod(parameter.shape[1:]))
        if not isinstance(parameter, gluon.Constant):
            parameter.set_data(nd.array(rng.normal(0, scale, parameter.shape)))
    for layer in net:
        if isinstance(layer, nn.Dropout):
            layer._rate = 0  # MXNet would drop others
    if hybridize:
        net.hybridize()
    return net


def gradients(net):
    return [p.grad().asnumpy() for p in net.collect_params().values() if p.grad_req != "null"]


def weights(net):
    return [p.data().asnumpy() for p in net.collect_params().values()]


class Counter:
    """Counts the calls that the kernels serve."""

    def __init__(self, monkeypatch):
        self.forwards = self.backwards = 0
        forward, backward = NetFunction.forward, NetFunction.backward

        def counted_forward(*args, **kwargs):
            self.forwards += 1
            return forward(*args, **kwargs)

        def counted_backward(*args, **kwargs):
            self.backwards += 1
            return backward(*args, **kwargs)

        monkeypatch.setattr(NetFunction, "forward", counted_forward)
        monkeypatch.setattr(NetFunction, "backward", counted_backward)
        monkeypatch.setattr(accelerated, "CHECKS", 0)  # comparisons go through the kernels, too


@pytest.fixture
def counter(monkeypatch):
    return Counter(monkeypatch)


def same(loop, counter, served=True, close=CLOSE):
    """Run a loop, which returns arrays, by MXNet and accelerated: both give the same, and the kernels took part."""
    expected = loop()
    with accelerate():
        actual = loop()
    mx.nd.waitall()
    assert (counter.forwards > 0) == served
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        assert np.abs(ours - theirs).max() <= close * max(np.abs(theirs).max(), 1e-6)


def train(net, loss, trainer=None, steps=3, between=lambda step: None):
    """A plain loop: the outputs of each step, then the last gradients and all weights."""
    trainer = trainer or gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.5})
    outputs = []
    for step in range(steps):
        x, y = batch(step % 3)
        with autograd.record():
            y_hat = net(x)
            value = loss(y_hat, y)
        value.backward()
        between(step)
        trainer.step(len(x))
        outputs.append(y_hat.asnumpy())
    return [*outputs, *gradients(net), *weights(net)]


def smoothed(y_hat, y):
    target = nd.one_hot(y, 10) * 0.9 + 0.01
    return -(nd.log_softmax(y_hat) * target).sum(axis=1)


CROSS_ENTROPY = gluon.loss.SoftmaxCrossEntropyLoss()
LOSSES = {
    "cross-entropy": CROSS_ENTROPY,
    "its mean": lambda y_hat, y: CROSS_ENTROPY(y_hat, y).mean(),
    "scaled": lambda y_hat, y: CROSS_ENTROPY(y_hat, y) * 0.1,
    "L2": lambda y_hat, y: gluon.loss.L2Loss()(y_hat, nd.one_hot(y, 10)),
    "hinge": lambda y_hat, y: gluon.loss.HingeLoss()(y_hat, 2 * nd.one_hot(y, 10) - 1),
    "weighted": lambda y_hat, y: CROSS_ENTROPY(y_hat, y, nd.arange(20).reshape((20, 1))),
    "label smoothing": smoothed,
    "one logit": lambda y_hat, y: y_hat[:, 3] * 2,
    "with weight decay of its own": lambda y_hat, y: CROSS_ENTROPY(y_hat, y) + (y_hat**2).sum(axis=1) * 0.01,
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_losses(loss, counter):
    same(lambda: train(make(), loss), counter)
    assert counter.backwards == 3


@pytest.mark.parametrize("name", sorted(set(NETS) - {"lenet5_1998"}))
def test_nets(name, counter):
    def loop():
        net = make(name)
        x, y = batch(0)
        x = nd.contrib.BilinearResize2D(x, height=32, width=32) if "tanh" in name else x
        with autograd.record():
            value = CROSS_ENTROPY(net(x), y)
        value.backward()
        return [value.asnumpy(), *gradients(net)]

    same(loop, counter, close=5e-3 if "maxpool" in name else CLOSE)  # rounding decides which pixel is the largest


def test_lenet_5_of_1998_with_its_own_layers(counter):
    def loop():
        net = get_net("lenet5_1998")
        mx.random.seed(3)
        net.initialize(mx.init.Uniform(0.1), force_reinit=True)
        x = nd.array(np.random.default_rng(7).random((4, 1, 32, 32)))
        net(x)
        rng = np.random.default_rng(1)
        for parameter in net.collect_params().values():
            if parameter.grad_req != "null":
                parameter.set_data(nd.array(rng.normal(0, 0.1, parameter.shape)))
        x.attach_grad()
        with autograd.record():
            y_hat = net(x)
        y_hat.backward(nd.array(np.random.default_rng(2).normal(size=y_hat.shape)))
        return [y_hat.asnumpy(), x.grad.asnumpy(), *gradients(net)]

    expected = loop()
    with accelerate():
        actual = loop()
    assert counter.backwards == 1
    for ours, theirs in zip(actual, expected, strict=True):
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


def mlp(*hidden):
    net = nn.Sequential()
    net.add(*(nn.Dense(n, activation="tanh") for n in hidden), nn.Dense(10))
    net.initialize(mx.init.Xavier())
    net(nd.zeros((1, 1, 28, 28)))
    rng = np.random.default_rng(1)
    for parameter in net.collect_params().values():
        parameter.set_data(nd.array(rng.normal(0, 0.1, parameter.shape)))
    return net


@pytest.mark.parametrize("hidden", [(), (256,), (30, 20)], ids=["softmax regression", "MLP", "three layers"])
@pytest.mark.parametrize("shape", [(-1, 1, 28, 28), (-1, 784), (-1, 28, 28)], ids=["maps", "vectors", "pictures"])
def test_nets_without_a_convolution(hidden, shape, counter):
    def loop():
        net = mlp(*hidden)
        x, y = batch(0)
        with autograd.record():
            value = CROSS_ENTROPY(net(x.reshape(shape)), y)
        value.backward()
        return [value.asnumpy(), *gradients(net)]

    same(loop, counter)


@pytest.mark.parametrize("hybridize", [False, True])
def test_hybridized_nets(hybridize, counter):
    same(lambda: train(make(hybridize=hybridize), CROSS_ENTROPY), counter)


def test_several_forwards_before_one_backward(counter):
    def loop():
        net = make()
        (x, y), (x2, y2) = batch(0), batch(1, 7)
        with autograd.record():
            value = CROSS_ENTROPY(net(x), y).sum() + 3 * CROSS_ENTROPY(net(x2), y2).sum()
        value.backward()
        return [value.asnumpy(), *gradients(net)]

    same(loop, counter)
    assert (counter.forwards, counter.backwards) == (2, 2)


def test_backward_twice_with_retain_graph(counter):
    def loop():
        net = make()
        x, y = batch(0)
        with autograd.record():
            value = CROSS_ENTROPY(net(x), y)
        value.backward(retain_graph=True)
        first = gradients(net)
        value.backward()
        return first + gradients(net)

    same(loop, counter)
    assert (counter.forwards, counter.backwards) == (1, 2)


def test_a_forward_without_backward(counter):
    def loop():
        net = make()
        (x, y), (x2, _) = batch(0), batch(1)
        with autograd.record():
            value, unused = CROSS_ENTROPY(net(x), y), net(x2)
        value.backward()
        outside = net(x2)
        return [unused.asnumpy(), outside.asnumpy(), *gradients(net)]

    same(loop, counter)
    assert (counter.forwards, counter.backwards) == (3, 1)


@pytest.mark.parametrize("request_", ["write", "add"])
@pytest.mark.parametrize("frozen", [None, "conv0", "dense1"])
def test_grad_req_and_frozen_layers(request_, frozen, counter):
    def loop():
        net = make()
        net.collect_params().setattr("grad_req", request_)
        if frozen:
            number = {"conv0": 0, "dense1": -2}[frozen]
            list(net)[number].collect_params().setattr("grad_req", "null")
        net.collect_params().zero_grad()
        for i in range(2):
            x, y = batch(i)
            with autograd.record():
                value = CROSS_ENTROPY(net(x), y)
            value.backward()
        return gradients(net)

    same(loop, counter)


def test_adding_to_gradients_that_mxnet_has_written(counter):
    """oneDNN may leave a gradient in its own layout, to which the kernels must not add as if it were the usual one."""

    def loop():
        net = make()
        net.collect_params().setattr("grad_req", "add")
        net.collect_params().zero_grad()
        for i, size in enumerate((20, 20, 20)):
            x, y = batch(i, size)
            with autograd.record():
                y_hat = net(x) if i != 1 else list_of_layers(net, x)
                value = CROSS_ENTROPY(y_hat, y)
            value.backward()
        return gradients(net)

    same(loop, counter)


def list_of_layers(net, x):
    for layer in net:
        x = layer(x)
    return x


def test_layers_called_one_by_one_are_mxnets(counter):
    def loop():
        net = make()
        x, y = batch(0)
        with autograd.record():
            value = CROSS_ENTROPY(list_of_layers(net, x), y)
        value.backward()
        return gradients(net)

    same(loop, counter, served=False)


def test_layers_added_and_weights_set_between_steps(counter):
    def loop():
        net = make()
        trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})

        def change(step):
            if step == 0:
                net[0].weight.set_data(nd.ones((6, 1, 5, 5)) * 0.1)
            if step == 1:
                net[-1].bias.data()[:] = 0.5

        outputs = train(net, CROSS_ENTROPY, trainer, between=change)
        more = nn.Dense(10)
        more.initialize(mx.init.Constant(0.1))
        net.add(nn.Activation("tanh"), more)
        net(batch(0)[0])
        return outputs + train(net, CROSS_ENTROPY, steps=2)

    same(loop, counter, close=2e-4)  # the last gradients are sums that nearly cancel


def test_weights_that_change_between_forward_and_backward_change_nothing(counter):
    """MXNet would compute some of the gradients with the new weights, ours are those of the forward pass."""
    net = make()
    x, y = batch(0)

    def backward(change):
        with accelerate(), autograd.record():
            value = CROSS_ENTROPY(net(x), y)
        if change:
            net[-1].weight.set_data(nd.zeros((10, 84)))
        value.backward()
        return gradients(net)

    for first, second in zip(backward(False), backward(True), strict=True):
        np.testing.assert_array_equal(first, second)


OPTIMIZERS = ["sgd", "adam", "nag", "rmsprop", "adagrad", "adadelta", "adamax", "nadam", "ftrl", "signum", "lamb"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_trainers(optimizer, counter):
    def loop():
        net = make()
        more = {"momentum": 0.9} if optimizer in ("sgd", "nag", "signum") else {}
        trainer = gluon.Trainer(net.collect_params(), optimizer, {"learning_rate": 0.01, "wd": 0.001, **more})
        return train(net, CROSS_ENTROPY, trainer)

    # what divides by the root of squares makes much of a gradient that is nearly 0
    same(loop, counter, close=CLOSE if optimizer in ("sgd", "nag") else 2e-3)


def test_clipping(counter):
    def loop():
        net = make()
        trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.5, "clip_gradient": 0.01})

        def clip(step):
            gluon.utils.clip_global_norm([p.grad() for p in net.collect_params().values()], 0.5)

        return train(net, CROSS_ENTROPY, trainer, between=clip)

    same(loop, counter)


def test_allreduce_and_update_apart(counter):
    def loop():
        net = make()
        trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.01}, update_on_kvstore=False)
        for i in range(2):
            x, y = batch(i)
            with autograd.record():
                value = CROSS_ENTROPY(net(x), y)
            value.backward()
            trainer.allreduce_grads()
            trainer.update(20)
        return weights(net)

    same(loop, counter, close=2e-3)


def test_gradients_of_the_input(counter):
    def loop():
        net = make()
        x, y = batch(0, 9)
        x.attach_grad()
        with autograd.record():
            value = CROSS_ENTROPY(net(x * x), y)
        value.backward()
        return [x.grad.asnumpy(), *gradients(net)]

    same(loop, counter)
    assert counter.backwards == 1


def test_a_net_behind_a_net(counter):
    def loop():
        features, head = make(), nn.Sequential()
        head.add(nn.Dense(40, activation="tanh", in_units=10), nn.Dense(10, in_units=40))
        head.initialize(mx.init.Constant(0.1))
        for layer in head:  # not all alike: the classes' gradients add up to 0
            layer.weight.set_data(nd.array(np.random.default_rng(2).normal(size=layer.weight.shape)))
        x, y = batch(0)
        with autograd.record():
            value = CROSS_ENTROPY(head(features(x).tile((1, 2)).reshape((20, 2, 10))[:, 1]), y)
        value.backward()
        return [*gradients(features), *gradients(head)]

    same(loop, counter)


def test_gradients_by_autograd_grad(counter):
    def loop():
        net = make()
        x, y = batch(0)
        some = [list(net.collect_params().values())[i].data() for i in (0, 3)]
        with autograd.record():
            value = CROSS_ENTROPY(net(x), y)
        return [gradient.asnumpy() for gradient in autograd.grad(value, some)]

    same(loop, counter)


def test_gradients_of_gradients_are_an_error():
    """MXNet has none of its own for most layers; here it has none for any."""
    net = make()
    x, _ = batch(0)
    with accelerate(), autograd.record():
        (gradient,) = autograd.grad((net(x) ** 2).sum(), [net[-1].weight.data()], create_graph=True)
        value = (gradient**2).sum()
    with pytest.raises(mx.MXNetError, match="_backward_CustomFunction is non-differentiable"):
        value.backward()


def test_hooks_are_called(counter):
    def loop():
        net, calls = make(), []
        net[0].register_forward_hook(lambda block, inputs, output: calls.append(output.shape[0]))
        net.register_forward_pre_hook(lambda block, inputs: calls.append(-1))
        return [*train(net, CROSS_ENTROPY), np.array(calls)]

    same(loop, counter, served=False)


@pytest.mark.parametrize("mode", [autograd.train_mode, autograd.predict_mode])
def test_modes(mode, counter):
    def loop():
        net = make()
        x, y = batch(0)
        with autograd.record(), mode():
            value = CROSS_ENTROPY(net(x), y)
        value.backward()
        with mode():
            outside = net(x)
        return [outside.asnumpy(), *gradients(net)]

    same(loop, counter)


def test_record_in_predict_mode_and_pauses(counter):
    def loop():
        net = make()
        x, y = batch(0)
        with autograd.record(train_mode=False):
            with autograd.pause():
                still = net(x)
            value = CROSS_ENTROPY(net(x), y)
        value.backward(train_mode=False)
        return [still.asnumpy(), *gradients(net)]

    same(loop, counter)
    assert (counter.forwards, counter.backwards) == (2, 1)


def test_parameters_shared_by_two_nets(counter):
    def loop():
        net, twin = mlp(30), nn.Sequential()
        twin.add(nn.Dense(30, activation="sigmoid", params=net[0].params), nn.Dense(10, params=net[1].params))
        net.collect_params().setattr("grad_req", "add")
        net.collect_params().zero_grad()
        (x, y), (x2, y2) = batch(0), batch(1)
        with autograd.record():
            value = CROSS_ENTROPY(net(x), y) + CROSS_ENTROPY(twin(x2), y2)
        value.backward()
        return gradients(net)

    same(loop, counter)
    assert (counter.forwards, counter.backwards) == (2, 2)


@pytest.mark.parametrize("size", [1, 3, 16, 17])
def test_batch_sizes(size, counter):
    def loop():
        net = make()
        x, y = batch(0, size)
        with autograd.record():
            value = CROSS_ENTROPY(net(x), y)
        value.backward()
        return [value.asnumpy(), *gradients(net)]

    same(loop, counter)


def test_float64_is_mxnets(counter):
    def loop():
        net = make()
        net.cast("float64")
        x, y = batch(0)
        with autograd.record():
            value = CROSS_ENTROPY(net(x.astype("float64")), y.astype("float64"))
        value.backward()
        return [value.asnumpy(), *gradients(net)]

    same(loop, counter, served=False, close=0)


def test_float16_is_mxnets_and_fails_as_it_does(counter):
    net = mlp(20)
    net.cast("float16")
    for on in (False, True):
        with accelerate(on), pytest.raises(mx.MXNetError):
            net(batch(0)[0].astype("float16")).asnumpy()
    assert counter.forwards == 0


def test_several_contexts_are_mxnets(counter):
    def loop():
        net = make()
        net.collect_params().reset_ctx([mx.cpu(0), mx.cpu(1)])
        x, y = batch(0)
        values = []
        with autograd.record():
            for ctx in (mx.cpu(0), mx.cpu(1)):
                values.append(CROSS_ENTROPY(net(x.as_in_context(ctx)), y.as_in_context(ctx)))
        autograd.backward(values)
        return [p.list_grad()[1].asnumpy() for p in net.collect_params().values()]

    same(loop, counter, served=False)


def test_an_exception_between_forward_and_backward(counter):
    def broken(net):
        with autograd.record():
            value = net(batch(0)[0])
            raise KeyError(value)

    def loop():
        net = make()
        with pytest.raises(KeyError):
            broken(net)
        assert not autograd.is_recording()
        return train(net, CROSS_ENTROPY)

    same(loop, counter)


def test_threads(counter):
    """One net called by four threads at once, each of which records and goes back."""
    net = make()
    x, _ = batch(0)
    parameter = net[-1].weight.data()
    results = {}

    def work(i):
        for _ in range(5):
            with autograd.record():
                value = (net(x * (i + 1)) ** 2).sum()
            results[i] = autograd.grad(value, [parameter])[0].asnumpy()

    work(0)
    expected = {}
    for i in range(4):
        work(i)
        expected[i] = results[i]
    results.clear()
    with accelerate():
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counter.forwards == 20
    for i in range(4):
        assert np.abs(results[i] - expected[i]).max() <= CLOSE * np.abs(expected[i]).max()


def test_a_net_in_a_custom_function_is_mxnets(counter):
    """MXNet calls the backward pass of one from a thread of its own, which must not wait for MXNet."""

    def loop():
        net = mlp(20)

        class Checkpoint(autograd.Function):
            def forward(self, x):
                self.x = x
                return net(x)

            def backward(self, gradient):
                x = self.x.copy()
                x.attach_grad()
                with autograd.record():
                    y = net(x)
                y.backward(gradient)
                return x.grad

        x, _ = batch(0)
        x.attach_grad()
        with autograd.record():
            value = (Checkpoint()(x) ** 2).sum()
        value.backward()
        return [value.asnumpy(), x.grad.asnumpy()]

    same(loop, counter)
    assert (counter.forwards, counter.backwards) == (1, 0)


def test_a_net_of_ones_own_around_a_sequential(counter):
    class Own(nn.Block):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.body = make()

        def forward(self, x):
            return self.body(x) * 2

    def loop():
        return train(Own(), CROSS_ENTROPY)

    same(loop, counter)
    with accelerate(strict=True):
        train(Own(), CROSS_ENTROPY, steps=1)


# --- what is said -----------------------------------------------------------------------------------------------------


def test_strict_explain_and_log(caplog):
    caplog.set_level(logging.INFO, "gluon_lenet.accelerate")
    net, other = make(), nn.Sequential()
    other.add(nn.Conv2D(2, 7, strides=2), nn.Dense(10))
    other.initialize()
    x, _ = batch(0)
    assert "has not been called" in explain(net)
    with accelerate(strict=True):
        assert "has not been called yet" in explain(net)
        net(x)
        net(x)
        other(x)  # the call that finds out the shapes of its parameters
        with pytest.raises(InputError, match=r"has a stride or a dilation other than 1"):
            other(x)
        english, chinese = explain(net).splitlines()
        assert english.endswith("computed by the fused kernels, forward and backward, for images of shape (1, 28, 28).")
        assert "由融合内核计算" in chinese
        english, chinese = explain(other).splitlines()
        assert "is computed by MXNet: layer 0" in english
        assert "由 MXNet 计算，原因" in chinese
        CROSS_ENTROPY(net(x), batch(0)[1])  # a loss is no net
    other(x)
    said = [record.getMessage() for record in caplog.records]
    assert said.count(f"{net.name}: computed by the fused kernels") == 1
    assert len(said) == 3


def test_one_net_and_undoing(counter):
    net, other = make(), make()
    x, _ = batch(0)
    accelerate(net)
    net(x)
    other(x)
    assert counter.forwards == 1
    with accelerate():
        other(x)
        assert counter.forwards == 2
    other(x)
    net(x)
    assert counter.forwards == 3
    accelerate(False)
    net(x)
    assert counter.forwards == 3
    assert nn.Block.__call__ is accelerated._original
    with pytest.raises(InputError, match="takes a net, True or False, not 3"):
        accelerate(3)


@pytest.mark.parametrize("wrong", ["logits", "gradient"])
def test_a_difference_from_mxnet_leaves_the_net_to_it(wrong, monkeypatch):
    forward, backward = NetFunction.forward, NetFunction.backward
    if wrong == "logits":
        monkeypatch.setattr(NetFunction, "forward", lambda *args: forward(*args) * np.float32(1.01))
    else:

        def half(*args, **kwargs):
            flat, images = backward(*args, **kwargs)
            flat[-10:] *= 0.5
            return flat, images

        monkeypatch.setattr(NetFunction, "backward", half)
    net = make()
    expected = train(net, CROSS_ENTROPY, steps=1)
    net = make()
    accelerate()
    with pytest.warns(UserWarning, match="is left to MXNet: the kernels' result differs from MXNet's"):
        actual = train(net, CROSS_ENTROPY, steps=1)
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert "differs from MXNet's" in explain(net)


def test_the_check_accepts_every_net_of_the_zoo():
    with warnings.catch_warnings(), accelerate(strict=True):
        warnings.simplefilter("error")
        for name in NETS:
            net = get_net(name)
            net.initialize(mx.init.Xavier())
            shape = (8, 1, 32, 32) if any(part in name for part in ("tanh", "1998")) else (8, 1, 28, 28)
            x = nd.array(np.random.default_rng(0).random(shape))
            with accelerate(False):
                net(x)
            accelerate(strict=True)
            with autograd.record():
                net(x)


def test_nets_can_be_copied_and_are_freed():
    accelerate()
    net = make()
    x, _ = batch(0)
    first = net(x).asnumpy()
    np.testing.assert_array_equal(copy.deepcopy(net)(x).asnumpy(), first)
    with autograd.record():
        value = net(x).sum()
    value.backward()
    alive = weakref.ref(net)
    del net, value
    assert_forgotten()
    gc.collect()
    assert alive() is None


def assert_forgotten(but=0):
    """MXNet deletes nodes in a thread of its own, some time after it has computed them."""
    mx.nd.waitall()
    deadline = time.monotonic() + 60
    while recorded.forget() or len(recorded._nodes) > but:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_graph_is_freed_with_its_arrays():
    net = make()
    x, y = batch(0)
    with accelerate():
        for _ in range(20):
            with autograd.record():
                value = CROSS_ENTROPY(net(x), y)
            value.backward()
        assert_forgotten(1)  # but the last one, whose array has a name here
        with autograd.record():
            value = net(x)  # no backward pass ever
    del value
    assert_forgotten()


def test_copies_after_a_trainers_step():
    net = make()
    with accelerate():
        train(net, CROSS_ENTROPY)
        twin = copy.deepcopy(net)
        trainer = copy.deepcopy(net[0].weight._trainer)
        assert pickle.loads(pickle.dumps(trainer._updaters[0])).optimizer.lr == 0.5
        for parameter, other in zip(net.collect_params().values(), twin.collect_params().values(), strict=True):
            np.testing.assert_array_equal(parameter.data().asnumpy(), other.data().asnumpy())


@pytest.mark.parametrize("wrong", ["float64", "one number", "transposed", "flat"])
def test_a_gradient_of_another_kind_is_an_error_as_in_mxnet(wrong, caplog):
    kinds = {
        "float64": nd.ones((20, 10), dtype="float64"),
        "one number": nd.ones((1,)),
        "transposed": nd.ones((10, 20)),
        "flat": nd.ones((200,)),
    }
    for on in (False, True):
        net = make()
        with accelerate(on), autograd.record():
            y_hat = net(batch(0)[0])
        with pytest.raises(mx.MXNetError):  # noqa: PT012  # some are raised only when they are waited for
            y_hat.backward(kinds[wrong])
            mx.nd.waitall()
            net[0].weight.grad().asnumpy()
    if wrong != "flat":
        assert "a gradient must be float32 (20, 10)" in caplog.text or "float64" not in wrong


def test_maps_instead_of_logits_are_mxnets(counter):
    def loop():
        net = nn.Sequential()
        net.add(nn.Conv2D(4, 5, activation="tanh"), nn.AvgPool2D(2, 2), nn.Conv2D(10, 12))
        mx.random.seed(1)
        net.initialize(mx.init.Xavier(), force_reinit=True)
        net(batch(0)[0])
        with autograd.record():
            y_hat = net(batch(0)[0])
            value = y_hat.sum()
        value.backward()
        return [y_hat.asnumpy(), *gradients(net)]

    same(loop, counter, served=False, close=0)


def test_another_current_context(counter):
    def loop():
        net = make()
        x, y = batch(0)
        with mx.cpu(1), autograd.record():
            y_hat = net(x)
            assert y_hat.context == mx.cpu(0)
        CROSS_ENTROPY(y_hat, y)
        y_hat.backward()
        return [y_hat.asnumpy(), *gradients(net)]

    same(loop, counter)


def test_many_nets_are_all_remembered(counter):
    nets = [mlp(5) for _ in range(12)]
    x, _ = batch(0)
    made = []
    read = accelerated._read
    with pytest.MonkeyPatch.context() as patch, accelerate():
        patch.setattr(accelerated, "_read", lambda *args: made.append(1) or read(*args))
        for _ in range(3):
            for net in nets:
                net(x)
    assert (len(made), counter.forwards) == (12, 36)


def test_a_refusal_is_remembered_until_the_net_changes():
    net = nn.Sequential()
    net.add(nn.Conv2D(2, 7, strides=2, in_channels=1), nn.Dense(10, in_units=2 * 11 * 11))
    net.initialize()
    x, read = batch(0)[0], accelerated._read
    made = []
    with pytest.MonkeyPatch.context() as patch, accelerate():
        patch.setattr(accelerated, "_read", lambda *args: made.append(1) or read(*args))
        for _ in range(3):
            net(x)
        assert len(made) == 1
        net._children["0"] = nn.Conv2D(2, 5, in_channels=1, padding=3)  # 30 - 4 + ... another size: MXNet complains
        net[0].initialize()
        with pytest.raises(mx.MXNetError):
            net(x).asnumpy()
        assert len(made) == 2


def test_saturated_and_infinite_nets_raise_no_false_alarm():
    net = make()
    x = batch(0)[0].copy()
    with warnings.catch_warnings(), accelerate():
        warnings.simplefilter("error")
        net(x * 1e20)
        net(x * 255)
        x[0, 0, 3, 3] = np.inf
        net(x)


def test_fork_right_after_backward():
    code = (
        "import gluon_lenet, os, mxnet as mx\nfrom mxnet import autograd, nd\n"
        "gluon_lenet.accelerate()\nnet = gluon_lenet.lenet()\nnet.initialize()\n"
        "x = nd.random.uniform(shape=(256, 1, 28, 28))\nnet(x)\n"
        "for _ in range(5):\n"
        "    with autograd.record():\n        y = net(x).sum()\n"
        "    y.backward()\n"
        "    pid = os.fork()\n    pid or os._exit(0)\n    os.waitpid(pid, 0)\n"
        "print('done')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "done\n", done.stderr


def test_a_script_may_end_right_after_backward():
    """While Python ends, a thread of MXNet's cannot run Python any more."""
    code = (
        "import gluon_lenet\nfrom mxnet import autograd, nd\ngluon_lenet.accelerate()\n"
        "net = gluon_lenet.lenet()\nnet.initialize()\nx = nd.random.uniform(shape=(2000, 1, 28, 28))\nnet(x)\n"
        "for _ in range(3):\n    with autograd.record():\n        y = net(x).sum()\n    y.backward()\n"
        "raise SystemExit(7)\n"
    )
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 7


def test_contexts_may_end_in_any_order(counter):
    net, other = make(), make()
    x, _ = batch(0)
    first, second = accelerate(), accelerate(net, strict=True)
    first.__exit__(None, None, None)
    net(x)
    other(x)
    assert counter.forwards == 1
    second.__exit__(None, None, None)
    net(x)
    assert counter.forwards == 1
    assert nn.Block.__call__ is accelerated._original


def test_strict_is_that_of_each_call():
    other = nn.Sequential()
    other.add(nn.Conv2D(2, 7, strides=2, in_channels=1), nn.Dense(10, in_units=2 * 11 * 11))
    other.initialize()
    with accelerate(strict=True), accelerate(make()), pytest.raises(InputError, match="stride"):
        other(batch(0)[0])


def test_a_call_that_somebody_else_has_replaced(monkeypatch):
    original = nn.Block.__call__
    monkeypatch.setattr(nn.Block, "__call__", lambda self, *args: original(self, *args))
    with pytest.warns(UserWarning, match=r"Block.__call__ was replaced before: no net is accelerated"):
        accelerate()
    assert "was replaced before" in explain(make())


def test_functions_are_public():
    assert gluon_lenet.accelerate is accelerate
    assert gluon_lenet.explain is explain
    code = "import gluon_lenet.accelerate, gluon_lenet; gluon_lenet.accelerate(); print(gluon_lenet.accelerate(False))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Acceleration" in done.stdout


SCRIPT = """
import sys
from mxnet import autograd, gluon, init, nd
from mxnet.gluon import nn
net = nn.Sequential()
net.add(nn.Conv2D(6, 5, activation="sigmoid"), nn.MaxPool2D(2, 2), nn.Dense(10))
net.initialize(init.Xavier())
x = nd.random.uniform(shape=(32, 1, 28, 28))
net(x)
with autograd.record():
    y = net(x).sum()
y.backward()
print(sys.argv[1:], y.shape, __name__)
if len(sys.argv) > 2:
    sys.exit(7)
"""


def test_the_command(tmp_path, run_module):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = run_module("accelerate", "--verbose", script, "--epochs")
    assert (done.returncode, done.stdout) == (0, "['--epochs'] (1,) __main__\n"), done.stderr
    assert "computed by the fused kernels" in done.stderr
    assert run_module("accelerate", script, "--seed", "3").returncode == 7


def test_the_command_runs_a_script_as_python_does(tmp_path, run_module):
    script = tmp_path / "script.py"
    script.write_text(
        "import gc, os, sys\nprint(sys.argv[1:], os.path.isabs(__file__), __package__, gc.get_threshold()[0] < 10000)\n"
        "import __main__\nassert __main__.__file__ == __file__\nopen('/nonexistent/x')\n"
    )
    done = run_module("accelerate", script, "--", "--v", "")
    assert done.stdout == "['--', '--v', ''] True None True\n"
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "FileNotFoundError" in done.stderr


def test_the_commands_own_errors_are_one_line(tmp_path, run_module):
    for arguments, message in [
        ([tmp_path / "none.py"], f"error: script {tmp_path / 'none.py'} does not exist\n"),
        ([tmp_path], f"error: script {tmp_path} is not a file\n"),
        ([], "error: the following arguments are required: SCRIPT (see python -m gluon_lenet.accelerate --help)\n"),
    ]:
        done = run_module("accelerate", *arguments)
        assert (done.returncode, done.stderr) == (2, message)
