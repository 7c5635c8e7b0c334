"""viz/windows.py: the numbers of a cross-correlation, its pictures, its film and its widget."""

import io

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from gluon_lenet.viz.windows import Correlation, framed
from tests.helpers.figures import check_nothing_stays

KERNEL = np.arange(-3.0, 3.0).reshape(2, 3)


@pytest.fixture(scope="module")
def correlation(fashion):
    return Correlation(fashion.train_images[0, 8:14, 6:16] / 255, KERNEL)


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_the_result_is_mxnets(correlation):
    image, kernel = (mx.nd.array(array)[None, None] for array in (correlation.image, KERNEL))
    expected = mx.nd.Convolution(image.reshape((1, 1, 6, 10)), kernel, no_bias=True, kernel=(2, 3), num_filter=1)
    np.testing.assert_allclose(correlation.result, expected[0, 0].asnumpy(), rtol=1e-5, atol=1e-6)
    assert len(correlation) == 5 * 8


def test_a_step_shows_the_products_and_their_sum(correlation):
    left, middle, right = correlation.step(11).axes  # row 1, column 3
    window = correlation.image[1:3, 3:6]
    shown = texts(middle)
    assert shown[0] == f"{window[0, 0]:.2f} × −3"
    assert shown[-1] == f"{window[1, 2] * 2:.2f}"
    assert f"{(window * KERNEL).sum():.2f}" in middle.get_title()
    assert [patch.get_xy() for patch in left.patches] == [(2.5, 0.5)]
    so_far = right.images[0].get_array()
    assert np.isfinite(np.ma.filled(so_far, np.nan)).sum() == 12, "what has been computed so far"


def test_a_step_keeps_nothing_of_the_one_before(correlation):
    check_nothing_stays(correlation.step, 11, 30)


def test_the_film_and_the_widget(correlation):
    film = Image.open(io.BytesIO(correlation.film(range(0, 40, 10))))
    assert (film.format, film.n_frames, film.info["loop"]) == ("GIF", 4, 0)
    player = correlation.player()
    shown = player._repr_mimebundle_()
    assert Image.open(io.BytesIO(shown["image/png"])).format == "PNG"
    assert correlation.player(still=11)._repr_mimebundle_()["image/png"] != shown["image/png"]
    assert "application/vnd.jupyter.widget-view+json" in shown
    controls, picture = player.widget.children
    before = picture.value
    controls.children[1].value = 7
    assert picture.value != before, "the slider changes the picture"


def test_framed_names_every_frame():
    axis = framed(np.zeros((9, 9)), {"one": (1, 2, 3, 4), "two": (0, 0, 1, 1)}, "title").axes[0]
    assert [patch.get_label() for patch in axis.patches] == ["one", "two"]
    inner, outer = (patch.get_bbox().bounds for patch in axis.patches)
    np.testing.assert_allclose(inner, (1.62, 0.62, 3.76, 2.76))
    assert outer == (-0.5, -0.5, 1, 1)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["one", "two"]
