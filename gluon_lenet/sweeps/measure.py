"""A trial -> its result, computed in this process."""

from __future__ import annotations

import os
import platform
import shutil

import mxnet as mx
import numpy as np

import gluon_lenet
from gluon_lenet.devices import parse_ctx
from gluon_lenet.errors import DataError, InputError
from gluon_lenet.nets.weights import parameters
from gluon_lenet.sweeps.trials import Result, Trial, result_of
from gluon_lenet.training.loop import DivergedError
from gluon_lenet.training.run import Run, RunWatcher
from gluon_lenet.training.run_dir import RunDir
from gluon_lenet.training.setup import Setup


def measure(trial: Trial, watcher: RunWatcher) -> Result:
    """Train as the trial says; whatever goes wrong becomes the result's `error`.

    The watcher is notified only of runs whose files are kept.
    """
    found = {"history": [], "machine": f"{platform.machine()}, {os.cpu_count()} CPUs"}
    found["versions"] = {
        "gluon_lenet": gluon_lenet.__version__,
        "mxnet": mx.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    try:
        _train(trial, watcher, found)
    except Exception as error:  # any: a trial that fails must not end the sweep
        found["error"] = explain(error)
    return result_of(trial, **found)


def _train(trial: Trial, watcher: RunWatcher, found: dict) -> None:
    """Train; results are put into `found` as they come, so that they are there if it fails."""
    setup = Setup(trial.name, trial.recipe, parse_ctx(trial.ctx), trial.seed, trial.data_dir, trial.backprop)
    trained = [param for param in parameters(setup.net).values() if param.grad_req != "null"]
    found["num_parameters"] = sum(param.data(setup.contexts[0]).size for param in trained)
    if trial.run_dir is None:
        for result in setup.loop().epochs(setup.data, trial.recipe.num_epochs):
            found["history"].append(result)
        return
    shutil.rmtree(trial.run_dir, ignore_errors=True)  # what a killed process left
    with RunDir.create(trial.run_dir, trial.name) as directory:
        run = Run.create(setup, directory)
        try:
            is_whole = run.train(watcher)
        finally:
            found["history"] = run.history
        if not is_whole:  # by a signal: no result
            raise KeyboardInterrupt
        watcher.finish(run)


def explain(error: Exception) -> str:
    """An exception as one line."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")  # MXNet adds a stack trace
    own = isinstance(error, (InputError, DataError, DivergedError))
    return text if own else f"{type(error).__name__}: {text}"[:300]
