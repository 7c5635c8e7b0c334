"""The drawing pad of a notebook: what it computes in the kernel, its picture, its refresh during a training."""

from __future__ import annotations

import io

import numpy as np
import pytest
from mxnet import gluon, init, nd
from PIL import Image

import gluon_lenet
from gluon_lenet.data.transforms import Transform
from gluon_lenet.engines.choice import choose
from gluon_lenet.errors import InputError
from gluon_lenet.nets.zoo import get_net
from gluon_lenet.training.loop import Data, Loop
from gluon_lenet.viz import DrawingPad
from gluon_lenet.web.samples import sample_images


def made(name="lenet5_sigmoid_maxpool", classes=10):
    net = get_net(name, classes)
    net.initialize(init.Xavier())
    return net


def test_it_shows_what_the_net_of_the_kernel_computes():
    net = made()
    pad = DrawingPad(net, "fashion_mnist", Transform(mean=0.5))
    image = sample_images("fashion_mnist")[3]
    pad.image = image.tobytes()
    pad.asked += 1  # as the browser does
    expected = net(Transform(mean=0.5)(image[None]))
    values = np.frombuffer(pad.values, "<f4")
    assert sum(int(np.prod(layer["shape"])) for layer in pad.layers) == values.size
    np.testing.assert_array_equal(values[-10:], expected.asnumpy()[0])
    np.testing.assert_array_equal(values[:784], Transform(mean=0.5)(image[None]).asnumpy().ravel())
    np.testing.assert_allclose(pad.probabilities, nd.softmax(expected).asnumpy()[0], rtol=1e-6)
    assert pad.layers[1] == {"name": "Conv2D 5x5, sigmoid", "shape": [6, 24, 24]}
    assert pad.layers[-1] == {"name": "Dense", "shape": [10, 1, 1]}


def test_a_picture_stands_beside_the_widget():
    data, _ = DrawingPad(made())._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    with Image.open(io.BytesIO(data["image/png"])) as picture:
        assert picture.format == "PNG"
        assert picture.width > picture.height


@pytest.mark.parametrize("name", ["lenet5_tanh_avgpool", "lenet5_1998"])
def test_other_nets(name):
    transform = Transform(pad=2)
    pad = DrawingPad(made(name), transform=transform)
    assert pad.layers[0] == {"name": "input", "shape": [1, 32, 32]}
    assert len(pad.picture()) > 1000


@pytest.mark.parametrize("mode", ["autograd", "auto"])
def test_it_is_refreshed_after_each_epoch(small_batches, mode):
    """By the loop's own iterator, and by a reader's loop; by either engine, whose weights are the net's own."""
    train_iter, test_iter = small_batches
    net = made()
    pad, shown = DrawingPad(net, "fashion_mnist"), []
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.9})
    loop = Loop(trainer, choose(net, [gluon_lenet.try_gpu()], train_iter, mode), 256)
    for result in pad.watch(loop.epochs(Data(train_iter, test_iter), 2)):
        shown.append(pad.values)
        image = np.frombuffer(pad.image, np.uint8).reshape(1, 28, 28)
        np.testing.assert_array_equal(np.frombuffer(pad.values, "<f4")[-10:], net(Transform()(image)).asnumpy()[0])
        assert result.epoch == len(shown)
    for _ in pad.watch(range(1)):
        for parameter in net.collect_params().values():
            parameter.set_data(parameter.data() * 0.5)
    assert len({*shown, pad.values}) == 3


def test_bad_input():
    with pytest.raises(InputError, match="unknown data set 'digits'"):
        DrawingPad(made(), "digits")
    with pytest.raises(InputError, match="the net has 4 outputs, and mnist has 10 classes"):
        DrawingPad(made(classes=4))
    with pytest.raises(InputError, match=r"an image of shape \(28, 27\)"):
        DrawingPad(made(), image=np.zeros((28, 27), np.uint8))
