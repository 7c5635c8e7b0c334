"""One training of a sweep and its result, as JSON; the key by which a result is found again."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

from gluon_lenet.fields import Count, Natural, NotNegative, Text
from gluon_lenet.training.config import Threads
from gluon_lenet.training.metrics import EpochResult, best_epoch
from gluon_lenet.training.recipes import Recipe, settings_of


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides a training's result, and where its files go."""

    name: Text  # of the recipe
    recipe: Recipe  # with the changes
    seed: Count = 0
    threads: Threads = 1
    ctx: Text = "cpu"  # as `--ctx` names it
    backprop: Text = "auto"  # one of `engines.choice.MODES`
    changes: dict[str, Any] = {}  # what `recipe` has been made with: {"lr": 0.3, "net.activation": "relu"}
    data_dir: Text | None = None
    run_dir: Text | None = None  # the run's directory; None keeps no files

    @property
    def key(self) -> str:
        """A hash of what decides the result: 16 hexadecimal digits."""
        decides = settings_of(self.recipe), self.seed, self.threads, self.ctx, self.backprop
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a trial: one line of results.jsonl."""

    key: Text  # of the trial
    name: Text  # of the recipe
    changes: dict[str, Any]
    seed: Count
    threads: Threads
    history: list[EpochResult] = []  # of its epochs; to the last finite one if the training diverged
    num_parameters: Natural | None = None  # trainable ones of the net
    seconds: NotNegative = 0.0  # from the start of the process to its end
    versions: dict[str, str] = {}
    machine: Text = ""
    printed: Text = ""  # what `gluon_lenet.train` would print; only of runs whose files are kept
    error: Text | None = None  # one line
    killed: bool = False  # by a signal, or with the machine: nothing is known about the trial, which is done again

    def __post_init__(self):
        if self.error is None and not self.history:
            raise ValueError("there is neither a history nor an error")

    @property
    def best(self) -> EpochResult:
        """The epoch that counts: the best by validation accuracy, the last one without validation images."""
        return best_epoch(self.history)

    @property
    def score(self) -> float:
        """The accuracy to compare settings by: on the held-out images if there are some, else on the test images."""
        return self.best.test_acc if self.best.val_acc is None else self.best.val_acc


def result_of(trial: Trial, **fields) -> Result:
    """A result with the fields that it has in common with its trial."""
    common = {"name": trial.name, "changes": trial.changes, "seed": trial.seed, "threads": trial.threads}
    return Result(key=trial.key, **common, **fields)
