"""A recipe, a device, a seed -> a trained net and its run directory."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import sys
import time
from copy import copy
from typing import Protocol

import mxnet as mx
import numpy as np
from mxnet import gluon

import gluon_lenet
from gluon_lenet import backprop, checkpoint, compat
from gluon_lenet.config import VERSION, Generator, Header, RunConfig, new_id
from gluon_lenet.data.augment import AUGMENTATIONS
from gluon_lenet.data.batches import Batches
from gluon_lenet.data.datasets import load_dataset
from gluon_lenet.data.transforms import Transform
from gluon_lenet.errors import DiskError, InputError
from gluon_lenet.layers import LeCun1998
from gluon_lenet.losses import MAPLoss
from gluon_lenet.metrics import EpochResult, Progress
from gluon_lenet.nets import get_net
from gluon_lenet.recipes import Recipe
from gluon_lenet.run_dir import BEST, CONFIG, CURVES, LAST, RunDir
from gluon_lenet.training import DivergedError, run_epochs


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
        if data_dir is not None and _as_text(data_dir) != data_dir:
            raise InputError(f"data folder {_as_text(data_dir)}: its name is no text that config.json could hold")
        self.data = data = load_dataset(recipe.dataset, data_dir)
        self.transform = transform_of(recipe)
        images, labels, self.validation_iter = data.train_images, data.train_labels, None
        if recipe.num_validation:
            train, validation = _hold_out(len(images), recipe.num_validation)
            held_out, images = images[validation], images[train]
            held_out.flags.writeable = images.flags.writeable = False  # so that they are resized only once
            self.validation_iter = self._batches(held_out, labels[validation])
            labels = labels[train]
        if recipe.augment not in (None, *AUGMENTATIONS):
            raise InputError(f"unknown augmentation {recipe.augment!r}; choose from {', '.join(AUGMENTATIONS)}")
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
            DiskError: they cannot be written; the directory is left empty.
        """
        with RunDir.create(path, self.name) as directory:
            self.begin(directory)

    def begin(self, directory: RunDir, run_id: str | None = None) -> None:
        """The same in a directory of no run, for one who holds it until the run is trained."""
        self.directory, self.config = directory, self._configuration(run_id or new_id())
        try:
            directory.write_config(self.config)
            self.save(LAST)
        except BaseException:
            for name in (CONFIG, LAST):
                (directory.path / name).unlink(missing_ok=True)
            raise

    def resume(self, directory: RunDir) -> None:
        """Go on from the run in `directory`, which this run's recipe, seed and devices were read from.

        If the recipe has another number of epochs than the run had, this is the run's from now on.

        Raises:
            InputError: its files are damaged or another run's, or of an older version; or it has already been trained
                for more epochs than the recipe has now.
            DiskError: a file cannot be written; the message says what is left, as `explain` does.
        """
        path, config = directory.path / LAST, directory.read_config()
        config.check_resumable(directory.path / CONFIG)
        directory.remove_half_written()
        if directory.is_unbegun():  # killed before its first checkpoint: this is the beginning
            self.begin(directory, config.id)
            return
        self._configuration(config.id).check_owns(path, checkpoint.read_header(path))
        header = checkpoint.load(path, self.net, self.trainer)
        self.directory, self.progress = directory, header.progress
        if header.progress.batch > len(self.train_iter):
            raise InputError(f"{path}, header: progress.batch must be at most {len(self.train_iter)}")
        if header.rng != self.rng_state():
            raise InputError(
                f"{path} cannot be gone on with to the bit: its random numbers stand at {header.rng}, this version's "
                f"at {self.rng_state()}"
            )
        begun = self.progress.epoch if self.progress.batch else self.progress.epoch - 1
        if begun > self.recipe.num_epochs:
            raise InputError(
                f"--epochs {self.recipe.num_epochs}: {path} is in epoch {begun} already; name that or more"
            )
        self.saved = copy(self.progress)
        self.config = config.with_epochs(self.recipe.num_epochs)
        try:
            self.history = directory.keep_metrics_before(self.progress.epoch)
            if self.config != config:
                directory.write_config(self.config)
        except DiskError as error:
            raise DiskError(self.explain(error)) from error

    def _configuration(self, run_id: str) -> RunConfig:
        return RunConfig(
            version=VERSION,
            id=run_id,
            recipe=self.name,
            settings=self.recipe,
            seed=self.seed,
            ctx=[str(ctx) for ctx in self.contexts],
            threads=compat.num_threads(),
            backprop=type(self.engine).__name__.lower(),
            data_dir=self.data_dir,
            data_sha256=self.data.sha256,
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

    def save(self, file: str) -> None:
        """Write where the run stands; the file's previous state is kept until this one is whole.

        Raises:
            DiskError: it cannot be written.
        """
        self.directory.check_in_place()
        header = Header(
            run=self.config.id,
            recipe=self.name,
            net=self.recipe.net,
            seed=self.seed,
            decisions=self.config.decisions,
            progress=self.progress,
            rng=self.rng_state(),
        )
        checkpoint.save(self.directory.path / file, self.net, self.trainer, header)
        if file == LAST:
            self.saved = copy(self.progress)

    def explain(self, error: DiskError) -> str:
        """What failed during training, what a user still has, and how to go on with it, in one line."""
        try:
            self.directory.check_in_place()
        except DiskError as gone:  # which is why the write failed, whatever the system said
            return f"{gone}; if it was moved, go on with --resume and its new name, else its checkpoints are gone, too"
        where = f"epoch {self.saved.epoch}, batch {self.saved.batch}"
        return (
            f"{error}; {self.directory.path / LAST} is safe and stands at {where}; "
            f"once the disk can be written to, go on with --resume {self.directory.path}"
        )

    def rng_state(self) -> dict[str, Generator]:
        """Where the generators of random numbers stand: the numbers they are seeded with."""
        epoch, batch = self.progress.epoch, self.progress.batch
        seeds = self.train_iter.seeds(epoch - 1)  # anew each epoch
        return {
            **{name: Generator("numpy PCG64", seed) for name, seed in seeds.items()},
            "dropout": Generator("mxnet", backprop.net_seed(self.seed, epoch, batch)),  # anew each batch
        }

    def train(self, watcher: Watcher) -> bool:
        """Train to the recipe's last epoch; False if the watcher stopped it, with the state of that batch saved.

        One seed and one number of threads give the same bits, stopped and resumed or not. Whatever ends the training,
        the directory keeps the results of the finished epochs, their curves, and the last good weights.

        Raises:
            DivergedError: the loss or a weight became NaN or infinite.
            DiskError: a file cannot be written, or the directory is gone; `explain` says what is left.
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
                if result.val_loss is not None and not math.isfinite(result.val_loss):
                    raise DivergedError(f"epoch {result.epoch}: the validation loss is {result.val_loss}")
                self.directory.append_metrics(result)
                if result.val_acc is not None and result.val_acc > max([r.val_acc for r in self.history], default=0):
                    self.save(BEST)  # before LAST, so that a run killed here repeats the epoch and saves it again
                self.save(LAST)
                self.history.append(result)
                watcher.epoch(result)
        except BaseException:
            with contextlib.suppress(OSError, InputError):  # which would hide what ended the training
                self._draw_curves()
            raise
        self._draw_curves()
        whole = self.progress.epoch > self.recipe.num_epochs
        if not whole:
            self.save(LAST)
        return whole

    def _draw_curves(self) -> None:
        if self.history:
            from gluon_lenet.plots import curves, write_picture  # here: matplotlib takes half a second to import

            write_picture(curves(self.history, f"{self.name}, seed {self.seed}"), self.directory.path / CURVES)


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


def _as_text(name: str) -> str:
    """A file's name, whose bytes may be no text, as a text that JSON can hold."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _hold_out(num_images: int, num_validation: int) -> tuple[np.ndarray, np.ndarray]:
    """Which images to train on and which to validate on: the same split whatever the seed of the run."""
    order = np.random.default_rng(1998).permutation(num_images)
    return np.sort(order[num_validation:]), np.sort(order[:num_validation])
