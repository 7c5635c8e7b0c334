"""trained.py and scores.py: a run is evaluated with the preprocessing of its training, and scores are counts."""

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from conftest import new_directory
from gluon_lenet.data.batches import Batches
from gluon_lenet.inference.scores import Scores
from gluon_lenet.inference.trained import Trained
from gluon_lenet.training.recipes import RECIPES
from gluon_lenet.training.run import Run
from gluon_lenet.training.setup import Setup


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_is_evaluated_as_it_is_trained(name, tmp_path):
    """Preprocessing and net of the untrained run and of what is read from its directory are the same."""
    setup = Setup(name, RECIPES[name], [mx.cpu()], seed=3)
    Run.create(setup, new_directory(tmp_path / "run"))
    X, _ = next(iter(setup.data.test))
    trained = Trained(tmp_path / "run", ctx="cpu")
    images = setup.dataset.test_images[: len(X)]
    assert trained.transform(images).asnumpy().tobytes() == X.asnumpy().tobytes()
    expected = mx.nd.softmax(setup.net(X)).asnumpy()
    assert trained.probabilities(images, batch_size=len(X)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_test_image_as_a_file_gives_the_batch_of_the_test_iterator(name, tmp_path):
    """Training and prediction share one preprocessing: the same floats, bit by bit."""
    setup = Setup(name, RECIPES[name], [mx.cpu()], seed=0)
    Run.create(setup, new_directory(tmp_path / "run"))
    trained, images = Trained(tmp_path / "run", ctx="cpu"), setup.dataset.test_images[:150]
    read = []
    for image in images:
        for pixels in (image, 255 - image):  # light on dark and dark on light
            Image.fromarray(pixels).save(tmp_path / "image.png")
            read.append(trained.read_image(tmp_path / "image.png"))
    assert np.array_equal(read[::2], images)
    assert np.array_equal(read[1::2], images)
    (expected, _), *_ = Batches(images, setup.dataset.test_labels[:150], 150, transform=setup.data.test.transform)
    assert trained.transform(np.array(read[::2])).asnumpy().tobytes() == expected.asnumpy().tobytes()
    assert expected.shape[1:] == setup.data.test.image_shape


def test_scores_count():
    scores = Scores.of(np.array([0, 0, 1, 2, 2, 2], dtype=np.uint8), np.array([0, 1, 1, 2, 0, 2]), 4)
    assert scores.confusion.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    assert (scores.num_examples, scores.num_correct, scores.accuracy) == (6, 4, 4 / 6)
    assert scores.by_class == [(2, 1), (1, 1), (3, 2), (0, 0)]
