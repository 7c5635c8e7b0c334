"""layers.py and losses.py: the paper's layers, table, bitmaps, initializer and loss; the write-ups' blocks."""

import mxnet as mx
import numpy as np
import pytest

import numpy_nets
from gluon_lenet.nets import layers, losses, zoo


def random(*shape, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def test_c3_has_the_papers_connections():
    assert ["".join(map(str, sorted(seen))) for seen in layers.C3_CONNECTIONS] == numpy_nets.TABLE_I
    assert [len(seen) for seen in layers.C3_CONNECTIONS] == 6 * [3] + 9 * [4] + [6]
    assert sum(len(seen) for seen in layers.C3_CONNECTIONS) == 60
    for i in range(6):  # each map of S2 feeds ten maps of C3
        assert sum(i in seen for seen in layers.C3_CONNECTIONS) == 10


def test_c3_is_a_masked_convolution_forward_and_backward():
    c3 = layers.TableConv2D()
    c3.initialize(mx.init.Normal(1))
    X, head = mx.nd.array(random(3, 6, 14, 14)), mx.nd.array(random(3, 16, 10, 10, seed=1))
    dense = np.zeros((16, 6, 5, 5), np.float32)
    place = {n: iter(getattr(c3, f"weight{n}").data().asnumpy()) for n in (3, 4, 6)}
    for kernel, seen in zip(dense, layers.C3_CONNECTIONS, strict=True):
        kernel[list(seen)] = next(place[len(seen)])
    dense, bias = mx.nd.array(dense), c3.bias.data().copy()
    dense.attach_grad()
    bias.attach_grad()
    with mx.autograd.record():
        (mx.nd.Convolution(X, dense, bias, kernel=(5, 5), num_filter=16) * head).sum().backward()
    for hybridized in (False, True):
        c3.hybridize(hybridized)
        with mx.autograd.record():
            (c3(X) * head).sum().backward()
        assert (c3(X) == mx.nd.Convolution(X, dense, bias, kernel=(5, 5), num_filter=16)).asnumpy().all()
        place = {n: iter(getattr(c3, f"weight{n}").grad().asnumpy()) for n in (3, 4, 6)}
        for gradient, seen in zip(dense.grad.asnumpy(), layers.C3_CONNECTIONS, strict=True):
            np.testing.assert_array_equal(next(place[len(seen)]), gradient[list(seen)])
        np.testing.assert_array_equal(c3.bias.grad().asnumpy(), bias.grad.asnumpy())


def test_the_bitmaps_are_ten_different_pictures_of_ink_and_paper():
    bitmaps = layers.digit_bitmaps()
    assert bitmaps.shape == (10, 84)
    assert bitmaps.dtype == np.float32
    assert set(bitmaps.flat) == {-1, 1}
    np.testing.assert_array_equal(bitmaps, numpy_nets.digits())
    different = (bitmaps[:, None] != bitmaps[None]).sum(axis=2)  # pixels
    assert different[~np.eye(10, dtype=bool)].min() == 14


def test_rbf_outputs_are_minus_squared_distances():
    rbf = layers.RBFOutput(layers.digit_bitmaps())
    rbf.initialize()
    rbf.hybridize()
    X = random(5, 84)
    expected = -((X[:, None].astype(np.float64) - layers.digit_bitmaps()) ** 2).sum(axis=2)
    np.testing.assert_allclose(rbf(mx.nd.array(X)).asnumpy(), expected, rtol=1e-5)
    at_the_centres = rbf(mx.nd.array(layers.digit_bitmaps())).asnumpy()
    np.testing.assert_array_equal(at_the_centres.argmax(axis=1), np.arange(10))
    np.testing.assert_array_equal(at_the_centres.diagonal(), np.zeros(10))


def test_no_optimizer_and_no_initializer_moves_the_constants():
    net = zoo.get_net("lenet5_1998")
    net.initialize(mx.init.Xavier())
    net.initialize(mx.init.Constant(3), force_reinit=True)
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "wd": 0.1})
    with mx.autograd.record():
        net(mx.nd.ones((2, 1, 32, 32))).sum().backward()
    trainer.step(2)
    np.testing.assert_array_equal(net[-1].centres.data().asnumpy(), layers.digit_bitmaps())
    constants = [param for param in net.collect_params().values() if param.grad_req == "null"]
    assert sorted(param.shape for param in constants) == [(10, 84), (16, 6)]


def test_subsampling_adds_multiplies_and_shifts():
    s2 = layers.Subsampling(channels=2)
    s2.initialize()
    X = mx.nd.array(np.arange(2 * 2 * 4 * 6).reshape(2, 2, 4, 6))
    sums = X.asnumpy().reshape(2, 2, 2, 2, 3, 2).sum(axis=(3, 5))
    np.testing.assert_array_equal(s2(X).asnumpy(), sums)  # coefficient 1, bias 0
    s2.coefficient.set_data(mx.nd.array([2, -1]).reshape((2, 1, 1, 1)))
    s2.bias.set_data(mx.nd.array([3, 5]))
    np.testing.assert_array_equal(s2(X).asnumpy(), sums * [[[[2]], [[-1]]]] + [[[[3]], [[5]]]])


def test_the_squashing_function_passes_through_one():
    got = layers.ScaledTanh()(mx.nd.array([-1e3, -1, 0, 1, 1e3])).asnumpy()
    np.testing.assert_allclose(got, [-1.7159, -1, 0, 1, 1.7159], atol=1e-4)


def test_lecun1998_keeps_weights_within_their_fan_in():
    net = zoo.get_net("lenet5_1998")
    mx.random.seed(0)
    net.initialize(layers.LeCun1998())
    net(mx.nd.zeros((1, 1, 32, 32)))
    c1, s2, c3, s4, c5, f6 = (net[i] for i in (0, 2, 4, 6, 8, 10))
    weights = {25: c1.weight, 75: c3.weight3, 100: c3.weight4, 150: c3.weight6, 400: c5.weight, 120: f6.weight}
    for fan_in, weight in weights.items():
        values = weight.data().asnumpy()
        assert 0.9 * 2.4 / fan_in < abs(values).max() <= 2.4 / fan_in
        assert values.std() == pytest.approx(2.4 / fan_in / 3**0.5, rel=0.1)
    for layer in (s2, s4):
        assert (layer.coefficient.data() == 1).asnumpy().all()
    for layer in (c1, s2, c3, s4, c5, f6):
        assert (layer.bias.data() == 0).asnumpy().all()


@pytest.mark.parametrize("hybridized", [False, True], ids=["imperative", "hybridized"])
def test_map_loss_and_its_gradient_are_equation_9(hybridized):
    penalties = np.abs(random(12, 10, scale=3)).astype(np.float64)
    penalties[:2] *= 100  # far from every bitmap, as at the start of training
    labels = np.arange(12) % 10
    logits = mx.nd.array(-penalties)
    logits.attach_grad()
    loss = losses.MAPLoss(j=0.1)
    loss.hybridize(hybridized)
    with mx.autograd.record():
        per_image = loss(logits, mx.nd.array(labels))
    per_image.backward()
    np.testing.assert_allclose(per_image.asnumpy(), numpy_nets.map_loss(penalties, labels), rtol=1e-5)
    gradient = numpy_nets.map_loss_gradient(penalties, labels)
    np.testing.assert_allclose(-logits.grad.asnumpy(), gradient, rtol=1e-5, atol=1e-6)
    for i in range(10):  # and NumPy's gradient is that of NumPy's loss
        step = 1e-6 * np.eye(10)[i]
        slope = (numpy_nets.map_loss(penalties + step, labels) - numpy_nets.map_loss(penalties - step, labels)) / 2e-6
        np.testing.assert_allclose(gradient[:, i], slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("hybridized", [False, True], ids=["imperative", "hybridized"])
def test_smoothed_cross_entropy_is_that_of_smoothed_labels(smoothing, hybridized):
    logits, labels = mx.nd.array(random(12, 10, scale=3)), mx.nd.array(np.arange(12) % 10)
    expected = mx.gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)
    loss = losses.SmoothedCrossEntropy(smoothing)
    loss.hybridize(hybridized)
    smoothed = (1 - smoothing) * mx.nd.one_hot(labels, 10) + smoothing / 10
    np.testing.assert_allclose(loss(logits, labels).asnumpy(), expected(logits, smoothed).asnumpy(), rtol=1e-5)


def test_map_loss_stays_finite_and_lets_go_of_far_units():
    loss = losses.MAPLoss()
    far = mx.nd.array([[-1e4] * 10, [0.0] + [-1e4] * 9])
    np.testing.assert_allclose(
        loss(far, mx.nd.array([0, 0])).asnumpy(), [1e4 - 0.1, np.log(1 + np.exp(-0.1))], rtol=1e-6
    )


def test_map_loss_trains_the_net_of_1998():
    net, loss = zoo.get_net("lenet5_1998"), losses.MAPLoss()
    mx.random.seed(1)
    net.initialize(layers.LeCun1998())
    net.hybridize()
    X, y = mx.nd.array(random(32, 1, 32, 32)), mx.nd.array(np.arange(32) % 10)
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.002, "momentum": 0.9})
    seen = []
    for _ in range(20):
        with mx.autograd.record():
            value = loss(net(X), y)
        value.backward()
        trainer.step(32)
        seen.append(float(value.mean().asscalar()))
    assert seen[-1] < 0.8 * seen[0]


def test_print_layer_prints_the_shape_on_the_way(capsys):
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(6, 5), layers.PrintLayer("C1"), layers.PrintLayer(values=True))
    net.initialize(mx.init.Zero())
    X = mx.nd.zeros((1, 1, 5, 6))
    out = net(X)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["C1 (1, 6, 1, 2)", "(1, 6, 1, 2)"]
    assert lines[2].startswith("[[[[0. 0.]]")
    net.hybridize()
    assert (net(X) == out).asnumpy().all()
    assert "prints nothing in a hybridized net" in capsys.readouterr().out


def test_print_layer_stands_in_the_books_sequential_and_passes_gradients(capsys):
    layer, X = layers.PrintLayer(), mx.nd.array([1, 2])
    net = mx.gluon.nn.Sequential()
    net.add(layer)
    X.attach_grad()
    with mx.autograd.record():
        (net(X) * 3).sum().backward()
    assert X.grad.asnumpy().tolist() == [3, 3]
    assert capsys.readouterr().out == "(2,)\n"


@pytest.mark.parametrize("hybridized", [False, True], ids=["imperative", "hybridized"])
def test_reshape_makes_flat_images_usable(hybridized):
    net = mx.gluon.nn.HybridSequential()
    net.add(layers.Reshape(), zoo.get_net("lenet5_sigmoid_avgpool"))
    net.initialize()
    net.hybridize(hybridized)
    flat = mx.nd.array(random(3, 784))
    assert (net(flat) == net[1](flat.reshape((3, 1, 28, 28)))).asnumpy().all()
    assert layers.Reshape((1, 32, 32))(mx.nd.zeros((5, 32, 32))).shape == (5, 1, 32, 32)


@pytest.mark.parametrize("hybridized", [False, True], ids=["imperative", "hybridized"])
@pytest.mark.parametrize("values", [1000, 1024, 392, 1568])
def test_reshape_refuses_images_of_another_size(values, hybridized):
    net = mx.gluon.nn.HybridSequential()
    net.add(layers.Reshape())
    net.hybridize(hybridized)
    with pytest.raises(mx.MXNetError, match=rf"{values}.*784|784.*{values}"):
        net(mx.nd.zeros((49, values))).wait_to_read()  # 49 * 1024 == 64 * 784


def test_with_loss_returns_the_loss_when_labels_are_given():
    net = zoo.get_net("lenet5_relu_maxpool")
    model = layers.WithLoss(net)
    model.initialize(mx.init.Xavier())
    model.hybridize()
    X, y = mx.nd.array(random(4, 1, 28, 28)), mx.nd.array([7, 2, 1, 0])
    logits = model(X)
    assert logits.shape == (4, 10)
    loss, same = model(X, y)
    assert (same == logits).asnumpy().all()
    chances = np.exp(logits.asnumpy().astype(np.float64))
    chances /= chances.sum(axis=1, keepdims=True)
    assert loss.shape == (1,)
    assert loss.asscalar() == pytest.approx(-np.log(chances[range(4), [7, 2, 1, 0]]).mean(), rel=1e-5)
    assert set(model.collect_params()) == set(net.collect_params())


def test_with_loss_trains_as_the_write_up_does():
    model = layers.WithLoss(zoo.get_net("lenet5_relu_maxpool"))
    mx.random.seed(0)
    model.initialize(mx.init.Xavier())
    trainer = mx.gluon.Trainer(model.collect_params(), "adam", {"learning_rate": 0.001})
    X, y = mx.nd.array(random(16, 1, 28, 28)), mx.nd.array(np.arange(16) % 10)
    seen = []
    for _ in range(10):
        with mx.autograd.record():
            loss, _ = model(X, y)
        loss.backward()
        trainer.step(1)
        seen.append(loss.asscalar())
    assert seen[-1] < seen[0]


def test_with_loss_takes_another_loss():
    net = zoo.get_net("lenet5_1998")
    model = layers.WithLoss(net, losses.MAPLoss())
    model.initialize(layers.LeCun1998())
    X, y = mx.nd.zeros((2, 1, 32, 32)), mx.nd.array([3, 4])
    loss, logits = model(X, y)
    assert loss.asscalar() == pytest.approx(numpy_nets.map_loss(-logits.asnumpy(), [3, 4]).mean(), rel=1e-5)
