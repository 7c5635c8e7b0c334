"""A recipe, a device, a seed -> a trained net and its run directory."""

from __future__ import annotations

import platform
import sys
import time
from dataclasses import asdict
from typing import Protocol

import mxnet as mx
import numpy as np
from mxnet import gluon

import gluon_lenet
from gluon_lenet import backprop, checkpoint, compat
from gluon_lenet.data.augment import AUGMENTATIONS
from gluon_lenet.data.batches import Batches
from gluon_lenet.data.datasets import load_dataset
from gluon_lenet.data.transforms import Transform
from gluon_lenet.errors import InputError
from gluon_lenet.layers import LeCun1998
from gluon_lenet.losses import MAPLoss
from gluon_lenet.metrics import EpochResult, Progress
from gluon_lenet.nets import get_net
from gluon_lenet.recipes import Recipe
from gluon_lenet.run_dir import BEST, CURVES, LAST, RunDir
from gluon_lenet.training import run_epochs


class Watcher(Protocol):
    """Who is told how a run goes."""

    def begin(self, run: Run) -> None:
        """Training is about to begin."""

    def batch(self, num_examples: int) -> None:
        """A batch of this many images is done."""

    def epoch(self, result: EpochResult) -> None:
        """An epoch and its test pass are done."""

    def should_stop(self) -> bool:
        """Asked before each batch: is the run to stop there?"""


class Run:
    """One training run: its net, trainer and data, where it stands, and its directory."""

    def __init__(
        self,
        name: str,
        recipe: Recipe,
        contexts: list[mx.Context],
        seed: int,
        data_dir: str | None = None,
        mode: str = "auto",
    ):
        """Load the data and initialize the net; nothing is written.

        Raises:
            InputError: a batch size the data or devices cannot serve, or kernels that cannot serve the net.
            DataError: the data cannot be had.
        """
        self.name, self.recipe, self.contexts, self.seed, self.data_dir = name, recipe, contexts, seed, data_dir
        self.data = data = load_dataset(recipe.dataset, data_dir)
        self.transform = transform_of(recipe)
        images, labels, self.validation_iter = data.train_images, data.train_labels, None
        if recipe.num_validation:
            train, validation = _hold_out(len(images), recipe.num_validation)
            self.validation_iter = self._batches(images[validation], labels[validation])
            images, labels = images[train], labels[train]
        augment = AUGMENTATIONS[recipe.augment] if recipe.augment else None
        self.train_iter = self._batches(images, labels, shuffle=True, augment=augment)
        self.test_iter = self._batches(data.test_images, data.test_labels)
        mx.random.seed(seed)
        self.net = get_net(recipe.net, classes=len(data.classes))
        self.net.initialize(INITIALIZERS[recipe.init](), ctx=contexts)
        self.net(mx.nd.zeros((1, *self.train_iter.image_shape), ctx=contexts[0]))  # gives the layers shapes and weights
        self.net.hybridize(static_alloc=True, static_shape=True)
        self.trainer = gluon.Trainer(
            self.net.collect_params(),
            recipe.optimizer,
            optimizer_settings(recipe, len(self.train_iter)),
            update_on_kvstore=False,
        )
        self.engine = backprop.choose(self.net, contexts, self.train_iter, mode, LOSSES[recipe.loss]())
        self.progress, self.history = Progress(), []

    def _batches(self, images, labels, shuffle=False, augment=None) -> Batches:
        batch_size = self.recipe.batch_size if shuffle else min(self.recipe.batch_size, len(images))
        batches = Batches(
            images, labels, batch_size, shuffle=shuffle, seed=self.seed, transform=self.transform, augment=augment
        )
        smallest = batches.num_examples % batch_size or batch_size
        if smallest < len(self.contexts):  # every batch, the last one too, must have an image for each device
            raise InputError(
                f"batch size {batch_size} leaves a batch of {smallest} of the {batches.num_examples} images for "
                f"{len(self.contexts)} devices; choose another batch size"
            )
        return batches

    def create_directory(self, path: str | None) -> None:
        """Make the run's directory and write its configuration and the initial weights.

        Raises:
            InputError: the directory cannot be made, or holds a run.
        """
        self.directory = RunDir.create(path, self.name)
        self.directory.write_config(
            {
                "recipe": self.name,
                "settings": asdict(self.recipe),
                "seed": self.seed,
                "ctx": [str(ctx) for ctx in self.contexts],
                "threads": compat.num_threads(),
                "backprop": type(self.engine).__name__.lower(),
                "data_dir": self.data_dir,
                "data_sha256": self.data.sha256,
                "versions": {
                    "gluon_lenet": gluon_lenet.__version__,
                    "mxnet": mx.__version__,
                    "numpy": np.__version__,
                    "python": platform.python_version(),
                },
                "platform": platform.platform(),
                "command": [sys.executable, *sys.orig_argv[1:]],
                "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            }
        )
        self.save(LAST)

    def open_directory(self, path: str) -> None:
        """Go on from the run in `path`, which this run's recipe, seed and devices were read from.

        Raises:
            InputError: its files are damaged or another run's.
        """
        self.directory = RunDir(path)
        self.directory.remove_half_written()
        header = checkpoint.load(self.directory.path / LAST, self.net, self.trainer, self.recipe.net)
        self.progress = Progress(**header["progress"])
        if header.get("rng") != self.rng_state():
            raise InputError(
                f"{self.directory.path / LAST} cannot be gone on with to the bit: its random numbers stand at "
                f"{header.get('rng')}, this version's at {self.rng_state()}"
            )
        self.history = self.directory.keep_metrics_before(self.progress.epoch)

    def save(self, file: str) -> None:
        """Write where the run stands; the file's previous state is kept until this one is whole."""
        header = {
            "recipe": self.name,
            "net": self.recipe.net,
            "seed": self.seed,
            "progress": asdict(self.progress),
            "rng": self.rng_state(),
        }
        checkpoint.save(self.directory.path / file, self.net, self.trainer, header)

    def rng_state(self) -> dict:
        """Where the generators of random numbers stand: the numbers they are seeded with."""
        epoch, batch = self.progress.epoch, self.progress.batch
        seeds = self.train_iter.seeds(epoch - 1)  # anew each epoch
        return {
            **{name: {"generator": "numpy PCG64", "seed": seed} for name, seed in seeds.items()},
            "dropout": {"generator": "mxnet", "seed": backprop.net_seed(self.seed, epoch, batch)},  # anew each batch
        }

    def train(self, watcher: Watcher) -> bool:
        """Train to the recipe's last epoch; False if the watcher stopped it, with the state of that batch saved.

        One seed and one number of threads give the same bits, stopped and resumed or not. Whatever ends the training,
        the directory keeps the results of the finished epochs, their curves, and the last good weights.

        Raises:
            DivergedError: the loss or a weight became NaN or infinite.
        """
        self.train_iter.epoch = self.progress.epoch - 1
        watcher.begin(self)
        try:
            for result in run_epochs(
                self.net,
                self.train_iter,
                self.test_iter,
                None if self.recipe.last_batch_in_full else self.recipe.batch_size,
                self.trainer,
                self.contexts,
                self.recipe.num_epochs,
                self.engine,
                self.progress,
                watcher.batch,
                watcher.should_stop,
                self.validation_iter,
                self.seed,
            ):
                self.directory.append_metrics(result)
                if result.val_acc is not None and result.val_acc > max([r.val_acc for r in self.history], default=0):
                    self.save(BEST)  # before LAST, so that a run killed here repeats the epoch and saves it again
                self.save(LAST)
                self.history.append(result)
                watcher.epoch(result)
        finally:
            if self.history:
                from gluon_lenet.plots import curves, write_picture  # here: matplotlib takes half a second to import

                figure = curves(self.history, f"{self.name}, seed {self.seed}")
                write_picture(figure, self.directory.path / CURVES)
        whole = self.progress.epoch > self.recipe.num_epochs
        if not whole:
            self.save(LAST)
        return whole


INITIALIZERS = {"xavier": mx.init.Xavier, "lecun1998": LeCun1998}
LOSSES = {"cross_entropy": lambda: None, "map": MAPLoss}  # None is what backprop takes for softmax cross-entropy


def transform_of(recipe: Recipe) -> Transform:
    """What the recipe feeds its net."""
    return Transform(recipe.resize, recipe.pad, recipe.mean, recipe.std)


def optimizer_settings(recipe: Recipe, num_batches: int) -> dict:
    """What `gluon.Trainer` needs to know; `num_batches` is that of one epoch."""
    settings = {"learning_rate": recipe.lr, "wd": recipe.wd}
    if recipe.momentum is not None:
        settings["momentum"] = recipe.momentum
    if recipe.schedule == "step":
        steps = [num_batches * epoch for epoch in range(10, recipe.num_epochs + 10, 10)]
        settings["lr_scheduler"] = mx.lr_scheduler.MultiFactorScheduler(steps, factor=0.1, base_lr=recipe.lr)
    elif recipe.schedule == "cosine":
        max_update = num_batches * recipe.num_epochs
        settings["lr_scheduler"] = mx.lr_scheduler.CosineScheduler(max_update, base_lr=recipe.lr, final_lr=0)
    return settings


def _hold_out(num_images: int, num_validation: int) -> tuple[np.ndarray, np.ndarray]:
    """Which images to train on and which to validate on: the same split whatever the seed of the run."""
    order = np.random.default_rng(1998).permutation(num_images)
    return np.sort(order[num_validation:]), np.sort(order[:num_validation])
