"""viz/films.py and viz/evidence.py: the film of a training, maps of occlusion, patches, points in the plane."""

import io

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from gluon_lenet.viz.evidence import heat_maps, patches, scatter
from gluon_lenet.viz.films import Snapshot, Training
from tests.helpers.figures import check_nothing_stays, png

LAYERS = ("卷积层 1", "输出层")


@pytest.fixture(scope="module")
def training():
    rng = np.random.default_rng(0)
    snapshots = [
        Snapshot(
            batch=10 * i,
            loss=2.3 - 0.1 * i,
            filters=(i + 1) * rng.uniform(-1, 1, size=(6, 5, 5)),
            maps=rng.uniform(size=(6, 24, 24)),
            gradients=dict(zip(LAYERS, (0.001 * (i + 1), 1.0), strict=True)),
        )
        for i in range(3)
    ]
    return Training(snapshots, level=2.303)


def test_a_picture_shows_the_loss_so_far_and_that_moments_gradients(training):
    figure = training.picture(1)
    loss, gradients = figure.axes[-2:]
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [(0, 2.3), (10, 2.2)])
    assert "10" in loss.get_title()
    assert "2.20" in loss.get_title()
    assert [bar.get_height() for bar in gradients.patches] == [0.002, 1.0]
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    np.testing.assert_array_equal(shown[0], training.snapshots[1].filters[0])
    np.testing.assert_array_equal(shown[6], training.snapshots[1].maps[0])


def test_all_pictures_have_one_scale(training):
    shot = training.snapshots[2]  # has the largest weights, and by the gradients of snapshot 0 the smallest
    for number in (0, 2):
        figure = training.picture(number)
        bound = figure.axes[0].images[0].get_clim()[1]
        assert bound == np.abs(shot.filters).max(), number
        assert figure.axes[-1].get_ylim() == pytest.approx((0.001 / 1.5, 1.5)), number


def test_a_picture_keeps_nothing_of_the_one_before(training):
    check_nothing_stays(training.picture, 0, 2)


def test_every_frame_of_the_film_has_the_colours_of_its_picture(training):
    film = Image.open(io.BytesIO(training.film()))
    assert (film.format, film.n_frames, film.info["loop"]) == ("GIF", 3, 0)
    for number in range(film.n_frames):  # a GIF's first frame once lost its palette
        film.seek(number)
        frame = np.asarray(film.convert("RGB"), int)
        picture = np.asarray(Image.open(io.BytesIO(png(training.picture(number), dpi=80))).convert("RGB"), int)
        assert frame.shape == picture.shape
        assert np.abs(frame - picture).mean() < 6, number


def test_heat_maps_have_one_scale():
    maps = [np.full((4, 4), 0.2), np.linspace(0, 1, 16).reshape(4, 4)]
    figure = heat_maps([np.zeros((6, 6))] * 2, maps, ["a", "b"], "p")
    shown = [axis.images[0] for axis in figure.axes if axis.images]
    assert [image.get_clim() for image in shown[2:4]] == [(0, 1), (0, 1)]
    np.testing.assert_array_equal(shown[3].get_array(), maps[1])
    assert shown[3].get_extent() == [0.5, 4.5, 4.5, 0.5], "in the middle of the image's 6 by 6 pixels"
    assert figure.axes[0].get_xlim() == figure.axes[2].get_xlim()
    assert figure.axes[-1].get_ylabel() == "p"


def test_patches_are_in_rows_named_by_their_units():
    rows = {"0": [np.full((3, 3), 10), np.full((3, 3), 20)], "1": [np.full((3, 3), 30)]}
    figure = patches(rows)
    names = [axis.get_ylabel() for axis in figure.axes]
    assert names == ["0", "", "1", ""]
    assert [int(axis.images[0].get_array()[0, 0]) if axis.images else None for axis in figure.axes] == [
        10,
        20,
        30,
        None,
    ]


def test_points_have_their_classs_colour_and_names_do_not_overlap():
    points = np.array([[0, 0], [1, 0], [0, 0.01], [1, 0.01], [5, 5], [6, 6]], float)
    figure = scatter({"plane": points}, np.array([0, 0, 1, 1, 2, 2]), ["a", "b", "c"])
    (axis,) = figure.axes
    assert [to_hex(line.get_color()) for line in axis.lines] == ["#1f77b4", "#ff7f0e", "#2ca02c"]
    np.testing.assert_array_equal(axis.lines[2].get_xydata(), points[4:])
    places = {text.get_text(): text.get_position() for text in axis.texts}
    assert places["c"] == (5.5, 5.5)
    assert abs(places["a"][1] - places["b"][1]) > 0.2
