"""nets.py: shapes, parameter counts, and the book's own net."""

import re
from math import prod
from pathlib import Path

from gluon_lenet import nets
from gluon_lenet.errors import InputError

import mxnet as mx
import pytest

PARAMETERS = {"lenet5_sigmoid_maxpool": 44_426}
INPUT = {"lenet5_sigmoid_maxpool": (2, 1, 28, 28)}


def count(net) -> int:
    return sum(prod(param.shape) for param in net.collect_params().values())


@pytest.mark.parametrize("name", sorted(nets.NETS))
def test_every_net_has_its_parameters_and_ten_outputs(name):
    net = nets.get_net(name)
    net.initialize()
    net.hybridize()
    assert net(mx.nd.zeros(INPUT[name])).shape == (2, 10)
    assert count(net) == PARAMETERS[name]


@pytest.mark.parametrize("name", sorted(nets.NETS))
def test_the_shapes_in_the_comments_are_the_nets(name):
    source = Path(nets.__file__).read_text()
    body = re.search(rf"def {name}\(.*?return net", source, re.DOTALL)[0]
    commented = [tuple(map(str.strip, shape.split(","))) for shape in re.findall(r"-> \((b, [^)]*)\)", body)]
    net = nets.get_net(name)
    net.initialize()
    X = mx.nd.zeros(INPUT[name])
    shapes = []
    for layer in net:
        X = layer(X)
        shapes.append(X.shape)
    names = {"b": 2, "classes": 10}
    assert [tuple(names.get(size) or int(size) for size in shape) for shape in commented] == shapes


def test_other_class_counts():
    net = nets.get_net("lenet5_sigmoid_maxpool", classes=47)
    net.initialize()
    assert net(mx.nd.zeros((1, 1, 28, 28))).shape == (1, 47)


def test_lenet_is_the_books_sequential():
    net = nets.lenet()
    assert type(net) is mx.gluon.nn.Sequential
    assert [type(layer).__name__ for layer in net] == ["Conv2D", "MaxPool2D", "Conv2D", "MaxPool2D", *["Dense"] * 3]


def test_unknown_net_names_the_choices():
    with pytest.raises(InputError, match=r"unknown net 'lent'; choose from .*lenet5_sigmoid_maxpool"):
        nets.get_net("lent")
