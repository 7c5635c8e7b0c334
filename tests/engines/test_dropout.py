"""Dropout in the kernels: which numbers it drops, the rest and the gradients against NumPy, seeds, threads, loops."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

from gluon_lenet.data.batches import Batches
from gluon_lenet.engines.accelerated import accelerate
from gluon_lenet.engines.choice import choose
from gluon_lenet.engines.fused.engine import Fused
from gluon_lenet.engines.fused.net import FusedNet
from gluon_lenet.training.loop import Data, Loop

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (200, 28, 28), np.uint8), RNG.integers(0, 10, 200).astype(np.int32)


def net_with(rate, units=64):
    """A net whose output is its dropped activations, all of which are 1, times 1."""
    net = nn.HybridSequential()
    net.add(nn.Dense(units, activation="relu"), nn.Dropout(rate), nn.Dense(units, use_bias=False))
    net.initialize(mx.init.Zero())
    net(nd.zeros((1, 1, 28, 28)))
    net[0].bias.set_data(nd.ones(units))
    net[2].weight.set_data(nd.array(np.eye(units)))
    return net


def dropped(net, seed, count=200):
    """What is left of the ones: (count, units)."""
    mx.random.seed(seed)
    with accelerate(net), autograd.record():
        return net(nd.zeros((count, 1, 28, 28))).asnumpy()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_and_the_scale(rate):
    left = dropped(net_with(rate), seed=1)
    np.testing.assert_allclose(np.unique(left), [0, 1 / (1 - rate)], rtol=1e-6)
    share, deviation = (left == 0).mean(), np.sqrt(rate * (1 - rate))
    assert abs(share - rate) < 4 * deviation / np.sqrt(left.size)
    assert (np.abs((left == 0).mean(axis=0) - rate) < 5 * deviation / np.sqrt(200)).all()  # of each neuron
    assert (np.abs((left == 0).mean(axis=1) - rate) < 5 * deviation / np.sqrt(64)).all()  # of each image


def test_neurons_images_seeds_and_layers_are_independent():
    left = (dropped(net_with(0.5, 256), seed=1) > 0) * 2.0 - 1
    other = (dropped(net_with(0.5, 256), seed=2) > 0) * 2.0 - 1
    close = 5 / np.sqrt(200)
    assert np.abs(np.triu(left.T @ left / 200, 1)).max() < close * 1.3  # pairs of neurons: 32,640 of them
    assert np.abs(np.triu(left @ left.T / 256, 1)).max() < close * 1.3
    assert abs((left * other).mean()) < 4 / np.sqrt(left.size)
    two = nn.HybridSequential()
    two.add(nn.Dense(64, activation="relu"), nn.Dropout(0.5), nn.Dense(64), nn.Dropout(0.5), nn.Dense(64))
    two.initialize(mx.init.Zero())
    two(nd.zeros((1, 1, 28, 28)))
    for layer in (two[0], two[2]):
        layer.bias.set_data(nd.ones(64))
    two[4].weight.set_data(nd.array(np.eye(64)))
    second = (dropped(two, seed=1) > 0) * 2.0 - 1
    assert abs((second * left[:, :64]).mean()) < 4 / np.sqrt(second.size)


def lenet():
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(6, 5, activation="tanh"),
        nn.AvgPool2D(2, 2),
        nn.Dropout(0.25),
        nn.Dense(30, activation="sigmoid"),
        nn.Dropout(0.5),
        nn.Dense(10),
    )
    net.initialize(mx.init.Xavier())
    net(nd.zeros((1, 1, 28, 28)))
    rng = np.random.default_rng(1)
    for parameter in net.collect_params().values():
        parameter.set_data(nd.array(rng.normal(0, 0.2, parameter.shape)))
    return net


def test_the_gradients_are_those_of_the_masked_net():
    """The masks are read off the kernels, then applied by MXNet."""
    x = nd.array(IMAGES[:20, None] / 255)
    weight = nd.array(RNG.normal(size=(20, 10)))
    net = lenet()
    mx.random.seed(7)
    with accelerate(net), autograd.record():
        y_hat = net(x)
    y_hat.backward(weight)
    gradients = [p.grad().asnumpy() for p in net.collect_params().values()]

    masks = [mask_of(net, 7, 2, (20, 6, 12, 12)), mask_of(net, 7, 4, (20, 30))]
    with autograd.record():
        maps = net[1](net[0](x)) * masks[0]
        expected = net[5](net[3](maps) * masks[1])
    expected.backward(weight)
    assert np.abs(y_hat.asnumpy() - expected.asnumpy()).max() < 1e-5
    for parameter, ours in zip(net.collect_params().values(), gradients, strict=True):
        theirs = parameter.grad().asnumpy()
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


def mask_of(net, seed, number, shape):
    """The factors of a dropout layer, from a net that hands on ones to it and from it."""
    units = int(np.prod(shape[1:]))
    copy = nn.HybridSequential()
    for i, block in enumerate(net):
        if i == number:
            copy.add(nn.Dropout(block._rate), nn.Dense(units, use_bias=False))
            break
        copy.add(type(block)(**options(block)))
    copy.initialize(mx.init.Zero())
    copy(nd.zeros((1, 1, 28, 28)))
    ones = [block for block in copy if isinstance(block, nn.Conv2D | nn.Dense)][-2]
    ones.bias.set_data(nd.ones(ones.bias.shape) * (np.arctanh(0.5) if isinstance(ones, nn.Conv2D) else 0))
    copy[-1].weight.set_data(nd.array(np.eye(units)))
    mx.random.seed(seed)
    with accelerate(copy), autograd.record():
        left = copy(nd.zeros((shape[0], 1, 28, 28))).reshape(shape)
    return left * 2  # of 0.5, tanh's and sigmoid's value there


def options(block):
    if isinstance(block, nn.Conv2D):
        return {"channels": block._channels, "kernel_size": block._kwargs["kernel"], "activation": "tanh"}
    if isinstance(block, nn.Dense):
        return {"units": block._units, "activation": "sigmoid"}
    if isinstance(block, nn.Dropout):
        return {"rate": block._rate}
    return {"pool_size": 2, "strides": 2}


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_same_seed_drops_the_same_numbers_whatever_the_threads(threads):
    net = lenet()
    fused = FusedNet(net, threads=threads)
    once = fused.backprop(IMAGES, np.arange(100), LABELS, seed=3)
    gradients = [p.grad().asnumpy() for p in net.collect_params().values()]
    assert fused.backprop(IMAGES, np.arange(100), LABELS, seed=4) != once
    assert fused.backprop(IMAGES, np.arange(100), LABELS, seed=3) == once
    for parameter, before in zip(net.collect_params().values(), gradients, strict=True):
        np.testing.assert_array_equal(parameter.grad().asnumpy(), before)
    alone = FusedNet(net, threads=1).backprop(IMAGES, np.arange(100), LABELS, seed=3)
    assert abs(alone[0] - once[0]) < 1e-3
    assert alone[1] == once[1]


def test_mxnets_seed_governs_where_none_is_given():
    net, losses = lenet(), []
    fused = FusedNet(net)
    for seed in (1, 2, 1):
        mx.random.seed(seed)
        losses.append([fused.backprop(IMAGES, np.arange(50), LABELS)[0] for _ in range(3)])
    assert losses[0] == losses[2] != losses[1]
    assert len(set(losses[0])) == 3


def test_nothing_is_dropped_outside_training():
    net = lenet()
    plain = net(nd.array(IMAGES[:30, None] / 255)).asnumpy()
    fused = FusedNet(net)
    fused.backprop(IMAGES, np.arange(30), LABELS, seed=1)
    np.testing.assert_allclose(fused.forward(IMAGES[:30]), plain, atol=1e-5)
    with accelerate(net):
        np.testing.assert_allclose(net(nd.array(IMAGES[:30, None] / 255)).asnumpy(), plain, atol=1e-5)
        with autograd.record(train_mode=False):
            np.testing.assert_allclose(net(nd.array(IMAGES[:30, None] / 255)).asnumpy(), plain, atol=1e-5)


def test_a_loop_trains_by_the_kernels_and_repeats_itself():
    batches = Batches(IMAGES, LABELS, 50, shuffle=True, seed=0)
    results = []
    for seed in (5, 5, 6):
        net = lenet()
        engine = choose(net, [mx.cpu()], batches)
        assert isinstance(engine, Fused)
        trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
        loop = Loop(trainer, engine, seed=seed)
        batches = Batches(IMAGES, LABELS, 50, shuffle=True, seed=0)
        results.append([result.train_loss for result in loop.epochs(Data(batches, batches), 2)])
    assert results[0] == results[1] != results[2]
