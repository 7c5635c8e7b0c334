"""uint8 arrays (n, 28, 28) and labels (n,) -> seeded, shuffled mini-batches (X, y) from memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
from mxnet import nd

from gluon_lenet.data.augment import Augmentation
from gluon_lenet.data.datasets import load_dataset
from gluon_lenet.data.transforms import Transform
from gluon_lenet.errors import InputError


class Batches:
    """Mini-batches of a data set in memory; iterates like a Gluon `DataLoader`: `len(it)`, `for X, y in it`.

    X is float32 (b, 1, h, w), in [0, 1] unless `transform` says otherwise, y is int32 (b,); the last batch holds what
    is left. Nothing is done image by image: one batch is one gather of uint8 rows and one conversion.

    The order of the k-th pass over the data, and how `augment` bends each image in it, follow from `seed` and k alone,
    so a pass can be repeated by setting `epoch`, the number of passes begun so far.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        transform: Transform | None = None,
        augment: Augmentation | None = None,
    ):
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} labels; there must be one label an image")
        if not 1 <= batch_size <= len(images):
            raise InputError(f"batch size {batch_size} must be between 1 and the number of images, {len(images)}")
        self.images, self.labels = images, labels.astype(np.int32)
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.transform, self.augment = transform or Transform(), augment
        self.epoch = 0

    @property
    def num_examples(self) -> int:
        """Number of images in one pass."""
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image of X: (1, h, w)."""
        return self.transform.image_shape(self.images)

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def raw(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """One pass before `transform`: for each batch images uint8 (m, h, w), which of them (b,), and labels (m,).

        The images are all there are, or, if they are augmented, those of a few batches.
        """
        epoch, self.epoch = self.epoch, self.epoch + 1
        order = np.arange(len(self.images))
        seeds = self.seeds(epoch)
        if self.shuffle:
            np.random.default_rng(seeds["shuffle"]).shuffle(order)
        if self.augment is None:
            for rows in _slices(order, self.batch_size):
                yield self.images, rows, self.labels
        else:
            rng = np.random.default_rng(seeds["augment"])
            # Several batches at once: MXNet takes half a millisecond to begin
            for rows in _slices(order, self.batch_size * max(1, _AUGMENTED // self.batch_size)):
                images, labels = self.augment(self.images[rows], rng), self.labels[rows]
                for part in _slices(np.arange(len(rows)), self.batch_size):
                    yield images, part, labels

    def seeds(self, epoch: int) -> dict[str, list[int]]:
        """What the generators, of the order and of `augment`, are seeded with for pass `epoch` (from 0)."""
        return {"shuffle": [self.seed, epoch], "augment": [self.seed, epoch, 1]}

    @cached_property
    def resized_images(self) -> np.ndarray:
        """All images, after the transform's resizing: uint8 (n, h, w)."""
        return self.transform.resized(self.images)

    def __iter__(self) -> Iterator[tuple[nd.NDArray, nd.NDArray]]:
        for images, rows, labels in self.raw():
            yield self.transform(images[rows]), nd.array(labels[rows], dtype=np.int32)


_AUGMENTED = 1024  # about how many images are augmented at once


def _slices(array: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The array in pieces of `size`; the last holds what is left."""
    return (array[start : start + size] for start in range(0, len(array), size))


def load_data(
    name: str, batch_size: int, resize: int | None = None, root: str | None = None, seed: int | None = None
) -> tuple[Batches, Batches]:
    """Training batches (shuffled) and test batches (in order) of the data set `name`.

    Args:
        name: `fashion_mnist` or `mnist`.
        batch_size: images a batch.
        resize: side in pixels to resize the images to; None keeps 28.
        root: a folder with the four IDX files; None finds or fetches them (see `data/sources.py`).
        seed: of the shuffling; None draws one from NumPy's global generator, so that `np.random.seed` governs it as it
            governs the book's loader.

    Raises:
        InputError: unknown name, or a batch size outside 1..number of images.
        DataError: the files cannot be had, or are not what they should be.
    """
    data = load_dataset(name, root)
    if seed is None:
        seed = int(np.random.randint(2**31))
    transform = Transform(resize)
    return (
        Batches(data.train_images, data.train_labels, batch_size, shuffle=True, seed=seed, transform=transform),
        Batches(data.test_images, data.test_labels, batch_size, transform=transform),
    )


def load_data_fashion_mnist(batch_size, resize=None, root=None, seed=None) -> tuple[Batches, Batches]:
    """Fashion-MNIST as the chapter loads it: `train_iter, test_iter`; see `load_data`."""
    return load_data("fashion_mnist", batch_size, resize, root, seed)


def load_data_mnist(batch_size, resize=None, root=None, seed=None) -> tuple[Batches, Batches]:
    """MNIST, like `load_data_fashion_mnist`."""
    return load_data("mnist", batch_size, resize, root, seed)
