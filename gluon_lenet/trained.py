"""A run's directory -> its trained net with its recipe's preprocessing; images -> class probabilities, scores.

Evaluation and prediction are fed by the `Transform` the run was trained with. In front of it stands, for the user's own
pictures, a reader that brings them into the form of the run's data set: `drawings.read_drawing` (MNIST) or
`read_clothing` (Fashion-MNIST).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from mxnet import nd

from gluon_lenet import checkpoint, drawings
from gluon_lenet.data.datasets import CLASSES, Dataset, load_dataset
from gluon_lenet.devices import parse_ctx
from gluon_lenet.errors import InputError
from gluon_lenet.nets import get_net
from gluon_lenet.recipes import Recipe
from gluon_lenet.run_dir import BEST, CONFIG, LAST, RunDir
from gluon_lenet.runs import transform_of

WEIGHTS = {"best": BEST, "last": LAST}

_SIDE = 28  # pixels of an image of MNIST and Fashion-MNIST
_NEAR = 0.05 * 255  # pixels closer to the background's grey belong to it (Xiao et al. 2017, section 2)
_BRIGHT = 250  # of 255; every image of Fashion-MNIST's test set has a pixel at least so bright


class Trained:
    """The net of a finished or interrupted run, on one device, as it was trained to be fed."""

    def __init__(self, path: str | os.PathLike, weights: str | None = None, ctx: str = "auto"):
        """Read the run in `path`; its data are not touched.

        Args:
            path: a run's directory.
            weights: `best` (by the validation images) or `last`; by default the best if the run kept them.
            ctx: the device, as `--ctx` names it.

        Raises:
            InputError: no run there, no such weights, damaged ones or another net's, or a device that cannot be used.
        """
        directory = RunDir(path)
        config = directory.read_config()
        contexts = parse_ctx(ctx)
        if len(contexts) > 1:
            raise InputError(f"context list {ctx!r} names {len(contexts)} devices; one is needed here")
        (self.ctx,) = contexts
        self.name, self.recipe, self.data_dir = config["recipe"], Recipe(**config["settings"]), config["data_dir"]
        if self.recipe.dataset not in CLASSES:
            raise InputError(
                f"{directory.path / CONFIG}: unknown data set {self.recipe.dataset!r}; choose from {', '.join(CLASSES)}"
            )
        self.classes, self.transform = CLASSES[self.recipe.dataset], transform_of(self.recipe)
        self.weights = weights or ("best" if (directory.path / BEST).exists() else "last")
        file = directory.path / WEIGHTS[self.weights]
        if not file.exists():
            kept = [name for name, other in WEIGHTS.items() if (directory.path / other).exists()]
            raise InputError(f"{directory.path} has no {file.name}; it has {', '.join(kept) or 'no'} weights")
        self.net = get_net(self.recipe.net, classes=len(self.classes))
        self.net.initialize(ctx=self.ctx)
        self.net(self.transform(np.zeros((1, _SIDE, _SIDE), dtype=np.uint8), self.ctx))  # gives the layers their shapes
        header = checkpoint.load(file, self.net)
        if header.get("net") != self.recipe.net:  # nets may differ in what has no weights: activations, pooling
            raise InputError(f"{file} holds the net {header.get('net')}, the run's is {self.recipe.net}")
        self.net.hybridize()

    def load_data(self, data_dir: str | None = None) -> Dataset:
        """The data the net was trained and is tested on, from `data_dir` or where the run had them.

        Raises:
            InputError, DataError: as `load_dataset`.
        """
        return load_dataset(self.recipe.dataset, data_dir or self.data_dir)

    def read_image(self, path: str | os.PathLike) -> np.ndarray:
        """The user's picture in a file as the run's data set has it: uint8 (28, 28), 0 the background.

        Raises:
            InputError: it cannot be read, or is blank; one line that begins with the path.
        """
        return _READERS[self.recipe.dataset](path)

    def probabilities(self, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """uint8 images (n, 28, 28) -> float32 (n, classes), the softmax of the net's outputs.

        The outputs of `lenet5_1998` are minus the penalties of its RBF units: there it is the posterior of the paper's
        equation 9, given that the image is one of the ten digits and not rubbish.
        """
        parts = [np.zeros((0, len(self.classes)), dtype=np.float32)]
        for start in range(0, len(images), batch_size):
            X = self.transform(images[start : start + batch_size], self.ctx)
            parts.append(nd.softmax(self.net(X)).asnumpy())
        return np.concatenate(parts)

    def score(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, Scores]:
        """The predicted class of each image, int64 (n,), and how it compares with the labels (n,)."""
        predictions = self.probabilities(images).argmax(axis=1)
        return predictions, Scores.of(labels, predictions, len(self.classes))


@dataclass(frozen=True, eq=False)
class Scores:
    """Counts of right and wrong predictions, by class."""

    confusion: np.ndarray  # int64 (classes, classes): images of the row's class predicted as the column's

    @classmethod
    def of(cls, labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> Scores:
        """Count the pairs of label and prediction, each 0 to num_classes - 1."""
        pairs = labels.astype(np.int64) * num_classes + predictions
        return cls(np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes))

    @property
    def num_examples(self) -> int:
        """All images."""
        return int(self.confusion.sum())

    @property
    def num_correct(self) -> int:
        """Those predicted right."""
        return int(self.confusion.trace())

    @property
    def accuracy(self) -> float:
        """The share of images predicted right."""
        return self.num_correct / self.num_examples

    @property
    def by_class(self) -> list[tuple[int, int]]:
        """For each class: images of it, and how many of those were predicted right."""
        return list(zip(self.confusion.sum(axis=1).tolist(), self.confusion.diagonal().tolist(), strict=True))


def read_clothing(path: str | os.PathLike) -> np.ndarray:
    """A picture of a piece of clothing in an image file -> uint8 (28, 28) as Fashion-MNIST has it, 0 the background.

    The files `drawings.read_drawing` reads.

    Raises:
        InputError: as `drawings.read_drawing`.
    """
    try:
        return normalize_clothing(drawings._read_grey(path, drawings.MAX_PIXELS))
    except InputError as error:
        raise InputError(f"{drawings._printable(os.fsdecode(path))}: {error}") from None


def normalize_clothing(grey: np.ndarray) -> np.ndarray:
    """A grey picture (h, w), 0 to 255, of one thing on a plain background -> uint8 (28, 28) as Fashion-MNIST has it.

    The steps of its authors (Xiao, Rasul, Vollgraf 2017, section 2): the margins go, the longer side becomes 28 pixels,
    the thing stands in the middle of a black square, and a light background has been made black by negation. Whether it
    is light is read off the picture's rim, so there must be some background around the thing. A picture of 28x28 pixels
    is in that form already; only a light background is negated. Of the 10,000 test images 9,992 come through unchanged.

    Raises:
        InputError: nothing stands out from the background.
    """
    rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    background = float(np.median(rim))
    if min(background, 255 - background) < _NEAR:
        background = float(np.rint(background / 255) * 255)  # white and black are meant; JPEG makes 253 of 255
    ink = np.maximum(background - grey if background > 127.5 else grey - background, 0)
    if grey.shape != (_SIDE, _SIDE):
        ink = drawings._without_specks(np.where(ink > _NEAR, ink, 0).astype(np.float32))
        rows, columns = np.nonzero(ink)
        if rows.size:
            ink = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        scale = _SIDE / max(ink.shape)
        height, width = (max(1, round(side * scale)) for side in ink.shape)
        ink = np.maximum(drawings._resize(np.ascontiguousarray(ink), (height, width)), 0)
        top, left = (_SIDE - height + 1) // 2, (_SIDE - width + 1) // 2  # an odd pixel goes before, as in the data set
        ink = np.pad(ink, ((top, _SIDE - height - top), (left, _SIDE - width - left)))
    if ink.max() <= _NEAR:
        raise InputError("a blank picture: nothing stands out from its background")
    if ink.max() < _BRIGHT:
        ink = ink * (255 / ink.max())
    return np.rint(ink).clip(0, 255).astype(np.uint8)


_READERS = {"mnist": drawings.read_drawing, "fashion_mnist": read_clothing}

assert _READERS.keys() == CLASSES.keys()
