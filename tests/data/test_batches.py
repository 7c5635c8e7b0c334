"""data/batches.py and data/transforms.py: the batches, compared with those of the book's own loader."""

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon.data.vision import transforms as book

import gluon_lenet
from gluon_lenet.data.transforms import Transform
from gluon_lenet.errors import InputError


def test_batches_look_like_the_books(fashion):
    train_iter, test_iter = gluon_lenet.load_data_fashion_mnist(batch_size=256, seed=0)
    assert len(train_iter) == 235
    assert len(test_iter) == 40
    sizes = []
    for X, y in train_iter:
        sizes.append(len(X))
        assert X.shape == (len(y), 1, 28, 28)
    assert sizes == [256] * 234 + [96]
    assert X.dtype == np.float32
    assert y.dtype == np.int32
    assert 0 <= X.min().asscalar() <= X.max().asscalar() == 1


def test_one_pass_has_every_image_once_under_its_label(fashion):
    batches = gluon_lenet.Batches(fashion.train_images[:1000], fashion.train_labels[:1000], 300, shuffle=True, seed=3)
    X = np.concatenate([X.asnumpy() for X, _ in batches])
    batches.epoch = 0
    y = np.concatenate([y.asnumpy() for _, y in batches])
    pixels = np.round(X[:, 0] * 255).astype(np.uint8)

    def rows(images, labels):
        return sorted(image.tobytes() + bytes([label]) for image, label in zip(images, labels, strict=True))

    assert rows(pixels, y) == rows(fashion.train_images[:1000], fashion.train_labels[:1000])
    assert not (pixels == fashion.train_images[:1000]).all()


def test_the_order_follows_from_seed_and_pass(fashion):
    def labels(seed, passes):
        batches = gluon_lenet.Batches(fashion.train_images, fashion.train_labels, 1000, shuffle=True, seed=seed)
        return [np.concatenate([y.asnumpy() for _, y in batches]) for _ in range(passes)]

    first, second = labels(seed=1, passes=2)
    assert (first == labels(seed=1, passes=1)[0]).all()
    assert (first != second).any()
    assert (first != labels(seed=2, passes=1)[0]).any()


def test_numpys_seed_governs_the_shuffling_when_none_is_given(fashion):
    def first_labels():
        np.random.seed(5)
        train_iter, _ = gluon_lenet.load_data_fashion_mnist(256)
        return next(iter(train_iter))[1].asnumpy()

    assert (first_labels() == first_labels()).all()


def test_test_images_come_in_order(fashion):
    _, test_iter = gluon_lenet.load_data_fashion_mnist(1000)
    assert (np.concatenate([y.asnumpy() for _, y in test_iter]) == fashion.test_labels).all()


@pytest.mark.parametrize("resize", [None, 32, 96])
def test_pixels_are_the_books_to_the_bit(fashion, resize):
    """As in d2lzh: image by image, Resize and then ToTensor."""
    steps = [book.Resize(resize)] if resize else []
    transform = book.Compose([*steps, book.ToTensor()])
    want = [transform(mx.nd.array(image[..., None], dtype=np.uint8)).asnumpy() for image in fashion.test_images[:20]]
    assert (Transform(resize)(fashion.test_images[:20]).asnumpy() == np.stack(want)).all()


def test_padding_and_normalization(fashion):
    """As in the 1998 paper: 32 x 32, paper -0.1, ink 1.175."""
    images = fashion.test_images[:4]
    batch = Transform(pad=2, mean=0.1 / 1.275, std=1 / 1.275)(images).asnumpy()
    assert batch.shape == (4, 1, 32, 32)
    np.testing.assert_allclose(batch[:, 0, :2], -0.1, atol=1e-6)
    np.testing.assert_allclose(batch[:, 0, 2:-2, 2:-2], images / 255 * 1.275 - 0.1, atol=1e-6)


def test_mnist_loads_too():
    _, test_iter = gluon_lenet.load_data_mnist(5)
    X, y = next(iter(test_iter))
    assert X.shape == (5, 1, 28, 28)
    assert y.asnumpy().tolist() == [7, 2, 1, 0, 4]


@pytest.mark.parametrize("batch_size", [0, -1, 60_001])
def test_batch_sizes_the_data_cannot_give(batch_size):
    with pytest.raises(InputError, match=f"batch size {batch_size} must be between 1 and .* 60000"):
        gluon_lenet.load_data_fashion_mnist(batch_size)


def test_a_root_without_the_files_is_an_error(tmp_path):
    with pytest.raises(Exception, match=str(tmp_path)):
        gluon_lenet.load_data_fashion_mnist(256, root=tmp_path)


@pytest.mark.parametrize("view", ["every second", "mirrored", "Fortran", "broadcast", "list"])
def test_images_may_lie_in_memory_as_they_like(view, fashion):
    """The kernels need them contiguous, so they are copied; MXNet copies them anyway."""
    images = fashion.train_images[:64]
    views = {
        "every second": fashion.train_images[:128:2],
        "mirrored": images[:, :, ::-1],
        "Fortran": np.asfortranarray(images),
        "broadcast": np.broadcast_to(images[0], images.shape),
        "list": list(images),
    }
    batches = gluon_lenet.Batches(views[view], np.zeros(64, np.int64), 64)
    expected = gluon_lenet.Batches(np.array(views[view], order="C"), np.zeros(64, np.int64), 64)
    assert batches.images.flags.c_contiguous
    np.testing.assert_array_equal(next(iter(batches))[0].asnumpy(), next(iter(expected))[0].asnumpy())
    net = gluon_lenet.lenet()
    net.initialize()
    assert gluon_lenet.evaluate_accuracy(batches, net) == gluon_lenet.evaluate_accuracy(expected, net)


def test_an_augmentation_may_return_a_view_and_must_return_images(fashion):
    def batches(augment):
        return gluon_lenet.Batches(fashion.train_images[:64], fashion.train_labels[:64], 32, augment=augment)

    mirrored = batches(lambda images, rng: images[:, :, ::-1])
    X, _ = next(iter(mirrored))
    np.testing.assert_array_equal(np.rint(X.asnumpy()[:, 0] * 255), fashion.train_images[:32, :, ::-1])
    assert next(mirrored.batches()).images.flags.c_contiguous
    for wrong in (lambda images, rng: images / 2, lambda images, rng: images[:3]):
        for read in (iter, gluon_lenet.Batches.batches):
            with pytest.raises(InputError, match="augment made"):
                next(read(batches(wrong)))


def test_a_seed_is_at_least_0(fashion):
    with pytest.raises(InputError, match="seed -1 must be at least 0"):
        gluon_lenet.Batches(fashion.train_images[:4], fashion.train_labels[:4], 2, seed=-1)
