"""The fused kernels: every net's gradients against autograd in float64."""

from __future__ import annotations

import copy
import gzip
import os
import subprocess
import sys
import warnings

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

import numpy_nets
from conftest import ROOT
from gluon_lenet.data.augment import Augmentation
from gluon_lenet.data.batches import Batches
from gluon_lenet.data.transforms import Transform
from gluon_lenet.engines.autograd import Autograd
from gluon_lenet.engines.choice import choose
from gluon_lenet.engines.fused import compiled, threads
from gluon_lenet.engines.fused.engine import Fused
from gluon_lenet.engines.fused.net import FusedNet, Unsupported
from gluon_lenet.engines.fused.program import Program
from gluon_lenet.engines.fused.updater import KernelUpdater
from gluon_lenet.errors import InputError
from gluon_lenet.nets.layers import RBFOutput, ScaledTanh, Subsampling, TableConv2D, digit_bitmaps
from gluon_lenet.nets.losses import MAPLoss, SmoothedCrossEntropy
from gluon_lenet.nets.zoo import get_net, lenet5_1998, lenet_variant
from gluon_lenet.training.recipes import RECIPES

SAMPLES = ROOT / "tests" / "samples" / "fashion_mnist"
CLOSE = 1e-5  # max |difference| / max |gradient|


def read_idx(name, header):
    with gzip.open(SAMPLES / name) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


IMAGES = read_idx("train-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
LABELS = read_idx("train-labels-idx1-ubyte.gz", 8).astype(np.int32)


# --- nets -------------------------------------------------------------------------------------------------------------


def sequential(*layers):
    net = nn.HybridSequential()
    net.add(*layers)
    return net


def head(activation, classes=10):
    return nn.Dense(120, activation=activation), nn.Dense(84, activation=activation), nn.Dense(classes)


def conv(channels, activation=None, padding=0, **options):
    return nn.Conv2D(channels, kernel_size=5, padding=padding, activation=activation, **options)


def max_pool():
    return nn.MaxPool2D(pool_size=2, strides=2)


def avg_pool():
    return nn.AvgPool2D(pool_size=2, strides=2)


def lenet(activation, pool, padding=0, channels=(6, 16), classes=10, **options):
    first, second = (conv(n, activation, p, **options) for n, p in zip(channels, (padding, 0), strict=True))
    return sequential(first, pool(), second, pool(), *head(activation, classes))


NETS = {  # name: input shape, net
    "sigmoid_maxpool": ((1, 28, 28), lambda: lenet("sigmoid", max_pool)),
    "sigmoid_avgpool": ((1, 28, 28), lambda: lenet("sigmoid", avg_pool, 2)),
    "relu_maxpool": ((1, 28, 28), lambda: lenet("relu", max_pool, 2)),
    "relu_maxpool_without_biases": ((1, 28, 28), lambda: lenet("relu", max_pool, 2, use_bias=False)),
    "sigmoid_avgpool_c5": (
        (1, 28, 28),
        lambda: sequential(
            conv(6, "sigmoid", 2), avg_pool(), conv(16, "sigmoid"), avg_pool(), conv(120), nn.Dense(84), nn.Dense(10)
        ),
    ),
    "tanh_avgpool": (
        (1, 32, 32),
        lambda: sequential(
            conv(6, "tanh"), avg_pool(), conv(16, "tanh"), avg_pool(), conv(120, "tanh"),
            nn.Dense(84, activation="tanh"), nn.Dense(10),
        ),
    ),
    "softrelu_maxpool": ((1, 28, 28), lambda: lenet("softrelu", max_pool)),
    "softrelu_avgpool": ((1, 28, 28), lambda: lenet("softrelu", avg_pool, 2)),
    "softsign_maxpool": ((1, 28, 28), lambda: lenet("softsign", max_pool)),
    "softsign_avgpool": ((1, 28, 28), lambda: lenet("softsign", avg_pool, 2)),
    "wide": ((1, 28, 28), lambda: lenet("relu", max_pool, 2, channels=(24, 48))),
    "47_classes": ((1, 28, 28), lambda: lenet("sigmoid", max_pool, classes=47)),
    "activation_after_pooling": (
        (1, 28, 28),
        lambda: sequential(
            conv(5, "relu", 2), avg_pool(), nn.Activation("tanh"), conv(7), max_pool(), nn.Activation("relu"),
            nn.Flatten(), nn.Dense(33), nn.Activation("sigmoid"), nn.Dense(10),
        ),
    ),
    "colours_odd_sizes_no_pooling": (
        (3, 21, 23),
        lambda: sequential(
            conv(5, padding=2), avg_pool(), nn.Activation("relu"), conv(7, "tanh", 2), conv(3), max_pool(),
            nn.Dense(13), nn.Dense(2),
        ),
    ),
    "windows_3_and_4": (
        (1, 28, 28),
        lambda: sequential(
            nn.Conv2D(5, 3, padding=1, activation="tanh"), max_pool(), nn.Conv2D(9, 4, activation="tanh"), avg_pool(),
            nn.Dense(10),
        ),
    ),
    "windows_that_are_not_square": (
        (2, 17, 14),
        lambda: sequential(
            nn.Conv2D(4, (2, 5), padding=(1, 4), activation="softsign"), nn.Conv2D(5, 1), max_pool(),
            nn.Conv2D(6, (5, 3), padding=(4, 0), use_bias=False), nn.Activation("relu"), nn.Dense(7),
        ),
    ),
    "windows_6_and_9": (
        (1, 28, 28),
        lambda: sequential(
            nn.Conv2D(5, 6, activation="relu"), max_pool(), nn.Conv2D(7, 9, padding=4), avg_pool(), nn.Dense(10)
        ),
    ),
    "windows_in_strips": (
        (2, 24, 26),
        lambda: sequential(
            nn.Conv2D(4, (7, 2), padding=(3, 0), activation="softrelu"), avg_pool(), nn.Conv2D(5, (2, 8)), max_pool(),
            nn.Conv2D(6, (3, 1), activation="tanh"), nn.Dense(10),
        ),
    ),
    "windows_of_three_patches": (
        (1, 28, 28),
        lambda: sequential(nn.Conv2D(3, 12, padding=6), max_pool(), nn.Conv2D(4, 11, use_bias=False), nn.Dense(10)),
    ),
    "paddings_1_and_3": (
        (1, 20, 20),
        lambda: sequential(
            nn.Conv2D(4, 5, padding=1, activation="relu"), avg_pool(), nn.Conv2D(5, 5, padding=3), max_pool(),
            nn.Conv2D(6, 2), nn.Conv2D(8, (4, 4), activation="tanh"), nn.Dense(10),
        ),
    ),
    "a_window_as_large_as_its_input": (
        (1, 18, 18),
        lambda: sequential(conv(3, "tanh"), avg_pool(), nn.Conv2D(20, 7, activation="sigmoid"), nn.Dense(10)),
    ),
    "a_table_as_large_as_its_input": (
        (1, 14, 14),
        lambda: sequential(
            nn.Conv2D(2, 3, activation="tanh"), max_pool(), nn.Conv2D(3, 4, activation="tanh"),
            TableConv2D(((0,), (1, 2), (0, 1, 2), (2,)), in_channels=3, kernel_size=3), nn.Activation("tanh"),
            nn.Dense(10),
        ),
    ),
    "dense_only": ((1, 28, 28), lambda: sequential(nn.Dense(16, activation="relu"), nn.Dense(10))),
    "1998": ((1, 32, 32), lenet5_1998),
    "layers_of_1998_otherwise": (
        (2, 16, 20),
        lambda: sequential(
            TableConv2D(((0,), (1,), (0, 1)), in_channels=2), Subsampling(3), nn.Activation("relu"),
            conv(4), ScaledTanh(), nn.Dense(84, activation="tanh"), RBFOutput(digit_bitmaps()[:7]),
        ),
    ),
}  # fmt: skip
LOSSES = {  # the others: softmax cross-entropy
    "1998": MAPLoss(),
    "layers_of_1998_otherwise": MAPLoss(j=20.0),
    "47_classes": SmoothedCrossEntropy(0.1),
    "windows_6_and_9": SmoothedCrossEntropy(1.0),
}


def build(name, seed=0, hybridize=False):
    shape, make = NETS[name]
    mx.random.seed(seed)
    net = make()
    net.initialize(mx.init.Xavier())
    net(nd.zeros((1, *shape)))
    for parameter in net.collect_params().values():  # so that no bias is 0
        if len(parameter.shape) == 1 and parameter.grad_req != "null":
            parameter.set_data(nd.random.normal(0, 0.1, parameter.shape))
    if hybridize:
        net.hybridize()
    return net, shape


def data(shape, classes, seed=0):
    """300 uint8 images and labels: real ones where they fit."""
    generator = np.random.default_rng(seed)
    if shape == (1, 28, 28):
        images = np.concatenate([IMAGES, IMAGES[:44, ::-1]])
    elif shape == (1, 32, 32):
        images = np.pad(np.concatenate([IMAGES, IMAGES[:44, ::-1]]), ((0, 0), (2, 2), (2, 2)))
    else:
        images = generator.integers(0, 256, (300, *shape)).astype(np.uint8)
    return np.ascontiguousarray(images), generator.integers(0, classes, 300).astype(np.int32)


def as_floats(images, shape):
    return images.reshape(-1, *shape) / np.float32(255)


def by_autograd(net, X, y, loss=None):
    """Loss sum, correct count and gradients, in the type of X."""
    with autograd.record():
        y_hat = net(nd.array(X, dtype=X.dtype))
        loss = (loss or gluon.loss.SoftmaxCrossEntropyLoss())(y_hat, nd.array(y)).sum()
    loss.backward()
    correct = (y_hat.asnumpy().argmax(axis=1) == y).sum()
    return float(loss.asscalar()), correct, gradients(net)


def gradients(net):
    return {p.name: p.grad().asnumpy() for p in net.collect_params().values() if p.grad_req != "null"}


def images_with_ties(net, X):
    """Which images have a max pooling window where rounding may decide which of two pixels is the largest.

    Equal pixels, as in a plain background, do not count: every implementation chooses the first one.
    """
    tied = np.zeros(len(X), bool)
    layers, x = list(net._children.values()), nd.array(X, dtype="float64")
    for layer in layers:
        if isinstance(layer, nn.MaxPool2D):
            pixels = x.asnumpy()
            b, c, h, w = pixels.shape
            windows = pixels[:, :, : h // 2 * 2, : w // 2 * 2].reshape(b, c, h // 2, 2, w // 2, 2)
            windows = windows.transpose(0, 1, 2, 4, 3, 5).reshape(b, -1, 4)
            gaps = windows.max(axis=2, keepdims=True) - windows
            close = (gaps > 1e-12) & (gaps < 1e-7 * np.maximum(1, np.abs(windows)))
            tied |= close.any(axis=(1, 2))
        x = layer(x)
    return tied


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
@pytest.mark.parametrize("name", sorted(NETS))
def test_gradients_equal_autograds(name, seed):
    net, shape = build(name, seed)
    precise, _ = build(name, seed)
    precise.cast("float64")
    fused, loss = FusedNet(net, shape, loss=LOSSES.get(name)), LOSSES.get(name)
    images, labels = data(shape, fused.num_classes, seed)
    tied = images_with_ties(precise, as_floats(images, shape).astype(np.float64))
    assert tied.sum() <= 300 - 256, f"{tied.sum()} of {len(tied)} images have a tie in max pooling"
    order = np.random.default_rng(seed).permutation(len(images))
    order = order[~tied[order]]
    for batch_size in (1, 7, 16, 37, 256):
        rows = order[:batch_size]
        loss_sum, num_correct = fused.backprop(images, rows, labels)
        X = as_floats(images[rows], shape)
        expected_loss, expected_correct, expected = by_autograd(precise, X.astype(np.float64), labels[rows], loss)
        assert fused.evaluate(images, rows, labels) == (loss_sum, num_correct)
        assert loss_sum == pytest.approx(expected_loss, rel=1e-6)
        assert num_correct == expected_correct
        for actual, wanted in zip(gradients(net).values(), expected.values(), strict=True):
            assert np.abs(actual - wanted).max() <= CLOSE * np.abs(wanted).max()
    logits = precise(nd.array(X, dtype="float64")).asnumpy()
    np.testing.assert_allclose(fused.forward(images, rows), logits, rtol=2e-6, atol=2e-5)


def test_the_net_of_1998_against_numpy():
    net, shape = build("1998")
    images, labels = data(shape, 10)
    fused = FusedNet(net, shape, loss=MAPLoss())
    parameters = [p.data().asnumpy() for p in net.collect_params().values() if p.grad_req != "null"]
    penalties = -numpy_nets.logits("lenet5_1998", parameters, as_floats(images, shape))
    np.testing.assert_allclose(fused.forward(images), -penalties, rtol=1e-5)
    loss_sum, _ = fused.backprop(images, np.arange(300), labels)
    assert loss_sum == pytest.approx(numpy_nets.map_loss(penalties, labels).sum(), rel=1e-6)
    assert np.all(net[4].weight3.grad().asnumpy() != 0)


@pytest.mark.parametrize(
    ("name", "transform"),
    [
        ("sigmoid_maxpool", Transform(mean=0.1307, std=0.3081)),
        ("sigmoid_avgpool", Transform(pad=3, mean=0.5)),  # the net's own padding adds zeros around it
        ("1998", Transform(pad=2, mean=0.1 / 1.275, std=1 / 1.275)),
        ("dense_only", Transform(pad=1, mean=-0.2)),
        ("tanh_avgpool", Transform(resize=32, mean=0.1307, std=0.3081)),
        ("tanh_avgpool", Transform(resize=26, pad=3, std=0.5)),
    ],
)
def test_preprocessing_in_the_kernels_equals_mxnets(name, transform):
    net, shape = build(name)
    side = 28 if transform.resize else shape[1] - 2 * transform.pad
    images, labels, rows = np.ascontiguousarray(IMAGES[:40, :side, :side]), LABELS[:40], np.arange(40)[::-1]
    X = transform(images).asnumpy()
    assert X.shape[1:] == shape
    fused, resized = FusedNet(net, shape), transform.resized(images)
    result, wanted = fused.backprop(X, rows, labels), gradients(net)
    assert fused.backprop(resized, rows, labels, transform) == result
    for name, gradient in gradients(net).items():
        np.testing.assert_array_equal(gradient, wanted[name])
    np.testing.assert_array_equal(fused.forward(resized, transform=transform), fused.forward(X))


def test_float_images_give_the_same_bits_as_bytes():
    net, shape = build("sigmoid_maxpool")
    images, labels = data(shape, 10)
    fused, rows = FusedNet(net, shape), np.arange(40)[::-1]
    result, wanted = fused.backprop(images, rows, labels), gradients(net)
    assert fused.backprop(as_floats(images, shape), rows, labels) == result
    for name, gradient in gradients(net).items():
        np.testing.assert_array_equal(gradient, wanted[name])
    np.testing.assert_array_equal(fused.forward(images), fused.forward(as_floats(images, shape)))


@pytest.mark.parametrize("num_threads", [1, 2, 3, 20])
def test_same_number_of_threads_same_bits(num_threads):
    net, shape = build("relu_maxpool")
    images, labels = data(shape, 10)
    results = []
    for _ in range(3):
        result = FusedNet(net, shape, num_threads).backprop(images, np.arange(250), labels)
        results.append((result, gradients(net)))
    for result, other in results[1:]:
        assert result == results[0][0]
        for name, gradient in other.items():
            np.testing.assert_array_equal(gradient, results[0][1][name])


def test_pythons_threads_where_there_is_no_openmp(monkeypatch):
    net, shape = build("sigmoid_maxpool")
    images, labels = data(shape, 10)
    fused = FusedNet(net, shape, threads=3)
    result, wanted = fused.backprop(images, np.arange(100), labels), gradients(net)
    monkeypatch.setattr(threads, "_openmp", lambda: (None, os.getpid()))
    assert fused.backprop(images, np.arange(100), labels) == result
    for name, gradient in gradients(net).items():
        np.testing.assert_array_equal(gradient, wanted[name])


@pytest.mark.parametrize("name", sorted(NETS))
def test_one_image_at_a_time_gives_the_same_bits(name):
    net, shape = build(name)
    images, _ = data(shape, 2)
    fused = FusedNet(net, shape)
    together = fused.forward(images[:20])
    np.testing.assert_array_equal([fused.forward(images[i : i + 1])[0] for i in range(20)], together)
    np.testing.assert_array_equal(fused.forward(images, np.arange(19, 2, -1)), together[:2:-1])  # a block and one more


@pytest.mark.parametrize(
    ("name", "count"), [("sigmoid_maxpool", 2), ("tanh_avgpool", 2), ("1998", 2), ("wide", 2), ("dense_only", 0)]
)
def test_one_image_is_computed_by_receptive_fields(name, count):
    net, shape = build(name)
    assert len(Program(net, shape, gluon.loss.SoftmaxCrossEntropyLoss()).fields) == count


def test_the_first_of_equal_logits_is_the_answer():
    net, shape = build("sigmoid_maxpool")
    net[-1].weight.set_data(nd.zeros(net[-1].weight.shape))
    net[-1].bias.set_data(nd.zeros(10))
    images, _ = data(shape, 10)
    fused, rows = FusedNet(net, shape), np.arange(300)
    assert fused.evaluate(images, rows, np.zeros(300, np.int32)) == (pytest.approx(300 * np.log(10)), 300)
    assert fused.evaluate(images, rows, np.ones(300, np.int32))[1] == 0


def test_training_follows_autograds_curve():
    losses = {}
    for end in ("autograd", "fused"):
        net, shape = build("relu_maxpool")
        trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.02, "momentum": 0.9})
        fused, order, losses[end] = FusedNet(net, shape), np.random.default_rng(0), []
        for _ in range(30):
            rows = order.permutation(256)[:64]
            if end == "fused":
                loss = fused.backprop(IMAGES, rows, LABELS)[0]
            else:
                loss = by_autograd(net, as_floats(IMAGES[rows], shape), LABELS[rows])[0]
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # a trainer warns of gradients it has already used
                trainer.step(64)
            losses[end].append(loss / 64)
    assert losses["fused"][-1] < losses["fused"][0] - 0.5
    np.testing.assert_allclose(losses["fused"], losses["autograd"], rtol=1e-3)


def trained(updater, optimizer, settings, steps=6, between=lambda trainer, net: None):
    """A net's weights and optimizer's states after some steps on the same random gradients."""
    net, shape = build("relu_maxpool")
    net(nd.zeros((1, *shape)))
    net[2].weight.lr_mult, net[4].bias.wd_mult = 0.5, 0.0
    trainer = gluon.Trainer(net.collect_params(), optimizer, copy.deepcopy(settings))  # schedules have states
    trainer._updaters[0] = updater(trainer._updaters[0])
    rng = np.random.default_rng(0)
    for _ in range(steps):
        for parameter in net.collect_params().values():
            parameter.grad()[:] = nd.array(rng.normal(size=parameter.shape))
            parameter.data()._fresh_grad = True
        trainer.step(37)
        between(trainer, net)
    arrays = []
    for name, parameter in net.collect_params().items():
        state = trainer._updaters[0].states[trainer._param2idx[name]]  # the trainer orders parameters differently
        states = state if isinstance(state, tuple | list) else [state]
        arrays += [array for array in (parameter.data(), *states) if array is not None]
    return trainer, [array.asnumpy() for array in arrays]


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        ("sgd", {"learning_rate": 0.9}),
        ("sgd", {"learning_rate": 0.3, "wd": 0.01}),
        ("sgd", {"learning_rate": 0.123, "momentum": 0.9, "wd": 0.002}),
        ("sgd", {"momentum": 0.77, "lr_scheduler": mx.lr_scheduler.CosineScheduler(6, base_lr=0.1)}),
        ("adam", {"learning_rate": 0.01}),
        ("adam", {"learning_rate": 0.02, "wd": 0.05, "beta1": 0.8, "beta2": 0.99, "epsilon": 1e-6}),
        ("adam", {"lr_scheduler": mx.lr_scheduler.FactorScheduler(2, 0.5, base_lr=0.1)}),
        ("sgd", {"learning_rate": 1.2345678e-05, "wd": 1.7e-05, "rescale_grad": 1 / 345}),
        ("sgd", {"learning_rate": 1.2345678e-05, "wd": 1.7e-05, "rescale_grad": 1 / 345, "momentum": 0.9}),
        ("adam", {"learning_rate": 1.2345678e-05, "wd": 1.7e-05, "rescale_grad": 1 / 345, "epsilon": 1.23e-7}),
    ],
)
def test_steps_of_the_kernels_are_mxnets_to_the_bit(optimizer, settings):
    trainer, actual = trained(KernelUpdater, optimizer, settings)
    assert trainer._updaters[0].all_finite is True, "the kernels took the last step"
    stock, wanted = trained(lambda updater: updater, optimizer, settings)
    assert trainer._optimizer.num_update == stock._optimizer.num_update == 6
    assert len(actual) == len(wanted)
    for array, other in zip(actual, wanted, strict=True):
        np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize(
    ("optimizer", "settings"), [("sgd", {"clip_gradient": 0.1}), ("rmsprop", {}), ("nag", {"momentum": 0.9})]
)
def test_other_steps_are_left_to_mxnet(optimizer, settings):
    trainer, actual = trained(KernelUpdater, optimizer, settings)
    assert trainer._updaters[0].all_finite is None
    for array, other in zip(actual, trained(lambda updater: updater, optimizer, settings)[1], strict=True):
        np.testing.assert_array_equal(array, other)


def test_the_kernels_step_follows_arrays_and_states_that_change(tmp_path):
    def between(trainer, net):
        net(nd.ones((3, 1, 28, 28)))  # oneDNN rearranges the weights
        trainer.save_states(str(tmp_path / "states"))
        for updater in trainer._updaters:
            updater.states = {}
        trainer.load_states(str(tmp_path / "states"))

    settings = {"learning_rate": 0.1, "momentum": 0.9}
    trainer, actual = trained(KernelUpdater, "sgd", settings, between=between)
    assert trainer._updaters[0].all_finite is True
    for array, other in zip(actual, trained(lambda updater: updater, "sgd", settings)[1], strict=True):
        np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_one_weight_that_is_not_finite_is_seen(optimizer, number):
    seen = []

    def between(trainer, net):
        seen.append(trainer._updaters[0].all_finite)
        net[4].bias.data()[-1] = number

    trained(KernelUpdater, optimizer, {}, steps=2, between=between)
    assert seen == [True, False]


def test_a_frozen_parameter_has_no_gradient_and_the_rest_is_as_before():
    net, shape = build("sigmoid_maxpool")
    images, labels = data(shape, 10)
    FusedNet(net, shape).backprop(images, np.arange(32), labels)
    wanted = gradients(net)
    fused = FusedNet(net, shape)
    net[0].weight.grad_req = "null"
    net[4].bias.grad_req = "null"
    fused.backprop(images, np.arange(32), labels)
    actual = gradients(net)
    assert len(actual) == len(wanted) - 2
    for name, gradient in actual.items():
        np.testing.assert_array_equal(gradient, wanted[name])


def test_what_mxnet_does_in_between_does_no_harm():
    """Running the net makes oneDNN rearrange weights in place, and autograd may write gradients in oneDNN's layout."""
    net, shape = build("relu_maxpool")
    images, labels = data(shape, 10)
    X, rows = as_floats(images, shape), np.arange(100)
    fused = FusedNet(net, shape)
    result, wanted = fused.backprop(images, rows, labels), gradients(net)
    for attempt in range(30):
        if attempt % 3:
            net(nd.array(X[: 1 + attempt]))
        if attempt % 2:
            by_autograd(net, X[:64], labels[:64])
        again = FusedNet(net, shape) if attempt % 4 == 0 else fused
        assert again.backprop(images, rows, labels) == result
        for name, gradient in gradients(net).items():
            np.testing.assert_array_equal(gradient, wanted[name])


def test_gradients_made_again_between_forward_passes_are_written():
    net, shape = build("sigmoid_maxpool")
    images, labels = data(shape, 10)
    fused = FusedNet(net, shape)
    fused.backprop(images, np.arange(32), labels)
    wanted, parameters = gradients(net), net.collect_params().values()
    before = [parameter.grad() for parameter in parameters]  # kept, so that the new ones are elsewhere
    for parameter in parameters:
        parameter.grad_req = "null"
    fused.forward(images)
    for parameter in parameters:
        parameter.grad_req = "write"
    fused.forward(images)
    for gradient in before:
        gradient[:] = 0
    fused.backprop(images, np.arange(32), labels)
    for name, gradient in gradients(net).items():
        np.testing.assert_array_equal(gradient, wanted[name])
    assert not any(gradient.asnumpy().any() for gradient in before)


def test_weights_set_again_are_used():
    net, shape = build("sigmoid_maxpool")
    images, _ = data(shape, 10)
    fused = FusedNet(net, shape)
    before = fused.forward(images)
    other, _ = build("sigmoid_maxpool", seed=1)
    for parameter, new in zip(net.collect_params().values(), other.collect_params().values(), strict=True):
        parameter.set_data(new.data())
    after = fused.forward(images)
    assert not np.allclose(before, after)
    np.testing.assert_array_equal(after, FusedNet(other, shape).forward(images))
    net.initialize(mx.init.Xavier(), force_reinit=True)  # makes new arrays
    np.testing.assert_allclose(fused.forward(images), net(nd.array(as_floats(images, shape))).asnumpy(), atol=2e-5)


def test_nan_in_a_weight_shows_in_the_loss():
    net, shape = build("sigmoid_maxpool")
    images, labels = data(shape, 10)
    weight = net[4].weight.data()
    weight[0, 0] = np.nan
    assert np.isnan(FusedNet(net, shape).backprop(images, np.arange(20), labels)[0])


def test_parameters_that_share_memory_are_refused_again_and_again():
    net = sequential(*(nn.Dense(784, in_units=784) for _ in range(2)))
    net.initialize()
    fused = FusedNet(net)
    apart = net[1].weight._data
    net[1].weight._data = list(net[0].weight._data)
    for _ in range(2):
        with pytest.raises(Unsupported, match="share memory"):
            fused.forward(IMAGES[:3])
    net[1].weight._data = apart
    np.testing.assert_allclose(fused.forward(IMAGES[:3]), net(nd.array(IMAGES[:3] / 255)).asnumpy(), atol=1e-5)


def test_a_parameter_replaced_while_another_was_refused():
    net = sequential(nn.Dense(12, in_units=784), nn.Dense(10, in_units=12))
    net.initialize()
    fused, served = FusedNet(net), net[1].weight._data
    net[0].initialize(mx.init.Normal(0.3), force_reinit=True)
    net[1].weight._data = [served[0].astype("float64")]
    with pytest.raises(Unsupported, match="float64"):
        fused.forward(IMAGES[:3])
    net[1].weight._data = served
    np.testing.assert_allclose(fused.forward(IMAGES[:3]), net(nd.array(IMAGES[:3] / 255)).asnumpy(), atol=1e-5)


def test_a_net_that_has_not_seen_an_image_yet():
    net = lenet("sigmoid", max_pool)
    net.initialize()
    assert FusedNet(net).forward(IMAGES[:3]).shape == (3, 10)


# --- in the training loop ---------------------------------------------------------------------------------------------


def passes(name, data_iter, loss=None):
    """What both engines compute in a pass: [(loss sum, correct, size) per batch], then `evaluate`, then `logits`."""
    net, _ = build(name)
    for engine in (Autograd(net, [mx.cpu()], loss), choose(net, [mx.cpu()], data_iter, "fused", loss)):
        data_iter.epoch = 0
        training = [engine.backprop(batch).wait().totals for batch in engine.batches(data_iter)]
        yield training, engine.evaluate(data_iter), engine.logits(data_iter)
        assert data_iter.epoch == 3


@pytest.mark.parametrize(
    ("name", "transform", "options"),
    [
        ("sigmoid_maxpool", Transform(), {}),
        ("tanh_avgpool", Transform(resize=32, mean=0.1307, std=0.3081), {"shuffle": True}),
        ("tanh_avgpool", Transform(resize=32), {"augment": Augmentation(rotation=10)}),
        ("1998", Transform(pad=2, mean=0.1 / 1.275, std=1 / 1.275), {"shuffle": True}),
    ],
)
def test_both_engines_see_the_same_batches(name, transform, options):
    data_iter = Batches(IMAGES, LABELS, 100, transform=transform, **options)
    expected, actual = passes(name, data_iter, LOSSES.get(name))
    assert [size for _, _, size in actual[0]] == [100, 100, 56]
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(actual[1], expected[1], rtol=1e-5)
    np.testing.assert_allclose(actual[2], expected[2], rtol=1e-5, atol=2e-5)


def test_read_only_images_are_resized_once_and_a_pass_is_evaluated_in_one_call(monkeypatch):
    net, shape = build("tanh_avgpool")
    data_iter = Batches(IMAGES, LABELS, 7, transform=Transform(resize=32))
    engine, calls = Fused(net, shape), []
    monkeypatch.setattr(engine.fused, "evaluate", lambda *batch: calls.append(batch) or (1.0, 2))
    for _ in range(2):
        resized = {id(batch.images) for batch in engine.batches(data_iter)}
        assert engine.evaluate(data_iter) == (1.0, 2, 256)
        assert len(resized) == 1
    assert [len(rows) for _, rows, _, _ in calls] == [256, 256]


def test_images_that_change_between_batches_are_resized_again():
    net, shape = build("tanh_avgpool")
    images = IMAGES.copy()
    data_iter = Batches(images, LABELS, 128, transform=Transform(resize=32))
    engine = Fused(net, shape)
    before = engine.logits(data_iter)
    images[128:] = images[:128]
    np.testing.assert_array_equal(engine.logits(data_iter), np.tile(before[:128], (2, 1)))
    batches = engine.batches(data_iter)
    next(batches)
    images[:] = 0
    assert not next(batches).images.any()


@pytest.mark.parametrize("kernel_size", range(1, 10))
def test_every_variant_of_the_exercise_gets_the_fused_kernels(kernel_size):
    """Windows, activations and depths; what they compute for these layers is tested above."""
    for activation in ("sigmoid", "tanh", "relu", "softrelu", "softsign"):
        for channels, units in (((6, 16), (120, 84)), ((1, 3), ()), ((20,), (5,)), ((), (30, 20, 10))):
            net = lenet_variant(kernel_size, channels, activation, units, classes=7)
            net.initialize()
            assert FusedNet(net).forward(IMAGES[:3]).shape == (3, 7)


def test_every_recipe_gets_the_fused_kernels():
    for recipe in RECIPES.values():
        net = get_net(recipe.net)
        net.initialize()
        data_iter = Batches(IMAGES, LABELS, 16, transform=recipe.transform)
        assert isinstance(choose(net, [mx.cpu()], data_iter, "auto", recipe.loss.build()), Fused)


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (gluon.loss.L2Loss(), "MAPLoss, not L2Loss"),
        (gluon.loss.SoftmaxCELoss(from_logits=True), "SoftmaxCrossEntropyLoss of class numbers along the last axis"),
    ],
)
def test_losses_the_kernels_cannot_compute_are_named(loss, name):
    net, _ = build("sigmoid_maxpool")
    data_iter = Batches(IMAGES, LABELS, 16)
    with pytest.raises(InputError, match=name):
        choose(net, [mx.cpu()], data_iter, "fused", loss)
    assert name in str(choose(net, [mx.cpu()], data_iter, "auto", loss))
    assert isinstance(choose(net, [mx.cpu()], data_iter, "auto", gluon.loss.SoftmaxCrossEntropyLoss()), Fused)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Conv2D(6, 5, strides=2), nn.Dense(10)], r"layer 0, Conv2D.*has a stride or a dilation other than 1"),
        ([nn.Conv2D(6, 3, dilation=2), nn.Dense(10)], r"layer 0, Conv2D.*has a stride or a dilation other than 1"),
        ([nn.Conv2D(6, 5, groups=2), nn.Dense(10)], r"layer 0, Conv2D.*groups"),
        ([conv(6), nn.MaxPool2D(3, 2), nn.Dense(10)], r"layer 1, MaxPool2D.*2x2"),
        ([conv(6), nn.GlobalAvgPool2D(), nn.Dense(10)], r"layer 1, GlobalAvgPool2D"),
        ([max_pool(), nn.Dense(10)], r"layer 0, MaxPool2D.*does not follow a convolution"),
        ([nn.Dropout(0.5), nn.Dense(10)], r"layer 0, Dropout.*does not follow"),
        ([conv(6), nn.Dropout(0.5), max_pool(), nn.Dense(10)], r"layer 2, MaxPool2D.*does not follow a convolution"),
        ([nn.Dense(8), nn.Dropout(0.5), nn.Activation("tanh"), nn.Dense(10)], r"layer 2.*right after an activation or"),
        ([conv(6), nn.Dropout(0.5, axes=(2, 3)), nn.Dense(10)], r"layer 1, Dropout.*has axes"),
        ([nn.Dense(10), nn.Dropout(0.5)], r"last layer.*dropout"),
        ([conv(6), nn.BatchNorm(), nn.Dense(10)], r"layer 1, BatchNorm"),
        ([conv(6, "log_sigmoid"), nn.Dense(10)], r"layer 0, Conv2D.*log_sigmoid"),
        (
            [conv(6, "relu"), nn.Activation("tanh"), nn.Dense(10)],
            r"layer 1, Activation.*right after an activation",
        ),
        ([nn.Dense(8), conv(6), nn.Dense(10)], r"layer 1, Conv2D.*gets a vector of 8 numbers, not maps"),
        ([nn.Dense(8, flatten=False), nn.Dense(10)], r"layer 0, Dense.*flatten"),
        ([conv(6), max_pool()], r"last layer must be a Dense"),
        ([nn.Dense(10, activation="relu")], r"last layer.*activation"),
    ],
)
def test_what_the_kernels_cannot_serve_is_named(layers, message):
    net = sequential(*layers)
    net.initialize()
    with pytest.raises(Unsupported, match=message):
        FusedNet(net)


def test_nets_that_are_not_sequential_doubles_and_added_gradients_are_refused():
    with pytest.raises(Unsupported, match="Dense is not a Sequential"):
        FusedNet(nn.Dense(10))
    net, shape = build("sigmoid_maxpool")
    with pytest.raises(Unsupported, match="expects 1 inputs but gets 3"):
        FusedNet(net, (3, 28, 28))
    net[0].weight.grad_req = "add"
    with pytest.raises(Unsupported, match=r"weight has grad_req 'add'"):
        FusedNet(net, shape)
    double, shape = build("sigmoid_maxpool")
    double.cast("float64")
    with pytest.raises(Unsupported, match="float64"):
        FusedNet(double, shape)


@pytest.mark.parametrize("label", [-1, 10, 2**31 - 1])
def test_labels_out_of_range_are_an_error_and_leave_the_gradients(label):
    net, shape = build("sigmoid_maxpool")
    images, labels = data(shape, 10)
    fused = FusedNet(net, shape)
    fused.backprop(images, np.arange(20), labels)
    before = gradients(net)
    labels[33] = label
    with pytest.raises(ValueError, match=f"label {label} is not a class; labels must be whole numbers from 0 to 9"):
        fused.backprop(images, np.arange(20, 40), labels)
    for name, gradient in gradients(net).items():
        np.testing.assert_array_equal(gradient, before[name])
    fused.backprop(images, np.arange(20), labels)  # the bad label is not in this batch


def test_arrays_of_the_wrong_kind_are_refused():
    net, shape = build("sigmoid_maxpool")
    images, labels = data(shape, 10)
    fused = FusedNet(net, shape)
    with pytest.raises(ValueError, match="rows must be between 0 and 299"):
        fused.backprop(images, np.array([0, 300]), labels)
    with pytest.raises(ValueError, match="at least one"):
        fused.backprop(images, np.array([], int), labels)
    with pytest.raises(ValueError, match="labels must have the shape"):
        fused.backprop(images, np.arange(3), labels[:200])
    with pytest.raises(ValueError, match="labels must be integers of at most 32 bits, not float64"):
        fused.backprop(images, np.arange(3), labels + 0.9)
    with pytest.raises(ValueError, match="labels must be integers of at most 32 bits, not int64"):
        fused.backprop(images, np.arange(3), labels.astype(np.int64) + 2**32)
    with pytest.raises(ValueError, match="rows must be integers of at most 64 bits, not float64"):
        fused.backprop(images, np.array([0.5, 1]), labels)
    with pytest.raises(ValueError, match=r"images must be uint8 .* not int32"):
        fused.forward(images.astype(np.int32))
    with pytest.raises(ValueError, match="C-contiguous"):
        fused.forward(images[:, ::-1])


IN_SHORT = (
    "from numba import njit; from gluon_lenet.engines.fused import blocks, compiled, rules\n"
    "blocks.run = rules.update = njit(lambda task: None)\n"
    "print(compiled.address() > 0)"
)
IN_FULL = (
    "import gluon_lenet; from mxnet.gluon import nn; import numpy as np\n"
    "from gluon_lenet.engines.fused.net import FusedNet\n"
    "net = nn.Sequential(); net.add(nn.Dense(10)); net.initialize()\n"
    "print(FusedNet(net).forward(np.zeros((1, 28, 28), np.uint8)).shape == (1, 10))"
)


@pytest.mark.parametrize("code", [IN_SHORT, pytest.param(IN_FULL, marks=pytest.mark.slow)], ids=["short", "full"])
def test_compiling_is_announced_once_and_then_read_from_disk(code, tmp_path):
    """A kernel that does nothing; the slow one is the whole kernel, which takes 15 s of CPU time."""
    environment = {"PATH": "/usr/bin:/bin", "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    for announced in (True, False):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "True\n"
        assert ("compiling the fused kernels" in done.stderr) is announced


def test_the_whole_kernel_is_read_from_disk_once_it_is_compiled():
    compiled.address()
    assert compiled.is_compiled()
