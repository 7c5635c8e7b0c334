"""A run, or pretrained weights -> the net with its recipe's preprocessing; images -> class probabilities, scores.

Evaluation and prediction use the `Transform` that the run was trained with. The user's own pictures are first converted
to the form of the run's data set (pictures/forms.py).
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import mxnet as mx
import numpy as np
from mxnet import nd
from mxnet.gluon import Block

from gluon_lenet.data.batches import Batches
from gluon_lenet.data.catalogue import DatasetEntry, get_entry
from gluon_lenet.data.datasets import Dataset, load_dataset
from gluon_lenet.devices import parse_ctx
from gluon_lenet.engines.choice import choose
from gluon_lenet.errors import InputError
from gluon_lenet.fields import decode
from gluon_lenet.inference.pictures.fit import FIELD
from gluon_lenet.inference.pictures.folder import load_folder, load_to_score
from gluon_lenet.inference.pictures.forms import FORMS
from gluon_lenet.inference.scores import Scores
from gluon_lenet.nets import pretrained
from gluon_lenet.training import checkpoint
from gluon_lenet.training.config import RunConfig
from gluon_lenet.training.recipes import Recipe
from gluon_lenet.training.run_dir import BEST, CONFIG, LAST, RunDir

log = logging.getLogger(__name__)

PRETRAINED = "pretrained:"  # before the name of a recipe, in place of a run's directory
WEIGHTS = {"best": BEST, "last": LAST}
WORTH_LOADING = 1000  # images: for fewer, loading the fused kernels takes longer than MXNet's whole computation


@dataclass(frozen=True)
class _Kept:
    """Weights, and where they and what they need are described."""

    name: str  # of the recipe
    recipe: Recipe
    entry: DatasetEntry  # of its data set
    run: RunConfig | None  # None for those of the package
    weights: str  # which: best, last or pretrained
    file: Path
    config: Path  # the file that holds the recipe
    load: Callable[[Block], object]


def _of_run(path: str | os.PathLike, weights: str | None) -> _Kept:
    """The weights of a run's directory."""
    directory = RunDir(path)
    config = directory.read_config()
    try:
        entry = config.entry
    except InputError as error:
        raise InputError(f"{directory.path / CONFIG}: {error}") from None
    weights = weights or ("best" if (directory.path / BEST).exists() else "last")
    file = directory.path / WEIGHTS[weights]
    if not file.exists():
        kept = [name for name, other in WEIGHTS.items() if (directory.path / other).exists()]
        raise InputError(f"{directory.path} has no {file.name}; it has {', '.join(kept) or 'no'} weights")
    config.check_owns(file, checkpoint.read_header(file))
    load = partial(checkpoint.load, file)
    return _Kept(config.recipe, config.settings, entry, config, weights, file, directory.path / CONFIG, load)


def _of_package(path: str | os.PathLike, weights: str | None) -> _Kept:
    """The weights that come with the package, by `pretrained:RECIPE`."""
    card = pretrained.read_card(str(path).removeprefix(PRETRAINED))
    if weights is not None:
        raise InputError(f"--weights {weights}: {path} has one set of weights, and no others to choose")
    file, config = (pretrained.FOLDER / f"{card.recipe}{ending}" for ending in (".safetensors", ".json"))
    recipe = decode(msgspec.json.encode(card.settings), Recipe, f"{config}, settings")
    entry = get_entry(recipe.dataset)
    return _Kept(card.recipe, recipe, entry, None, "pretrained", file, config, partial(pretrained.load, card))


class Trained:
    """The net of a finished or interrupted run, on one device, with the preprocessing of its training."""

    def __init__(self, path: str | os.PathLike, weights: str | None = None, ctx: str = "auto"):
        """Read the run in `path`; its data set is not read.

        Args:
            path: a run's directory, or `pretrained:RECIPE` for the weights that come with the package.
            weights: `best` (by validation accuracy) or `last`; by default the best if the run has them.
            ctx: the device, as `--ctx` names it.

        Raises:
            InputError: there is no run or are no such pretrained weights, its weights are missing, damaged or another
                net's, or the device is unusable.
        """
        contexts = parse_ctx(ctx)
        if len(contexts) > 1:
            raise InputError(f"context list {ctx!r} names {len(contexts)} devices; one is needed here")
        (self.ctx,) = contexts
        kept = _of_package(path, weights) if str(path).startswith(PRETRAINED) else _of_run(path, weights)
        self.name, self.recipe, self.entry = kept.name, kept.recipe, kept.entry
        self.weights, self.file, self._run = kept.weights, kept.file, kept.run
        self.classes, self.transform = self.entry.classes, self.recipe.transform
        self.net = self.recipe.build_net(classes=len(self.classes))
        self.net.initialize(ctx=self.ctx)
        blank = np.zeros((1, FIELD, FIELD), dtype=np.uint8)
        try:
            with contextlib.redirect_stdout(None):  # Gluon prints shapes that do not fit
                self.net(self.transform(blank, self.ctx))  # infers the layers' shapes
        except (mx.base.MXNetError, ValueError):  # ValueError if a layer's shape cannot be inferred
            raise InputError(f"{kept.config}: {self.recipe.net} takes no images of shape {self.input_shape}") from None
        kept.load(self.net)
        self.net.hybridize()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(1, h, w) of one image as the net sees it."""
        return self.transform.image_shape(np.zeros((1, FIELD, FIELD), dtype=np.uint8))

    def load_data(self, data_dir: str | None = None) -> Dataset:
        """The data set of the run, from `data_dir` or from where the run read it.

        Raises:
            InputError, DataError: as `load_dataset`; or as `load_folder`, also if its pictures are no longer those that
                the run was trained and tested with.
        """
        where = data_dir or (self._run and self._run.data_dir)
        if self._run is None or self._run.classes is None:
            return load_dataset(self.recipe.dataset, where)
        data = load_folder(where, self.entry.form)
        self._run.check_unchanged(data)
        return data

    def load_folder(self, folder: str) -> Dataset:
        """A user's folder of pictures, to test the net with (`load_to_score`).

        Warns if the net was trained on that folder, and it has changed since.
        """
        trained_on = self._run.data_sha256 if self._run else {}
        data = load_to_score(folder, self.entry.form, self.classes, trained_on)
        own = self._run is not None and self._run.classes is not None and os.path.abspath(folder) == self._run.data_dir
        if own and data.sha256["test"] != trained_on.get("test"):
            log.warning(
                "%s has changed since the training; the net may have been trained on some of its images", folder
            )
        return data

    def read_image(self, path: str | os.PathLike) -> np.ndarray:
        """The user's picture in a file, in the form of the run's data set: uint8 (28, 28), background 0.

        Raises:
            InputError: it cannot be read, is blank or, for a net of digits, not a drawing of one digit; one line that
                begins with the path.
        """
        return FORMS[self.entry.form].read(path)

    def normalize(self, grey: np.ndarray) -> np.ndarray:
        """The same for a grey picture (h, w), 0 to 255, in memory; whether it shows a digit is not checked."""
        return FORMS[self.entry.form].normalize(grey)

    def probabilities(self, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """uint8 images (n, 28, 28) -> float32 (n, classes), the softmax of the net's outputs.

        The outputs of `lenet5_1998` are minus the penalties of its RBF units; their softmax is the posterior of the
        paper's equation 9, given that the image is one of the ten digits and not rubbish.

        Raises:
            InputError: an output is NaN or infinite, because the weights are too large.
        """
        if not len(images):
            return np.zeros((0, len(self.classes)), dtype=np.float32)
        data_iter = Batches(
            images, np.zeros(len(images), np.int32), min(batch_size, len(images)), transform=self.transform
        )
        mode = "auto" if len(images) >= WORTH_LOADING else "autograd"
        logits = choose(self.net, [self.ctx], data_iter, mode).logits(data_iter)
        if not np.isfinite(logits).all():
            raise InputError(f"{self.file}: the net's outputs are NaN or infinite; its weights are too large to use")
        return nd.softmax(nd.array(logits)).asnumpy()

    def score(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, Scores]:
        """The predicted class of each image, int64 (n,), and the scores against the labels (n,)."""
        predictions = self.probabilities(images).argmax(axis=1)
        return predictions, Scores.of(labels, predictions, len(self.classes))


def probabilities(net: Block, batches: Iterable[nd.NDArray]) -> np.ndarray:
    """The softmax of the outputs of `net` for the batches X (b, c, h, w), concatenated: float32 (n, classes).

    The batches may lie on another device than the net.
    """
    ctx = next(iter(net.collect_params().values())).list_ctx()[0]
    return np.concatenate([nd.softmax(net(X.as_in_context(ctx))).asnumpy() for X in batches])
