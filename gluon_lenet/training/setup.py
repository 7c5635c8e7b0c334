"""A recipe, devices, a seed -> data, net, trainer and engine, ready to train; writes no files."""

from __future__ import annotations

import os
import platform
import sys
import time

import mxnet as mx
import numpy as np

import gluon_lenet
from gluon_lenet.compat import threads
from gluon_lenet.data.batches import Batches
from gluon_lenet.data.datasets import Dataset, load_dataset
from gluon_lenet.engines.base import dropout_seed
from gluon_lenet.engines.choice import choose
from gluon_lenet.errors import InputError
from gluon_lenet.training.config import VERSION, Generator, RunConfig
from gluon_lenet.training.loop import Data, Loop
from gluon_lenet.training.metrics import Progress
from gluon_lenet.training.recipes import Recipe


class Setup:
    """Everything a training needs: the net, its trainer, its engine, the loaders.

    Args:
        name: of the recipe, for files and figures.
        recipe: everything that determines the result.
        contexts: the devices that share each batch.
        seed: for weights, shuffling, augmentation and dropout.
        data_dir: a folder with the four IDX files; None finds or fetches them.
        mode: the engine, one of `engines.choice.MODES`.
        dataset: a user's folder of pictures, which `data_dir` names; None loads the recipe's data set.

    Raises:
        InputError: the batch size does not suit the data or the devices, or the kernels do not support the net.
        DataError: the data are unavailable.
    """

    def __init__(
        self,
        name: str,
        recipe: Recipe,
        contexts: list[mx.Context],
        seed: int,
        data_dir: str | None = None,
        mode: str = "auto",
        dataset: Dataset | None = None,
    ):
        self.name, self.recipe, self.contexts, self.seed, self.data_dir = name, recipe, contexts, seed, data_dir
        if data_dir is not None and _as_text(data_dir) != data_dir:
            raise InputError(f"data folder {_as_text(data_dir)}: its name is not valid text for config.json")
        self.dataset = dataset or load_dataset(recipe.dataset, data_dir)
        self.data = self._loaders()
        mx.random.seed(seed)
        self.net = recipe.build_net(classes=len(self.dataset.classes))
        self.net.initialize(recipe.init.build(), ctx=contexts)
        self.net(mx.nd.zeros(self.input_shape, ctx=contexts[0]))  # infers shapes and initializes weights
        self.net.hybridize(static_alloc=True, static_shape=True)
        self.trainer = recipe.build_trainer(self.net, len(self.data.train))
        self.engine = choose(self.net, contexts, self.data.train, mode, recipe.loss.build())

    gang_config = None  # of the workers that train together; one process has none

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(1, c, h, w) of one image as the net sees it."""
        return (1, *self.data.train.image_shape)

    def loop(self) -> Loop:
        """The loop that trains the net."""
        batch_size = None if self.recipe.last_batch_in_full else self.recipe.batch_size
        return Loop(self.trainer, self.engine, batch_size, self.seed)

    def configuration(self, run_id: str) -> RunConfig:
        """Everything needed to repeat the training, as a run with this id."""
        return RunConfig(
            version=VERSION,
            id=run_id,
            recipe=self.name,
            settings=self.recipe,
            seed=self.seed,
            ctx=[str(ctx) for ctx in self.contexts],
            threads=threads.num_threads(),
            backprop=self.engine.name,
            gang=self.gang_config,
            data_dir=self.data_dir,
            classes=list(self.dataset.classes) if self.dataset.is_folder else None,
            data_sha256=self.dataset.sha256,
            versions={
                "gluon_lenet": gluon_lenet.__version__,
                "mxnet": mx.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            platform=platform.platform(),
            command=[_as_text(part) for part in (sys.executable, *sys.orig_argv[1:])],
            started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        )

    def rng_state(self, progress: Progress) -> dict[str, Generator]:
        """The state of the random number generators: their seeds."""
        seeds = self.data.train.seeds(progress.epoch - 1)  # reseeded each epoch
        return {
            **{name: Generator("numpy PCG64", seed) for name, seed in seeds.items()},
            "dropout": Generator("mxnet", dropout_seed(self.seed, progress.epoch, progress.batch)),  # each batch
        }

    def _loaders(self) -> Data:
        dataset, recipe = self.dataset, self.recipe
        images, labels, validation = dataset.train_images, dataset.train_labels, None
        if recipe.num_validation:
            train, held = _hold_out(len(images), recipe.num_validation)
            held_out, images = images[held], images[train]
            held_out.flags.writeable = images.flags.writeable = False  # read-only, so that they are resized only once
            validation = self._batches(held_out, labels[held])
            labels = labels[train]
        if recipe.num_train is not None:
            if recipe.num_train > len(images):
                raise InputError(f"num_train {recipe.num_train} must be at most {len(images)}, all there are")
            images, labels = images[: recipe.num_train], labels[: recipe.num_train]
        train = self._batches(images, labels, shuffle=True, augment=recipe.augment)
        return Data(train, self._batches(dataset.test_images, dataset.test_labels), validation)

    def _batches(self, images, labels, shuffle=False, augment=None) -> Batches:
        batch_size = self.recipe.batch_size if shuffle else min(self.recipe.batch_size, len(images))
        order = {"shuffle": shuffle, "seed": self.seed, "augment": augment}
        batches = Batches(images, labels, batch_size, transform=self.recipe.transform, **order)
        smallest = batches.num_examples % batch_size or batch_size
        if smallest < len(self.contexts):  # every batch, including the last, needs an image for each device
            raise InputError(
                f"batch size {batch_size} leaves a batch of {smallest} of the {batches.num_examples} images for "
                f"{len(self.contexts)} devices; choose another batch size"
            )
        return batches


def _as_text(name: str) -> str:
    """A file name, whose bytes may not be valid UTF-8, as text for JSON."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _hold_out(num_images: int, num_validation: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and the validation images: the same split for every seed of a run."""
    order = np.random.default_rng(1998).permutation(num_images)
    return np.sort(order[num_validation:]), np.sort(order[:num_validation])
