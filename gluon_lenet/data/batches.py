"""uint8 arrays (n, 28, 28) and labels (n,) -> seeded, shuffled mini-batches (X, y) from memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from mxnet import nd

from gluon_lenet.data.augment import Augmentation
from gluon_lenet.data.datasets import load_dataset
from gluon_lenet.data.transforms import Transform
from gluon_lenet.errors import InputError


class Batch(NamedTuple):
    """A batch as it is stored, for either engine: the images, which rows of them, and how to transform them."""

    images: np.ndarray  # uint8 (n, h, w), already resized if the transform resizes
    rows: np.ndarray  # int64 (b,)
    labels: np.ndarray  # int32 (n,)
    transform: Transform

    def arrays(self) -> tuple[nd.NDArray, nd.NDArray]:
        """X float32 (b, 1, h, w) and y int32 (b,)."""
        transform = replace(self.transform, resize=None)
        return transform(self.images[self.rows]), nd.array(self.labels[self.rows], dtype=np.int32)


class Batches:
    """Mini-batches of a data set in memory; iterates like a Gluon `DataLoader`: `len(it)`, `for X, y in it`.

    X is float32 (b, 1, h, w), in [0, 1] unless `transform` says otherwise, y is int32 (b,); the last batch may be
    smaller. Nothing is done image by image: a batch is one gather of uint8 rows and one conversion.

    The order of the k-th pass over the data and its random augmentation depend on `seed` and k alone, so a pass can be
    repeated by setting `epoch`, the number of passes begun so far.

    Args:
        images: uint8 (n, h, w).
        labels: integers (n,), at least 0; a net must have more classes than the largest.
        batch_size: 1 to n.
        shuffle: whether to shuffle the images in every pass.
        seed: for the order and for `augment`; at least 0.
        transform: how the images are converted for the net.
        augment: random augmentation, uint8 (n, h, w) -> uint8 (n, h, w).

    Raises:
        InputError: wrong arrays or a wrong batch size; the message says what is wrong.
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
        images, labels = np.ascontiguousarray(images), np.asarray(labels)
        if images.dtype != np.uint8 or images.ndim != 3 or not images.size:
            raise InputError(f"images must be uint8 (n, h, w), not {images.dtype} {images.shape}")
        if labels.shape != (len(images),):
            raise InputError(f"{len(images)} images, but labels of shape {labels.shape}; there must be one per image")
        check_labels(labels)
        if seed < 0:
            raise InputError(f"seed {seed} must be at least 0")
        if not 1 <= batch_size <= len(images):
            raise InputError(f"batch size {batch_size} must be between 1 and the number of images, {len(images)}")
        self.images, self.labels = images, labels.astype(np.int32)
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.transform, self.augment = transform or Transform(), augment
        self.epoch = 0
        self._resized = ()  # (images, size, resized images)

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

    def parts(self) -> Iterator[Batch]:
        """One pass in as few parts as possible: each is several batches whose images are stored together."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        order, seeds = np.arange(len(self.images)), self.seeds(epoch)
        if self.shuffle:
            np.random.default_rng(seeds["shuffle"]).shuffle(order)
        if self.augment is not None:
            rng = np.random.default_rng(seeds["augment"])
            # several batches at once, so that there is something to share out among threads
            for rows in _slices(order, self.batch_size * max(1, _AUGMENTED // self.batch_size)):
                yield self._copied(self._augmented(rows, rng), rows)
        elif self.transform.resize is None:
            yield Batch(self.images, order, self.labels, self.transform)
        elif len(self.images) * self.transform.resize**2 <= _MOST_KEPT and _is_read_only(self.images):
            yield Batch(self._resized_images(), order, self.labels, self.transform)
        else:  # too many to keep, or writable, so that they may change before the next batch
            for rows in _slices(order, self.batch_size):
                yield self._copied(self.images[rows], rows)

    def batches(self) -> Iterator[Batch]:
        """One pass, batch by batch."""
        for part in self.parts():
            for rows in _slices(part.rows, self.batch_size):
                yield part._replace(rows=rows)

    def __iter__(self) -> Iterator[tuple[nd.NDArray, nd.NDArray]]:
        return (batch.arrays() for batch in self.batches())

    def seeds(self, epoch: int) -> dict[str, list[int]]:
        """The seeds of the generators for the order and for `augment` in pass `epoch` (from 0)."""
        return {"shuffle": [self.seed, epoch], "augment": [self.seed, epoch, 1]}

    def _copied(self, images: np.ndarray, rows: np.ndarray) -> Batch:
        """A part of its own, of images made from `rows`, in that order."""
        return Batch(self.transform.resized(images), np.arange(len(rows)), self.labels[rows], self.transform)

    def _augmented(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        images = np.ascontiguousarray(self.augment(self.images[rows], rng))
        if images.dtype != np.uint8 or images.ndim != 3 or len(images) != len(rows):
            raise InputError(
                f"augment made {images.dtype} {images.shape} of {len(rows)} images; it must return uint8 (n, h, w)"
            )
        return images

    def _resized_images(self) -> np.ndarray:
        """All images, resized by the transform and cached: uint8 (n, h, w)."""
        images, size = self.images, self.transform.resize
        if not (self._resized and self._resized[0] is images and self._resized[1] == size):
            self._resized = images, size, self.transform.resized(images)
        return self._resized[2]


def check_labels(labels: np.ndarray, num_classes: int | None = None) -> None:
    """Raise InputError unless labels, of any shape, are whole numbers from 0 to `num_classes` - 1.

    Without `num_classes`, which only a net knows, any int32 of at least 0 is accepted. Labels are checked here, for
    either engine: MXNet silently replaces a label that does not exist by the nearest class.
    """
    labels = np.asarray(labels)
    if not labels.size:
        return
    most = np.iinfo(np.int32).max if num_classes is None else num_classes - 1
    whole = labels.dtype.kind in "iu" or (labels.dtype.kind == "f" and num_classes is not None)
    if not whole:
        raise InputError(f"labels must be integers, not {labels.dtype}")
    if labels.min() >= 0 and labels.max() <= most and (labels.dtype.kind != "f" or (labels == np.rint(labels)).all()):
        return
    wrong = labels[~((labels >= 0) & (labels <= most) & (labels == np.rint(labels)))]
    raise InputError(f"label {wrong.flat[0]} is not a class; labels must be whole numbers from 0 to {most}")


def _is_read_only(array: np.ndarray) -> bool:
    """Whether neither the array nor one that it is a view of can be written to."""
    while isinstance(array, np.ndarray):
        if array.flags.writeable:
            return False
        array = array.base
    return array is None or memoryview(array).readonly


_AUGMENTED = 1024  # about how many images are augmented at once
_MOST_KEPT = 2**28  # bytes of resized images


def _slices(array: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The array in pieces of `size`; the last may be smaller."""
    return (array[start : start + size] for start in range(0, len(array), size))


def load_data(
    name: str, batch_size: int, resize: int | None = None, root: str | None = None, seed: int | None = None
) -> tuple[Batches, Batches]:
    """Training batches (shuffled) and test batches (in order) of the data set `name`.

    Args:
        name: `fashion_mnist` or `mnist`.
        batch_size: images per batch.
        resize: side in pixels to resize the images to; None keeps 28.
        root: a folder with the four IDX files; None finds or fetches them (see `data/cache.py`).
        seed: for shuffling; None draws one from NumPy's global generator, so that `np.random.seed` controls it, as for
            the book's loader.

    Raises:
        InputError: unknown name, or a batch size outside 1..number of images.
        DataError: the files are unavailable or wrong.
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
