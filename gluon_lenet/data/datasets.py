"""A data set's name -> its train and test arrays, uint8 (n, 28, 28) and (n,), and its class names."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np

from gluon_lenet.data import cache, idx
from gluon_lenet.data.catalogue import get_entry


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory; the arrays are read-only."""

    name: str
    train_images: np.ndarray  # uint8 (60000, 28, 28), 0 is black; other numbers of images in a folder of pictures
    train_labels: np.ndarray  # uint8 (60000,), positions in classes
    test_images: np.ndarray  # uint8 (10000, 28, 28)
    test_labels: np.ndarray  # uint8 (10000,)
    classes: tuple[str, ...]
    sha256: dict[str, str]  # file name -> SHA-256 of its unpacked bytes; of a folder's pictures: of each part
    is_folder: bool = False  # whether it is a user's folder of pictures

    @property
    def classes_zh(self) -> tuple[str, ...]:
        """The class names in Chinese."""
        return get_entry(self.name).classes_zh


def load_dataset(name: str, data_dir: str | os.PathLike | None = None) -> Dataset:
    """The data set `name`, `fashion_mnist` or `mnist`, found or fetched by `cache.fetch`.

    The arrays are read-only and private to this process, and hold the bytes whose SHA-256 was verified in this call.

    Raises:
        InputError: an unknown name; or `data_dir` lacks a file or holds a wrong one.
        DataError: no source has the files, or the cache cannot be written.
    """
    return parse_dataset(name, cache.fetch(name, data_dir))


def load_training_set(name: str, data_dir: str | os.PathLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The training images uint8 (60000, 28, 28) and labels uint8 (60000,) alone; otherwise like `load_dataset`."""
    entry = get_entry(name)
    files = tuple(file for file in entry.files if file.name.startswith("train"))
    return _parse(cache.fetch(replace(entry, files=files), data_dir), "train")


def parse_dataset(name: str, found: dict[str, cache.Found]) -> Dataset:
    """The data set `name` from its four files, as `cache.fetch` returns them."""
    entry = get_entry(name)
    train_images, train_labels = _parse(found, "train")
    test_images, test_labels = _parse(found, "t10k")
    return Dataset(
        name=name,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=entry.classes,
        sha256={file.name: file.sha256 for file in entry.files},
    )


def _parse(found: dict[str, cache.Found], part: str) -> tuple[np.ndarray, np.ndarray]:
    images_file, labels_file = found[f"{part}-images-idx3-ubyte"], found[f"{part}-labels-idx1-ubyte"]
    images = idx.parse_images(images_file.data, str(images_file.path))
    labels = idx.parse_labels(labels_file.data, str(labels_file.path))
    idx.check_pair(images, labels, str(images_file.path), str(labels_file.path))
    return images, labels
