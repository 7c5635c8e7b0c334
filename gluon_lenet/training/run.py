"""A setup and a directory -> a run: trained, checkpointed, resumed bit for bit."""

from __future__ import annotations

import contextlib
import math
from copy import copy

from gluon_lenet.errors import DiskError, InputError
from gluon_lenet.training import checkpoint
from gluon_lenet.training.config import Header, RunConfig, new_id
from gluon_lenet.training.loop import DivergedError, Watcher
from gluon_lenet.training.metrics import EpochResult, Progress, best_epoch
from gluon_lenet.training.run_dir import BEST, CONFIG, CURVES, LAST, RunDir
from gluon_lenet.training.setup import Setup


class RunWatcher(Watcher):
    """A watcher that is also notified of the start of a run and of its epochs."""

    def begin(self, run: Run) -> None:
        """Called before the training starts."""

    def epoch(self, result: EpochResult) -> None:
        """Called when an epoch and its test pass are done and saved."""

    def finish(self, run: Run) -> None:
        """Called by who trained the run, when its files are complete."""


class Run:
    """A training and its directory; made by `create` or `resume`, while the directory is locked.

    Attributes:
        setup: the net, its trainer and its data.
        directory: its files.
        config: the contents of config.json.
        progress: how far it has got.
        history: the results of its epochs.
    """

    def __init__(self, setup: Setup, directory: RunDir, config: RunConfig, progress: Progress):
        self.setup, self.directory, self.config, self.progress = setup, directory, config, progress
        self.history: list[EpochResult] = []
        self._saved = copy(progress)  # of the last checkpoint

    @classmethod
    def create(cls, setup: Setup, directory: RunDir, run_id: str | None = None) -> Run:
        """A new run in an empty directory; writes its configuration and initial weights.

        Raises:
            DiskError: they cannot be written; the directory is left empty.
        """
        run = cls(setup, directory, setup.configuration(run_id or new_id()), Progress())
        try:
            directory.write_config(run.config)
            run.save(LAST)
        except BaseException:
            for name in (CONFIG, LAST):
                (directory.path / name).unlink(missing_ok=True)
            raise
        return run

    @classmethod
    def resume(cls, setup: Setup, directory: RunDir) -> Run:
        """The run in `directory`, where it stopped; recipe, seed and devices of `setup` were read from there.

        If the recipe has another number of epochs than the run had, the run's number is changed.

        Raises:
            InputError: its files are damaged, another run's or of an older version, or it has already been trained for
                more epochs than the recipe has.
            DiskError: a file cannot be written; the message is that of `explain`.
        """
        path, config = directory.path / LAST, directory.read_config()
        config.check_resumable(directory.path / CONFIG, setup.gang_config)
        directory.remove_half_written()
        if directory.is_unbegun():  # killed before its first checkpoint: start again
            return cls.create(setup, directory, config.id)
        setup.configuration(config.id).check_owns(path, checkpoint.read_header(path))
        header = checkpoint.load(path, setup.net, setup.trainer)
        progress, num_epochs = header.progress, setup.recipe.num_epochs
        if progress.batch > len(setup.data.train):
            raise InputError(f"{path}, header: progress.batch must be at most {len(setup.data.train)}")
        if header.rng != setup.rng_state(progress):
            raise InputError(
                f"{path} cannot be resumed bit for bit: the RNG state differs: it is {header.rng}, this version's is "
                f"{setup.rng_state(progress)}"
            )
        begun = progress.epoch if progress.batch else progress.epoch - 1
        if begun > num_epochs:
            raise InputError(f"--epochs {num_epochs}: {path} is in epoch {begun} already; name that or more")
        run = cls(setup, directory, config.with_epochs(num_epochs), progress)
        try:
            run.history = directory.keep_metrics_before(progress.epoch)
            if run.config != config:
                directory.write_config(run.config)
        except DiskError as error:
            raise DiskError(run.explain(error)) from error
        return run

    def train(self, watcher: RunWatcher) -> bool:
        """Train to the recipe's last epoch; False if the watcher stopped it, after saving the state of that batch.

        The same seed and number of threads give the same bits, stopped and resumed or not. However the training ends,
        the directory keeps the results of the finished epochs, their curves, and the last good weights.

        Raises:
            DivergedError: the loss or a weight became NaN or infinite.
            DiskError: a file cannot be written, or the directory is gone; see `explain`.
        """
        setup, num_epochs = self.setup, self.setup.recipe.num_epochs
        setup.data.train.epoch = self.progress.epoch - 1
        watcher.begin(self)
        try:
            for result in setup.loop().epochs(setup.data, num_epochs, self.progress, watcher):
                self._keep(result)
                watcher.epoch(result)
        except BaseException:
            with contextlib.suppress(OSError, InputError):  # it would hide the original exception
                self._draw_curves()
            raise
        self._draw_curves()
        is_whole = self.progress.epoch > num_epochs
        if not is_whole:
            self.save(LAST)
        return is_whole

    def save(self, file: str) -> None:
        """Write a checkpoint; the previous file is kept until the new one is complete.

        Raises:
            DiskError: it cannot be written.
        """
        self.directory.check_in_place()
        setup = self.setup
        header = Header(
            run=self.config.id,
            recipe=setup.name,
            net=setup.recipe.net,
            seed=setup.seed,
            decisions=self.config.decisions,
            progress=self.progress,
            rng=setup.rng_state(self.progress),
        )
        checkpoint.save(self.directory.path / file, setup.net, setup.trainer, header)
        if file == LAST:
            self._saved = copy(self.progress)

    def explain(self, error: DiskError) -> str:
        """One line: what failed during training, what was saved, and how to resume."""
        try:
            self.directory.check_in_place()
        except DiskError as gone:  # the actual reason, whatever the system reported
            return f"{gone}; if it was moved, continue with --resume and its new name, else its checkpoints are lost"
        where = f"epoch {self._saved.epoch}, batch {self._saved.batch}"
        return (
            f"{error}; {self.directory.path / LAST} is safe and stands at {where}; "
            f"once the disk can be written to, continue with --resume {self.directory.path}"
        )

    def _keep(self, result: EpochResult) -> None:
        """Write an epoch's results and checkpoints."""
        if result.val_loss is not None and not math.isfinite(result.val_loss):
            raise DivergedError(f"epoch {result.epoch}: the validation loss is {result.val_loss}")
        self.directory.append_metrics(result)
        if result.val_acc is not None and best_epoch([*self.history, result]) is result:
            self.save(BEST)  # before LAST, so that a run killed here repeats the epoch and saves it again
        self.save(LAST)
        self.history.append(result)

    def _draw_curves(self) -> None:
        if self.history:
            from gluon_lenet.viz.figures import curves  # here: matplotlib takes half a second to import
            from gluon_lenet.viz.files import write_picture

            title = f"{self.setup.name}, seed {self.setup.seed}"
            write_picture(curves(self.history, title), self.directory.path / CURVES)
