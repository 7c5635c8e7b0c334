"""Nets, loaders and transforms that do not do what their types suggest: MXNet computes them, or they are rejected."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from types import MethodType

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

from conftest import module_env
from gluon_lenet.data.batches import Batches
from gluon_lenet.data.transforms import Transform
from gluon_lenet.engines.autograd import Autograd
from gluon_lenet.engines.choice import choose
from gluon_lenet.engines.fused.engine import Fused
from gluon_lenet.engines.fused.net import FusedNet, Unsupported
from gluon_lenet.errors import InputError
from gluon_lenet.nets.losses import MAPLoss, SmoothedCrossEntropy
from gluon_lenet.nets.zoo import get_net, lenet
from gluon_lenet.training.chapter import evaluate_accuracy, train_ch5

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (96, 28, 28), np.uint8), RNG.integers(0, 10, 96)
SHAPE = (1, 28, 28)


def batches(**kwargs):
    return Batches(IMAGES, LABELS, 32, **kwargs)


def small(container=nn.Sequential, *last):
    """Two dense layers, initialized; the kernels serve it."""
    net = container()
    net.add(nn.Dense(16, activation="relu", in_units=784), *last, nn.Dense(10, in_units=16))
    return ready(net)


def ready(net):
    mx.random.seed(0)
    net.initialize(mx.init.Xavier(), force_reinit=True)
    return net


def plain(net, X, y):
    """Loss sum and gradients by MXNet."""
    with autograd.record():
        loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(X), y).sum()
    loss.backward()
    return loss.asscalar(), gradients(net)


def gradients(net):
    return {k: p.grad().asnumpy() for k, p in net._collect_params_with_prefix().items() if p.grad_req != "null"}


def same_as_mxnet(net, engine, data_iter=None):
    """Assert that loss and gradients of a batch are those of MXNet."""
    data_iter = data_iter or batches()
    batch = next(engine.batches(data_iter))
    X, y = batch.arrays() if hasattr(batch, "arrays") else batch
    loss, expected = plain(net, X, y)
    for param in net.collect_params().values():
        if param.grad_req != "null":
            param.grad()[:] = np.nan
    assert engine.backprop(batch).wait().totals.loss_sum == pytest.approx(loss, rel=1e-5)
    for name, gradient in gradients(net).items():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(gradient, expected[name], atol=1e-5 * scale, err_msg=name)


def shared_parameters():
    net, first = nn.Sequential(), nn.Dense(16, in_units=16)
    net.add(nn.Dense(16), first, nn.Dense(16, in_units=16, params=first.params), nn.Dense(10))
    return ready(net)


def one_layer_twice():
    net, twice = nn.HybridSequential(), nn.Dense(16, in_units=16, activation="sigmoid")
    net.add(nn.Dense(16), twice, twice, nn.Dense(10))
    return ready(net)


def shared_memory():
    net = nn.Sequential()
    net.add(nn.Dense(10, in_units=784), nn.Dense(10, in_units=10), nn.Dense(10, in_units=10))
    ready(net)
    net[2].weight._data, net[2].weight._grad = net[1].weight._data, net[1].weight._grad
    return net


class Backwards(nn.Sequential):
    """Halves the output of every child but the last."""

    def forward(self, x):
        for block in list(self._children.values())[:-1]:
            x = block(x) / 2
        return self[len(self) - 1](x)


class Doubled(nn.Dense):
    def hybrid_forward(self, F, x, weight, bias=None):
        return super().hybrid_forward(F, x, weight, bias) * 2


def forward_replaced():
    net = small()
    net.forward = MethodType(lambda self, x: self[1](self[0](x) * 3), net)
    return net


def layer_forward_replaced():
    net = small()
    dense = type(net[0]).hybrid_forward
    net[0].hybrid_forward = lambda F, x, weight, bias: dense(net[0], F, x * 2, weight, bias)
    return net


def other_activation():
    class Cubed(nn.Activation):
        def hybrid_forward(self, F, x):
            return x * x * x

    net = small()
    net[0].act = Cubed("relu")
    return net


def attached_gradient():
    net = small()
    net[0].weight.data().attach_grad()
    return net


def optimized_past_gluon():
    """Hybridized, and then changed where MXNet's cached graph does not see it."""
    net = small(nn.HybridSequential)
    net.hybridize()
    net(nd.zeros((1, *SHAPE)))
    net[0].act._act_type = "sigmoid"
    return net


def pooling_of_another_type():
    net = nn.Sequential()
    net.add(nn.Conv2D(4, 5), nn.MaxPool2D(), nn.Dense(10))
    net[1]._kwargs["pool_type"] = "avg"
    return ready(net)


def convolution_flattened_before_pooling():
    net = nn.Sequential()
    net.add(nn.Conv2D(4, 5), nn.Flatten(), nn.Dense(10, flatten=False))
    return ready(net)


NETS = {
    make.__name__: make
    for make in (
        shared_parameters,
        one_layer_twice,
        shared_memory,
        forward_replaced,
        layer_forward_replaced,
        other_activation,
        attached_gradient,
        optimized_past_gluon,
        pooling_of_another_type,
        convolution_flattened_before_pooling,
    )
} | {
    "own_forward": lambda: small(Backwards),
    "own_hybrid_forward": lambda: small(nn.Sequential, Doubled(16, in_units=16)),
}


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_what_the_kernels_would_misread_is_left_to_mxnet(make):
    net = make()
    engine = choose(net, [mx.cpu()], batches())
    assert isinstance(engine, Autograd), "served by the kernels"
    assert engine.why
    with pytest.raises(InputError, match="the fused kernels cannot serve"):
        choose(make(), [mx.cpu()], batches(), "fused")


def test_a_net_of_its_own_forward_is_scored_by_that():
    """The new `forward` is wrong by one class for every image; the kernels used to ignore it."""
    net = small()
    data_iter = Batches(IMAGES, net(next(iter(Batches(IMAGES, LABELS, 96)))[0]).asnumpy().argmax(axis=1), 32)
    assert evaluate_accuracy(data_iter, net) == 1
    sequential = net.forward
    net.forward = lambda x: nd.concat(sequential(x)[:, 1:], sequential(x)[:, :1], dim=1)
    assert evaluate_accuracy(data_iter, net) == 0


@pytest.mark.parametrize("kind", ["register_forward_pre_hook", "register_forward_hook"])
@pytest.mark.parametrize("where", ["net", "layer", "activation"])
def test_hooks_are_called(kind, where):
    net, called = small(), []
    block = {"net": net, "layer": net[1], "activation": net[0].act}[where]
    getattr(block, kind)(lambda *args: called.append(args))
    evaluate_accuracy(batches(), net)
    assert len(called) == 3


# --- loaders and transforms -------------------------------------------------------------------------------------------


class Inverted(Batches):
    def __iter__(self):
        return ((1 - X, y) for X, y in super().__iter__())


class Darker(Transform):
    def __call__(self, images, ctx=None):
        return super().__call__(images // 2, ctx)


def own_parts():
    data_iter = batches()
    data_iter.parts = lambda: (part._replace(images=255 - part.images) for part in Batches.parts(data_iter))
    return data_iter


LOADERS = {
    "own_iteration": lambda: Inverted(IMAGES, LABELS, 32),
    "own_transform": lambda: batches(transform=Darker()),
    "parts_replaced": own_parts,
    "a_list": lambda: list(batches()),
    "data_loader": lambda: gluon.data.DataLoader(
        gluon.data.ArrayDataset(IMAGES[:, None].astype(np.float32) / 255, LABELS.astype(np.int32)), 32
    ),
}


@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
def test_loaders_of_their_own_are_left_to_mxnet(make):
    net = small()
    assert isinstance(choose(net, [mx.cpu()], make()), Autograd)
    correct = sum(float((net(X).argmax(axis=1) == y.astype("float32")).sum().asscalar()) for X, y in make())
    assert evaluate_accuracy(make(), net) == correct / 96


@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
def test_training_by_the_kernels_and_testing_by_another_loader(make):
    """A list as test data caused an AttributeError after a whole epoch."""
    net = small()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    with pytest.warns(UserWarning, match="computed by MXNet's autograd"):
        (result,) = train_ch5(net, batches(), make(), 32, trainer, mx.cpu(), 1)
    assert result.test_acc == evaluate_accuracy(make(), net)


def test_a_class_whose_method_was_replaced(monkeypatch):
    net = small()
    engine = choose(net, [mx.cpu()], batches())
    monkeypatch.setattr(
        nn.Dense, "hybrid_forward", lambda self, F, x, weight, bias: F.dot(F.flatten(x), weight.T) - bias
    )
    assert isinstance(choose(net, [mx.cpu()], batches()), Autograd)
    with pytest.warns(UserWarning, match="Dense.hybrid_forward was replaced"):
        same_as_mxnet(net, engine)
    monkeypatch.undo()
    same_as_mxnet(net, engine)


def test_numpy_mode_is_left_to_mxnet():
    with mx.util.np_array(True):
        assert "NumPy mode" in choose(small(), [mx.cpu()], batches()).why
    engine = choose(small(), [mx.cpu()], batches())
    with mx.util.np_array(True), pytest.warns(UserWarning, match="NumPy mode"), pytest.raises(TypeError):
        engine.evaluate(batches())  # MXNet's own layers raise TypeError in this mode


def test_an_operation_of_mxnet_that_was_replaced(monkeypatch):
    net = small()
    engine = choose(net, [mx.cpu()], batches())
    relu = nd.Activation
    monkeypatch.setattr(nd, "Activation", lambda *args, **kwargs: relu(*args, **kwargs) * 2)
    with pytest.warns(UserWarning, match=r"ndarray.Activation was replaced"):
        same_as_mxnet(net, engine)


@pytest.mark.parametrize("of_class", [False, True])
def test_a_parameter_whose_method_was_replaced_later(of_class, monkeypatch):
    net = small()
    engine = choose(net, [mx.cpu()], batches())
    weight, data = net[1].weight, gluon.Parameter.data
    double = lambda self, ctx=None: data(self, ctx) * (2 if self is weight else 1)  # noqa: E731
    monkeypatch.setattr(
        *((gluon.Parameter, "data", double) if of_class else (weight, "data", MethodType(double, weight)))
    )
    expected = Autograd(net, [mx.cpu()]).evaluate(batches())
    with pytest.warns(UserWarning, match="data"):
        assert engine.evaluate(batches()) == expected


# --- losses -----------------------------------------------------------------------------------------------------------


class Smoothed(gluon.loss.SoftmaxCrossEntropyLoss):
    def hybrid_forward(self, F, pred, label, sample_weight=None):
        return 0.9 * super().hybrid_forward(F, pred, label, sample_weight) - 0.01 * F.log_softmax(pred).sum(axis=1)


def loss_with(name):
    def make():
        loss = gluon.loss.SoftmaxCrossEntropyLoss()
        method = getattr(loss, name)
        setattr(loss, name, lambda *args, **kwargs: 3 * method(*args, **kwargs))
        return loss

    return make


def hooked(loss):
    loss.register_forward_hook(lambda *args: None)
    return loss


LOSSES = {
    "a subclass": Smoothed,
    "its own forward": loss_with("forward"),
    "its own hybrid_forward": loss_with("hybrid_forward"),
    "a batch axis": lambda: gluon.loss.SoftmaxCrossEntropyLoss(batch_axis=1),
    "a weight": lambda: gluon.loss.SoftmaxCrossEntropyLoss(weight=2.0),
    "labels of one number a class": lambda: gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False),
    "a hook": lambda: hooked(gluon.loss.SoftmaxCrossEntropyLoss()),
    "MAPLoss with its own forward": lambda: setattr_(MAPLoss(), "forward", lambda pred, label: pred.sum(axis=1)),
    "a smoothing above 1": lambda: SmoothedCrossEntropy(1.5),
    "another loss": gluon.loss.L2Loss,
}


def setattr_(thing, name, value):
    setattr(thing, name, value)
    return thing


@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
def test_a_loss_that_the_kernels_would_misread_is_left_to_mxnet(make):
    engine = choose(small(), [mx.cpu()], batches(), loss=make())
    assert isinstance(engine, Autograd), "served by the kernels"
    with pytest.raises(InputError, match="the fused kernels cannot serve"):
        choose(small(), [mx.cpu()], batches(), "fused", make())


LOSS_CHANGES = {
    "a weight": (gluon.loss.SoftmaxCrossEntropyLoss, lambda loss: setattr(loss, "_weight", 5.0), True),
    "its own forward": (
        gluon.loss.SoftmaxCrossEntropyLoss,
        lambda loss: setattr(loss, "hybrid_forward", lambda F, pred, label: pred.sum(axis=1)),
        True,
    ),
    "another j": (MAPLoss, lambda loss: setattr(loss, "j", 3.0), False),
    "another smoothing": (SmoothedCrossEntropy, lambda loss: setattr(loss, "smoothing", 0.5), False),
}


@pytest.mark.parametrize(("make", "change", "leaves"), LOSS_CHANGES.values(), ids=LOSS_CHANGES)
@pytest.mark.parametrize("hybridized", [False, True])
def test_an_engine_follows_its_loss(make, change, leaves, hybridized):
    net, loss = small(), make()
    net[1].weight.set_data(net[1].weight.data() * 0.1)  # small, because MAPLoss expects penalties of at least 0
    if hybridized:
        loss.hybridize()
    engine, data_iter = choose(net, [mx.cpu()], batches(), loss=loss), batches()
    before = Autograd(net, [mx.cpu()], loss).evaluate(data_iter)
    assert engine.evaluate(data_iter)[0] == pytest.approx(before[0], rel=1e-5)
    assert isinstance(engine, Fused)
    change(loss)
    expected = Autograd(net, [mx.cpu()], loss).evaluate(data_iter)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = engine.evaluate(data_iter)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert (expected[0] == before[0]) == hybridized, "MXNet continues with its cached graph"
    assert [str(warning.message) for warning in caught if "not the fused kernels" in str(warning.message)] or not (
        leaves or hybridized
    )


def test_the_default_loss_whose_method_was_replaced(monkeypatch):
    """train_ch5 uses this loss, whose class a student's code may have changed."""
    net = small()
    engine = choose(net, [mx.cpu()], batches())
    plain_loss = gluon.loss.SoftmaxCrossEntropyLoss.hybrid_forward
    monkeypatch.setattr(
        gluon.loss.SoftmaxCrossEntropyLoss, "hybrid_forward", lambda *args, **kwargs: 2 * plain_loss(*args, **kwargs)
    )
    assert isinstance(choose(net, [mx.cpu()], batches()), Autograd)
    with pytest.warns(UserWarning, match=r"SoftmaxCrossEntropyLoss.hybrid_forward was replaced"):
        same_as_mxnet(net, engine)


# --- weights ----------------------------------------------------------------------------------------------------------


def test_a_gradient_attached_past_the_parameter_is_found_before_the_next_pass():
    net = small()
    engine = choose(net, [mx.cpu()], batches())
    same_as_mxnet(net, engine)
    net[0].weight.data().attach_grad()
    with pytest.warns(UserWarning, match="attach_grad"):
        engine.evaluate(batches())


@pytest.mark.parametrize("mode", ["autograd", "fused"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("place", [(0, "bias"), (1, "weight")])
def test_a_net_that_diverged_has_no_accuracy(mode, number, place):
    """ReLU and max pooling hide a NaN, in one engine and not in the other."""
    net = small()
    layer, name = place
    getattr(net[layer], name).data()[0] = number
    with pytest.raises(InputError, match=f"{getattr(net[layer], name).name} is NaN or infinite somewhere"):
        choose(net, [mx.cpu()], batches(), mode).evaluate(batches())


# --- processes --------------------------------------------------------------------------------------------------------


def test_a_forked_process_computes_the_same():
    """OpenMP's threads do not survive a fork: waiting for them would hang."""
    code = (
        "import os, signal, gluon_lenet, mxnet as mx, numpy as np\n"
        "from gluon_lenet.engines.fused.net import FusedNet\n"
        "mx.random.seed(0); net = gluon_lenet.lenet(); net.initialize(mx.init.Xavier())\n"
        "fused, rows = FusedNet(net, threads=2), np.arange(64)\n"
        "images = np.random.default_rng(0).integers(0, 256, (64, 28, 28), np.uint8)\n"
        "before = fused.backprop(images, rows, rows % 10)\n"
        "if os.fork() == 0:\n"
        "    signal.alarm(60)\n"
        "    os._exit(fused.backprop(images, rows, rows % 10) != before)\n"
        "assert os.wait()[1] == 0\n"
        "assert fused.backprop(images, rows, rows % 10) == before\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], env=module_env(), capture_output=True, text=True, timeout=150
    )
    assert process.returncode == 0, process.stderr


# --- nets that change -------------------------------------------------------------------------------------------------


def add_a_layer(net):
    last = nn.Dense(10, in_units=10)
    last.initialize()
    net.add(last)


def replace_a_child(net):
    new = nn.Dense(16, in_units=784, activation="tanh")
    new.initialize()
    net._children["0"] = new


def replace_the_activation(net):
    net[0].act = nn.Activation("sigmoid")


def exchange_children(net):
    """The new layer goes before the last one."""
    new = nn.Dense(16, in_units=16, activation="tanh")
    new.initialize()
    net.add(new)
    net._children.move_to_end("1")


CHANGES = {
    "add a layer": add_a_layer,
    "replace a child": replace_a_child,
    "replace the activation": replace_the_activation,
    "exchange children": exchange_children,
    "another activation": lambda net: setattr(net[0].act, "_act_type", "tanh"),
    "no activation": lambda net: vars(net[0]).update(act=None),
    "freeze": lambda net: net[0].collect_params().setattr("grad_req", "null"),
    "new weights": lambda net: net.initialize(mx.init.Normal(0.1), force_reinit=True),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_engine_follows_its_net(change):
    """If the kernels still serve the net after the change, they compute the changed net without a warning."""
    net = small()
    engine = Fused(net, SHAPE)
    same_as_mxnet(net, engine)
    change(net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same_as_mxnet(net, engine)


def add_leaky_relu(net):
    net.add(nn.LeakyReLU(0.1), nn.Dense(10))
    net.initialize(force_reinit=True)


LEAVE = {
    "leaky ReLU": add_leaky_relu,
    "own forward": lambda net: setattr(net, "forward", MethodType(lambda self, x: self[1](self[0](x)) * 2, net)),
    "accumulate": lambda net: net.collect_params().setattr("grad_req", "add"),
    "hook": lambda net: net[0].register_forward_hook(lambda *args: None),
}


@pytest.mark.parametrize("name", LEAVE)
def test_an_engine_leaves_to_mxnet_what_its_net_became(name):
    net = small()
    engine = Fused(net, SHAPE)
    LEAVE[name](net)
    for param in net.collect_params().values():
        param.zero_grad()
    batch = next(Fused(small(), SHAPE).batches(batches()))
    with pytest.warns(UserWarning, match="computed by MXNet's autograd from here on"):
        loss = engine.backprop(batch).wait().totals.loss_sum
    found = gradients(net)
    for param in net.collect_params().values():
        param.zero_grad()
    expected_loss, expected = plain(net, *batch.arrays())
    assert loss == pytest.approx(expected_loss)
    for key in expected:
        np.testing.assert_array_equal(found[key], expected[key])
    with pytest.raises(InputError, match="the fused kernels cannot serve"):
        insisting(net).evaluate(batches())


def insisting(net):
    """An engine that was made for another net, and must not fall back on MXNet."""
    engine = Fused(small(), SHAPE, insist=True)
    engine.fused.net = net
    engine.fused._program = None
    return engine


def test_a_fused_net_refuses_what_it_became_and_serves_it_again_when_undone():
    net = small()
    fused = FusedNet(net, SHAPE)
    before = fused.forward(IMAGES)
    hook = net[0].register_forward_hook(lambda *args: None)
    for _ in range(2):
        with pytest.raises(Unsupported, match="it has a forward hook"):
            fused.forward(IMAGES)
    hook.detach()
    np.testing.assert_array_equal(fused.forward(IMAGES), before)


def test_one_plan_in_two_threads():
    """Before calls were serialized, they gave wrong sums or read rows out of range."""
    fused = FusedNet(ready(lenet()), SHAPE, threads=2)
    parts = [np.arange(0, 48), np.arange(48, 96)]
    expected = [fused.evaluate(IMAGES, rows, LABELS) for rows in parts]
    wrong = []

    def work(k):
        for _ in range(200):
            found = fused.evaluate(IMAGES, parts[k], LABELS)
            if found != expected[k]:
                wrong.append(found)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


# --- optimizers -------------------------------------------------------------------------------------------------------


def own_step(optimizer):
    step = optimizer.update_multi_precision
    optimizer.update_multi_precision = lambda index, weight, grad, state: step(index, weight, [-g for g in grad], state)


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_optimizer_of_its_own_step_takes_that(when):
    """The optimizer is changed to step uphill, before the first step or after it."""
    weights = []
    for mode in ("autograd", "fused"):
        net = small()
        trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1}, update_on_kvstore=False)
        engine = choose(net, [mx.cpu()], batches(), mode)
        engine.adopt(trainer)
        for step in ("before", "after"):
            if step == when:
                own_step(trainer._optimizer)
            engine.step(next(engine.batches(batches())), trainer, 32)
        weights.append(net[0].weight.data().asnumpy())
    np.testing.assert_allclose(*weights, atol=1e-6)


def test_an_updater_whose_method_was_replaced(monkeypatch):
    net = small()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1}, update_on_kvstore=False)
    engine, before = choose(net, [mx.cpu()], batches()), net[0].weight.data().asnumpy()
    monkeypatch.setattr(mx.optimizer.Updater, "__call__", lambda self, index, grad, weight: None)
    engine.adopt(trainer)
    engine.step(next(engine.batches(batches())), trainer, 32)
    np.testing.assert_array_equal(net[0].weight.data().asnumpy(), before)


def test_adams_schedule_counts_parameter_by_parameter():
    """A layer that was frozen for a while gets the previous update's rate: MXNet reads the rate, then counts."""
    weights = []
    for mode in ("autograd", "fused"):
        net = small()
        schedule = mx.lr_scheduler.FactorScheduler(step=1, factor=0.5, base_lr=0.01)
        settings = {"learning_rate": 0.01, "lr_scheduler": schedule}
        trainer = gluon.Trainer(net.collect_params(), "adam", settings, update_on_kvstore=False)
        engine = choose(net, [mx.cpu()], batches(), mode)
        engine.adopt(trainer)
        for grad_req in ("null", "write"):
            net[0].collect_params().setattr("grad_req", grad_req)
            for batch in engine.batches(batches()):
                engine.step(batch, trainer, 32)
        weights.append(net[0].weight.data().asnumpy())
    np.testing.assert_allclose(*weights, atol=1e-4)  # the difference was 0.01 before this was handled


# --- same input, same verdict -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["autograd", "fused"])
@pytest.mark.parametrize("label", [10, 2**31 - 1])
def test_labels_that_are_no_class_are_refused_by_both(mode, label):
    labels = LABELS.copy()
    labels[5] = label
    data_iter = Batches(IMAGES, labels, 32)
    net = get_net("lenet5_sigmoid_maxpool")
    ready(net)
    engine = choose(net, [mx.cpu()], batches(), mode)
    with pytest.raises(InputError, match=f"label {label} is not a class; labels must be whole numbers from 0 to 9"):
        engine.backprop(next(iter(engine.batches(data_iter))))
    with pytest.raises(InputError, match=f"label {label} is not a class"):
        engine.evaluate(data_iter)


@pytest.mark.parametrize("mode", ["autograd", "auto"])
def test_a_bias_whose_gradient_mxnet_does_not_compute(mode):
    """MXNet would train it with uninitialized gradients."""
    net = small()
    net[1].weight.grad_req = "null"
    engine = choose(net, [mx.cpu()], batches(), mode)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match=f"{net[1].bias.name} is trained and {net[1].weight.name} is frozen"):
            engine.backprop(next(iter(engine.batches(batches()))))
    net[1].bias.grad_req = "null"
    engine.backprop(next(iter(engine.batches(batches()))))


@pytest.mark.parametrize("y", [nd.array([10, 1]), nd.array([-1, 1]), nd.array([1.9, 1]), nd.array([float("nan"), 1])])
def test_labels_of_any_loader_are_checked(y):
    net = small()
    with pytest.raises(InputError, match="labels must be whole numbers from 0 to 9"):
        evaluate_accuracy([(nd.zeros((2, 1, 28, 28)), y)], net)
    with pytest.raises(InputError, match="labels must be whole numbers from 0 to 9"):
        choose(net, [mx.cpu()], []).backprop((nd.zeros((2, 1, 28, 28)), y))


def test_labels_of_another_shape_are_refused():
    for y in (nd.zeros((2, 1)), nd.zeros((3,))):
        with pytest.raises(InputError, match="labels of shape"):
            evaluate_accuracy([(nd.zeros((2, 1, 28, 28)), y)], small())


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, LABELS - 1, "label -1 is not a class"),
        (IMAGES, LABELS.astype(np.int64) + 2**32, "is not a class"),
        (IMAGES, LABELS + 0.9, "labels must be integers, not float64"),
        (IMAGES, LABELS[:, None], r"labels of shape \(96, 1\)"),
        (IMAGES, LABELS[:5], r"labels of shape \(5,\)"),
        (IMAGES / np.float32(255), LABELS, r"images must be uint8 \(n, h, w\), not float32"),
        (IMAGES.astype(np.int16), LABELS, r"images must be uint8 \(n, h, w\), not int16"),
        (IMAGES[:, None], LABELS, r"images must be uint8 \(n, h, w\), not uint8 \(96, 1, 28, 28\)"),
        (IMAGES[:0], LABELS[:0], "images must be uint8"),
    ],
)
def test_arrays_that_are_no_images_or_labels_are_refused(images, labels, message):
    with pytest.raises(InputError, match=message):
        Batches(images, labels, 4)
