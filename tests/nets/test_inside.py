"""nets/inspect.py: outputs and gradients of each layer, against the net itself and NumPy."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import nd

from gluon_lenet import get_net
from gluon_lenet.nets.inspect import gradient_norms, layer_outputs
from gluon_lenet.nets.table import layer_rows
from gluon_lenet.nets.zoo import INPUT_SHAPES, NETS, lenet_variant


def initialized(net, input_shape=(1, 28, 28)):
    mx.random.seed(0)
    net.initialize(mx.init.Xavier())
    net(nd.zeros((1, *input_shape)))  # draws the weights
    return net


@pytest.mark.parametrize("name", sorted(NETS))
def test_outputs_are_those_of_the_layers(name):
    net = initialized(get_net(name), INPUT_SHAPES[name])
    X = nd.random.uniform(shape=(2, *INPUT_SHAPES[name]))
    outputs = layer_outputs(net, X)
    rows = layer_rows(net, X.shape)
    assert [text for text, _ in outputs] == ["input", *(row.name for row in rows)]
    assert [output.shape for _, output in outputs[1:]] == [row.output_shape for row in rows]
    assert outputs[0][1] is X
    assert np.array_equal(outputs[-1][1].asnumpy(), net(X).asnumpy())


def test_outputs_take_the_callers_names():
    net = initialized(lenet_variant(units=()))
    names = ["图", "卷积 1", "池化 1", "卷积 2", "池化 2", "输出"]
    assert [name for name, _ in layer_outputs(net, nd.zeros((1, 1, 28, 28)), names)] == names
    with pytest.raises(ValueError, match="zip"):
        layer_outputs(net, nd.zeros((1, 1, 28, 28)), names[:-1])


def test_gradient_norms_are_those_of_the_mean_loss():
    net = initialized(lenet_variant(units=(12,)))
    X, y = nd.random.uniform(shape=(8, 1, 28, 28)), nd.array([3, 1, 4, 1, 5, 9, 2, 6])
    norms = gradient_norms(net, X, y)
    assert list(norms) == ["1. Conv2D 5x5, sigmoid", "2. Conv2D 5x5, sigmoid", "3. Dense, sigmoid", "4. Dense"]
    *_, (_, hidden), (_, logits) = layer_outputs(net, X)
    softmax = np.exp(logits.asnumpy()) / np.exp(logits.asnumpy()).sum(axis=1, keepdims=True)
    errors = softmax - np.eye(10)[y.asnumpy().astype(int)]  # the derivative of the loss by the logits
    expected = np.linalg.norm(errors.T @ hidden.asnumpy() / 8)
    assert norms["4. Dense"] == pytest.approx(expected, rel=1e-4)
    assert norms["1. Conv2D 5x5, sigmoid"] < norms["4. Dense"] / 20  # sigmoid's gradients vanish backwards


def test_the_variant_as_it_stands_is_the_chapters_net():
    nets = initialized(lenet_variant()), initialized(get_net("lenet5_sigmoid_maxpool"))
    assert layer_rows(nets[0], (1, 1, 28, 28)) == layer_rows(nets[1], (1, 1, 28, 28))
    X = nd.random.uniform(shape=(2, 1, 28, 28))
    assert np.array_equal(nets[0](X).asnumpy(), nets[1](X).asnumpy())


def test_the_variant_varies():
    net = initialized(lenet_variant(kernel_size=9, channels=(3, 8), activation="relu", units=(30, 20), classes=4))
    shapes = [row.output_shape[1:] for row in layer_rows(net, (1, 1, 28, 28))]
    assert shapes == [(3, 20, 20), (3, 10, 10), (8, 2, 2), (8, 1, 1), (30,), (20,), (4,)]
    assert [layer.act._act_type for layer in net if getattr(layer, "act", None)] == 4 * ["relu"]
