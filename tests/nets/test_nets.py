"""nets/zoo.py: shapes, parameter counts, logits against plain NumPy, and the book's own net."""

import re
from math import prod
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

import numpy_nets
from conftest import ROOT
from gluon_lenet.data.idx import read_idx
from gluon_lenet.errors import InputError
from gluon_lenet.nets import zoo

SAMPLES = ROOT / "tests" / "samples" / "mnist"
PARAMETERS = {
    "lenet5_sigmoid_maxpool": 44_426,
    "lenet5_sigmoid_avgpool": 61_706,
    "lenet5_relu_maxpool": 61_706,
    "lenet5_relu_maxpool_wide": 184_606,
    "lenet5_relu_maxpool_wide_c5": 183_050,
    "lenet5_relu_maxpool_deep": 49_530,
    "lenet5_sigmoid_avgpool_c5": 61_706,
    "lenet5_tanh_avgpool": 61_706,
    "lenet5_1998": 60_000,
}
WEIGHTS = {  # layer by layer, without biases
    "lenet5_sigmoid_maxpool": [150, 2400, 30720, 10080, 840],
    "lenet5_sigmoid_avgpool": [150, 2400, 48000, 10080, 840],
    "lenet5_relu_maxpool": [150, 2400, 48000, 10080, 840],
    "lenet5_relu_maxpool_wide": [600, 28800, 144000, 10080, 840],
    "lenet5_relu_maxpool_wide_c5": [600, 28800, 41472, 110592, 1280],
    "lenet5_relu_maxpool_deep": [400, 5760, 14400, 23040, 5760],
    "lenet5_sigmoid_avgpool_c5": [150, 2400, 48000, 10080, 840],
    "lenet5_tanh_avgpool": [150, 2400, 48000, 10080, 840],
    "lenet5_1998": [150, 6, 6 * 75, 9 * 100, 150, 16, 48000, 10080],  # the coefficients of S2 and S4 count as weights
}
FIXED_CLASSES = {"lenet5_1998"}


def trainable(net) -> list:
    return [param for param in net.collect_params().values() if param.grad_req != "null"]


def started(name: str, batch_size: int = 2):
    """A net with weights, and the shape of its input."""
    net, shape = zoo.get_net(name), (batch_size, *zoo.INPUT_SHAPES[name])
    net.initialize()
    net(mx.nd.zeros(shape))  # the shapes of most parameters are known only now
    return net, shape


def randomize(net, seed: int) -> list[np.ndarray]:
    """Give every trainable parameter, biases too, values large enough for nonlinear activations; returns them."""
    rng = np.random.default_rng(seed)
    values = []
    for param in trainable(net):
        fan_in = prod(param.shape[1:]) or 1
        value = rng.normal(0, 6 / fan_in**0.5 if len(param.shape) > 1 else 0.5, param.shape).astype(np.float32)
        param.set_data(mx.nd.array(value))
        values.append(value)
    return values


def digits(name: str, n: int = 24) -> np.ndarray:
    """Real images as the net's input: float32 (n, 1, h, w)."""
    pixels = read_idx(SAMPLES / "t10k-images-idx3-ubyte.gz")[:n, None] / np.float32(255)
    margin = (zoo.INPUT_SHAPES[name][1] - 28) // 2
    pixels = np.pad(pixels, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    return (pixels * 1.275 - 0.1 if name == "lenet5_1998" else pixels).astype(np.float32)


@pytest.mark.parametrize("name", sorted(zoo.NETS))
def test_every_net_has_its_parameters_and_ten_outputs(name):
    net, shape = started(name)
    net.hybridize()
    assert net(mx.nd.zeros(shape)).shape == (2, 10)
    sizes = {param.name: prod(param.shape) for param in trainable(net)}
    assert sum(sizes.values()) == PARAMETERS[name]
    assert [size for param, size in sizes.items() if not param.endswith("bias")] == WEIGHTS[name]


def test_the_relu_net_without_biases_has_the_61470_of_write_up_000():
    assert sum(WEIGHTS["lenet5_relu_maxpool"]) == 61_470


@pytest.mark.parametrize("name", sorted(zoo.NETS))
def test_the_shapes_in_the_comments_are_the_nets(name):
    source = Path(zoo.__file__).read_text()
    body = re.search(rf"def {name}\(.*?return net", source, re.DOTALL)[0]
    commented = [tuple(map(str.strip, shape.split(","))) for shape in re.findall(r"-> \((b, [^)]*)\)", body)]
    taken = re.search(r"\((b, [^)]*)\) ->", body)[1].split(", ")[1:]
    assert tuple(map(int, taken)) == zoo.INPUT_SHAPES[name]
    net, shape = started(name)
    X = mx.nd.zeros(shape)
    shapes = []
    for layer in net:
        X = layer(X)
        shapes.append(X.shape)
    names = {"b": 2, "classes": 10}
    assert [tuple(names.get(size) or int(size) for size in shape) for shape in commented] == shapes


@pytest.mark.parametrize("name", sorted(zoo.NETS))
def test_the_logits_are_those_of_plain_numpy(name):
    net, _ = started(name)
    X = digits(name)
    for seed in range(3):
        expected = numpy_nets.logits(name, randomize(net, seed), X)
        assert expected.std(axis=0).min() > 0.01 * abs(expected).max()  # the outputs depend on the images
        for hybridized in (False, True):
            net.hybridize(hybridized)
            got = net(mx.nd.array(X)).asnumpy()
            assert abs(got - expected).max() <= 1e-5 * abs(expected).max()


@pytest.mark.parametrize("name", sorted(zoo.NETS))
def test_the_gradients_are_those_of_plain_numpy(name):
    net, _ = started(name)
    for layer in net:
        if isinstance(layer, nn.Dropout):
            layer._rate = 0
    net.hybridize()
    X, rng = digits(name, 4), np.random.default_rng(1)
    values = [value.astype(np.float64) for value in randomize(net, 0)]
    direction = [rng.normal(0, 1, value.shape) for value in values]
    weights = rng.normal(0, 1, (4, 10))  # of the logits, in the sum that is differentiated
    with mx.autograd.record():
        total = (net(mx.nd.array(X)) * mx.nd.array(weights)).sum()
    total.backward()
    got = sum((param.grad().asnumpy() * d).sum() for param, d in zip(trainable(net), direction, strict=True))
    step = 1e-6
    ahead, behind = (
        (numpy_nets.logits(name, [v + s * d for v, d in zip(values, direction, strict=True)], X) * weights).sum()
        for s in (step, -step)
    )
    assert got == pytest.approx((ahead - behind) / (2 * step), rel=1e-3)


@pytest.mark.parametrize("name", sorted(set(zoo.NETS) - FIXED_CLASSES))
def test_other_class_counts(name):
    net = zoo.get_net(name, classes=47)
    net.initialize()
    assert net(mx.nd.zeros((1, *zoo.INPUT_SHAPES[name]))).shape == (1, 47)


def test_the_net_of_1998_has_ten_classes_and_says_why():
    with pytest.raises(InputError, match=r"lenet5_1998 cannot have 47 classes: .*pictures of the ten digits"):
        zoo.get_net("lenet5_1998", classes=47)


@pytest.mark.parametrize("name", sorted(zoo.NETS))
def test_a_saved_net_loads_again(name, tmp_path):
    net, shape = started(name)
    randomize(net, 0)
    net.save_parameters(str(tmp_path / "net.params"))
    again = zoo.get_net(name)
    again.load_parameters(str(tmp_path / "net.params"))
    X = mx.nd.array(digits(name, shape[0]))
    assert (net(X) == again(X)).asnumpy().all()


def test_lenet_is_the_books_sequential():
    net = zoo.lenet()
    assert type(net) is mx.gluon.nn.Sequential
    assert [type(layer).__name__ for layer in net] == ["Conv2D", "MaxPool2D", "Conv2D", "MaxPool2D", *["Dense"] * 3]


def test_unknown_net_names_the_choices():
    with pytest.raises(InputError, match=r"unknown net 'lent'; choose from .*lenet5_sigmoid_maxpool"):
        zoo.get_net("lent")
