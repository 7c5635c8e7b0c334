"""A recipe, a device, a seed -> a trained net and its run directory."""

from __future__ import annotations

import platform
import sys
import time
from dataclasses import asdict
from typing import Protocol

import gluon_lenet
from gluon_lenet import compat
from gluon_lenet.checkpoint import RunDir
from gluon_lenet.data.batches import Batches
from gluon_lenet.data.datasets import load_dataset
from gluon_lenet.errors import InputError
from gluon_lenet.nets import get_net
from gluon_lenet.plots import curves
from gluon_lenet.recipes import Recipe
from gluon_lenet.training import EpochResult, run_epochs

import mxnet as mx
import numpy as np
from mxnet import gluon


class Watcher(Protocol):
    """Who is told how a run goes."""

    def begin(self, net: gluon.Block, train_iter: Batches, contexts: list[mx.Context], run_dir: RunDir) -> None:
        """The net is initialized, training is about to begin."""

    def batch(self, num_examples: int) -> None:
        """A batch of this many images is done."""

    def epoch(self, result: EpochResult) -> None:
        """An epoch and its test pass are done."""


def run_recipe(
    name: str,
    recipe: Recipe,
    watcher: Watcher,
    *,
    contexts: list[mx.Context],
    seed: int,
    data_dir: str | None = None,
    run_dir: str | None = None,
) -> list[EpochResult]:
    """Train by a recipe and write its run directory; one seed and one number of threads give the same bits.

    Whatever ends the training, the directory keeps the metrics so far, their curves, and the last good weights: those
    of the end of the last whole epoch, or the initial ones.

    Raises:
        InputError: a batch size the data or devices cannot serve, or an unusable run directory; nothing was written.
        DataError: the data cannot be had; nothing was written.
        DivergedError: the loss or a weight became NaN or infinite.
    """
    data = load_dataset(recipe.dataset, data_dir)
    train_iter = Batches(data.train_images, data.train_labels, recipe.batch_size, shuffle=True, seed=seed)
    test_iter = Batches(data.test_images, data.test_labels, min(recipe.batch_size, len(data.test_images)))
    for batches in (train_iter, test_iter):
        _check_shares(batches, contexts)

    mx.random.seed(seed)
    net = get_net(recipe.net, classes=len(data.classes))
    net.initialize(mx.init.Xavier(), ctx=contexts)
    net(mx.nd.zeros((1, *train_iter.image_shape), ctx=contexts[0]))  # gives the layers their shapes and weights
    net.hybridize(static_alloc=True, static_shape=True)
    trainer = gluon.Trainer(net.collect_params(), recipe.optimizer, {"learning_rate": recipe.lr})

    directory = RunDir.create(run_dir, name)
    directory.write_config(
        {
            "recipe": name,
            "settings": asdict(recipe),
            "seed": seed,
            "ctx": [str(ctx) for ctx in contexts],
            "threads": compat.num_threads(),
            "data_sha256": data.sha256,
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
    watcher.begin(net, train_iter, contexts, directory)
    directory.write_weights(net, {"recipe": name, "net": recipe.net, "epoch": 0})
    history = []
    try:
        for result in run_epochs(
            net, train_iter, test_iter, recipe.batch_size, trainer, contexts, recipe.num_epochs, watcher.batch
        ):
            directory.append_metrics(result)
            directory.write_weights(net, {"recipe": name, "net": recipe.net, "epoch": result.epoch})
            history.append(result)
            watcher.epoch(result)
    finally:
        if history:
            directory.write_curves(curves(history, f"{name}, seed {seed}"))
    return history


def _check_shares(batches: Batches, contexts: list[mx.Context]) -> None:
    """Every batch, the last one too, must have an image for each device."""
    smallest = batches.num_examples % batches.batch_size or batches.batch_size
    if smallest < len(contexts):
        raise InputError(
            f"batch size {batches.batch_size} leaves a batch of {smallest} of the {batches.num_examples} images for "
            f"{len(contexts)} devices; choose another batch size"
        )
