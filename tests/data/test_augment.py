"""data/augment.py: the effect of a random distortion, and that a pass can be repeated."""

import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from conftest import ROOT
from gluon_lenet import train
from gluon_lenet.data import augment
from gluon_lenet.data.augment import CLOTHING, HANDWRITING, LECUN_1998, Augmentation
from gluon_lenet.data.batches import Batches
from gluon_lenet.data.sampling import sample
from gluon_lenet.training.run_dir import RunDir


class Drawn:
    """Replaces a random generator: each amount is this fraction of its bound."""

    def __init__(self, rotation=0.0, scale=0.0, squeeze=0.0, shear=0.0, x=0.0, y=0.0, flip=1.0):
        self.amounts = [rotation, scale, squeeze, shear, x, y, flip]

    def uniform(self, low, high, size):
        assert (low, high, size[0]) == (-1, 1, len(self.amounts))
        return np.repeat(np.array(self.amounts)[:, None], size[1], axis=1)


def mass(image):
    """Centre of mass (x, y) and standard deviations along x and y, in pixels."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    weights = image / image.sum()
    centre = [(weights * axis).sum() for axis in (x, y)]
    return *centre, *(np.sqrt((weights * (axis - c) ** 2).sum()) for axis, c in zip((x, y), centre, strict=True))


@pytest.fixture(scope="module")
def block():
    """A bright rectangle left of and above the middle of a 28 x 28 image, as a batch of one."""
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 8:14, 6:16] = 200
    return image


def sampled_by_mxnet(augmentation, images, seed):
    """The same random images by MXNet's operators."""
    n, height, width = images.shape
    matrices = augmentation.matrices(n, height, width, np.random.default_rng(seed))
    affine = {"transform_type": "affine", "target_shape": (height, width)}
    grid = mx.nd.GridGenerator(mx.nd.array(matrices.reshape(n, 6)), **affine)
    pixels = mx.nd.BilinearSampler(mx.nd.array(images[:, None], dtype=np.float32), grid)
    return pixels.round().astype(np.uint8).asnumpy()[:, 0]


@pytest.mark.parametrize("augmentation", [HANDWRITING, CLOTHING, LECUN_1998, Augmentation(rotation=90, scale=0.9)])
def test_pixels_are_those_of_mxnet(fashion, augmentation):
    """But for the last bit of MXNet's matrix product, which depends on the processor and may turn a rounding."""
    noise = np.random.default_rng(0).integers(0, 256, (100, 9, 31), dtype=np.uint8)
    for images in (fashion.test_images[:500], noise):
        sampled = augmentation(images, np.random.default_rng(1))
        difference = abs(sampled.astype(int) - sampled_by_mxnet(augmentation, images, seed=1))
        assert difference.max() <= 1
        assert np.count_nonzero(difference) <= difference.size / 50_000


def test_pixels_without_a_position_are_background():
    """They were read from anywhere in memory."""
    images = np.full((50, 28, 28), 255, np.uint8)
    with np.errstate(all="ignore"):
        for rows in (images[:, :1], images[:, :, :1], images[:, :1, :1]):
            assert not HANDWRITING(rows, np.random.default_rng(0)).any()
        for endless in (Augmentation(shear=1e39), Augmentation(shift=1e39), Augmentation(rotation=np.inf)):
            assert not endless(images, np.random.default_rng(0)).any()


def test_images_are_the_same_however_many_threads_share_them(fashion, monkeypatch):
    images = fashion.test_images[:500]
    matrices = HANDWRITING.matrices(*images.shape, np.random.default_rng(0))
    expected = sample(images, matrices, np.empty_like(images))
    for number in (1, 2, 7):
        monkeypatch.setattr(augment, "num_threads", lambda number=number: number)
        assert (HANDWRITING(images, np.random.default_rng(0)) == expected).all()


def test_a_few_images_are_not_handed_to_other_threads(fashion, monkeypatch):
    monkeypatch.setattr(augment, "num_threads", lambda: 8)
    monkeypatch.setattr(augment, "_pool", None)
    for n in (0, 1, 30):
        assert len(HANDWRITING(fashion.test_images[:n], np.random.default_rng(0))) == n


@pytest.mark.parametrize("is_warm", [False, True])
def test_a_thread_that_outlasts_the_main_one(is_warm):
    code = f"""
import atexit, threading
import numpy as np
from gluon_lenet.data import augment
augment.num_threads = lambda: 2
images = np.full((300, 28, 28), 255, np.uint8)
def distort(name):
    print(name, augment.HANDWRITING(images, np.random.default_rng(0)).shape, flush=True)
def outlast():
    threading.main_thread().join()
    distort("thread")
if {is_warm}:
    distort("main")
threading.Thread(target=outlast).start()
atexit.register(distort, "at exit")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    names = ["main"] * is_warm + ["thread", "at exit"]
    assert done.stdout.splitlines() == [f"{name} (300, 28, 28)" for name in names], done.stderr


def test_no_bound_changes_nothing(fashion):
    images = fashion.test_images[:100]
    assert (Augmentation()(images, np.random.default_rng(0)) == images).all()


def test_shift_is_in_pixels(block):
    moved = Augmentation(shift=2)(block, Drawn(x=1, y=-0.5))
    assert (moved[0] == np.roll(block[0], (1, -2), axis=(0, 1))).all()


def test_flip_exchanges_left_and_right_of_half_the_images(fashion, block):
    assert (Augmentation(flip=True)(block, Drawn(flip=-1))[0] == block[0, :, ::-1]).all()
    images = fashion.test_images[:400]
    flipped = Augmentation(flip=True)(images, np.random.default_rng(0))
    as_they_are, mirrored = ((flipped == other).all(axis=(1, 2)) for other in (images, images[:, :, ::-1]))
    assert (as_they_are | mirrored).all()
    assert 160 < as_they_are.sum() < 240


@pytest.mark.parametrize(
    ("augmentation", "drawn", "wider", "higher"),
    [
        (Augmentation(scale=0.25), Drawn(scale=1), 1.25, 1.25),
        (Augmentation(scale=0.25), Drawn(scale=-1), 0.75, 0.75),
        (Augmentation(squeeze=0.25), Drawn(squeeze=1), 1.25, 1 / 1.25),
    ],
)
def test_scale_and_squeeze(block, augmentation, drawn, wider, higher):
    *_, width, height = mass(block[0])
    *_, new_width, new_height = mass(augmentation(block, drawn)[0])
    assert new_width / width == pytest.approx(wider, rel=0.03)
    assert new_height / height == pytest.approx(higher, rel=0.03)


def test_rotation_is_pillows(fashion):
    """Compared with Pillow's rotation about the centre, which has the opposite direction."""
    image = fashion.test_images[1]
    rotated = Augmentation(rotation=30)(image[None], Drawn(rotation=1))[0]
    expected = np.asarray(Image.fromarray(image).rotate(-30, Image.Resampling.BILINEAR))
    assert np.abs(rotated.astype(int) - expected).mean() < 2
    assert np.abs(rotated.astype(int) - image).mean() > 20


def test_shear_slants_and_keeps_the_height(block):
    before, after = block[0], Augmentation(shear=0.5)(block, Drawn(shear=1))[0]
    rows = [mass(after[row : row + 1])[0] for row in range(9, 13)]
    assert np.diff(rows) == pytest.approx(np.full(3, 0.5), abs=0.05)
    assert mass(after)[3] == pytest.approx(mass(before)[3], rel=0.03)


@pytest.mark.parametrize("augment", [HANDWRITING, LECUN_1998, CLOTHING])
def test_every_augmentation_keeps_most_of_every_image(augment, fashion):
    images = fashion.train_images[:2000]
    distorted = augment(images, np.random.default_rng(0))
    assert distorted.dtype == np.uint8
    assert (distorted != images).any(axis=(1, 2)).all()
    share = distorted.reshape(2000, -1).sum(axis=1) / images.reshape(2000, -1).sum(axis=1)
    assert share.min() > 0.5


def test_a_pass_is_repeated_by_seed_and_number(fashion):
    def batches(seed=0, epoch=0, augment=CLOTHING):
        it = Batches(fashion.train_images[:2500], fashion.train_labels[:2500], 300, shuffle=True, seed=seed)
        it.augment, it.epoch = augment, epoch
        return [(images[rows], labels[rows]) for images, rows, labels, _ in it.batches()]

    first = batches()
    assert [len(labels) for _, labels in first] == 8 * [300] + [100]
    for again, expected in zip(batches(), first, strict=True):
        assert (again[0] == expected[0]).all()
        assert (again[1] == expected[1]).all()
    plain = batches(augment=None)
    assert all((a[1] == b[1]).all() for a, b in zip(first, plain, strict=True)), "in the order without augmentation"
    for other in (batches(epoch=1), batches(seed=1), plain):
        assert (first[0][0] != other[0][0]).any()


def test_x_and_y_are_the_stored_batch_transformed(fashion):
    it = Batches(fashion.train_images[:50], fashion.train_labels[:50], 20, augment=CLOTHING)
    X, y = next(iter(it))
    it.epoch = 0
    images, rows, labels, _ = next(it.batches())
    assert (X.asnumpy()[:, 0] == (mx.nd.array(images[rows]) / 255).asnumpy()).all()
    assert (y.asnumpy() == labels[rows]).all()


def test_the_command_lines_augment(small, tmp_path):
    run = tmp_path / "run"
    args = ["--recipe", "relu_adam_mnist", "--augment", "--epochs", "1", "--quiet", "--run-dir", str(run)]
    assert train.main(args) == 0
    assert RunDir(run).read_config().settings.augment == HANDWRITING
