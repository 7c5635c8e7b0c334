"""A running training -> progress on a terminal; SIGINT and SIGTERM -> a stop after the current batch."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import NoReturn

from tqdm import tqdm

from gluon_lenet.compat import threads
from gluon_lenet.distributed.gang import Gang
from gluon_lenet.distributed.messages import Beat
from gluon_lenet.distributed.supervision import Watcher as GangWatcher
from gluon_lenet.nets.table import layer_table
from gluon_lenet.sweeps.run import Watcher as SweepWatcher
from gluon_lenet.sweeps.trials import Result
from gluon_lenet.training.metrics import EpochResult, Progress, best_epoch
from gluon_lenet.training.run import Run, RunWatcher
from gluon_lenet.training.run_dir import BEST


class StopSignals:
    """Handles SIGINT and SIGTERM: the first one is stored in `number`, the second has its previous effect."""

    def __init__(self):
        self.number: int | None = None
        self._handlers = {}

    def install(self) -> None:
        """Handle signals until `restore` is called; does nothing outside the main thread, where Python forbids it."""
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore(self) -> None:
        """Restore the previous handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number, frame) -> None:
        signal.signal(number, self._handlers[number])
        self.number = number


@contextmanager
def signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP (a lost terminal) raise SystemExit, as SIGINT raises KeyboardInterrupt, so that what runs
    is cleaned up; one that is ignored, as by nohup, stays so."""
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
        handlers = {number: signal.signal(number, _exit) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _exit(number, frame) -> NoReturn:
    raise SystemExit(128 + number)


class SweepConsole(SweepWatcher):
    """Shows a sweep: a progress bar with the time left on a terminal, a line for each result.

    Args:
        quiet: whether to print nothing.
    """

    def __init__(self, quiet: bool):
        self.quiet, self.bar = quiet, None

    def begin(self, done: int, total: int) -> None:
        """Start the bar."""
        if not self.quiet:
            print(f"{total} runs" + (f", {done} of them are done" if done else ""), flush=True)
        disable = True if self.quiet else None  # None: on a terminal only
        # smoothing 0: runs end in groups, so that the time left follows from the mean speed
        self.bar = tqdm(initial=done, total=total, unit="run", smoothing=0, leave=False, disable=disable)
        self.done, self.total = done, total

    def result(self, result: Result) -> None:
        """Print a line and advance the bar."""
        self.done += 1
        if not self.quiet:
            what = ", ".join([*(f"{name} {value}" for name, value in result.changes.items()), f"seed {result.seed}"])
            became = f"failed: {result.error}"
            if result.error is None:
                became = f"{result.score:.4f}, {result.seconds:.1f} s"
            self.bar.clear()
            print(f"{self.done}/{self.total} {what}: {became}", flush=True)
        self.bar.update()

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()


class Console(RunWatcher):
    """Shows a run: the net's table, a progress bar on a terminal, one line per epoch as the book prints it.

    The first Ctrl-C or SIGTERM stops the training after the current batch, so that it can be resumed bit for bit; the
    second stops it at once.

    Args:
        quiet: whether to print only the run directory.
        log_every: also print a line every `log_every` batches.
    """

    def __init__(self, quiet: bool, log_every: int | None = None):
        self.quiet, self.log_every = quiet, log_every
        self.signals, self.bar = StopSignals(), None

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *exception) -> None:
        self.close()
        self.signals.restore()

    def begin(self, run: Run) -> None:
        """Print the net and the devices; start the bar, which is shown on a terminal only."""
        setup = run.setup
        if not self.quiet:
            print(layer_table(setup.net, setup.input_shape))
            devices = ", ".join(map(str, setup.contexts))
            print(
                f"training on {devices} with {threads.num_threads()} CPU threads, gradients by {setup.engine}",
                flush=True,
            )
        self.num_epochs, self.num_batches = setup.recipe.num_epochs, len(setup.data.train)
        self.progress, self.logged = run.progress, copy(run.progress)
        disable = True if self.quiet else None  # None: on a terminal only
        self.bar = tqdm(total=setup.data.train.num_examples, unit=" images", leave=False, disable=disable)
        self._start_bar(run.progress.epoch, run.progress.num_examples)
        self.signals.install()

    def should_stop(self) -> bool:
        """Whether a signal was received."""
        return self.signals.number is not None

    def batch(self, num_examples: int) -> None:
        """Advance the bar; print a line if one is due."""
        self.bar.update(num_examples)
        if self.log_every is not None and self.progress.batch % self.log_every == 0:
            self._log()

    def _log(self) -> None:
        """Print the means since the last line, the start of the epoch or `--resume`, whichever came last."""
        now, before = self.progress, self.logged if self.logged.epoch == self.progress.epoch else Progress()
        num_examples = now.num_examples - before.num_examples
        loss = (now.loss_sum - before.loss_sum) / num_examples
        acc = (now.num_correct - before.num_correct) / num_examples
        self.bar.clear()
        print(
            f"epoch {now.epoch}, batch {now.batch}/{self.num_batches}, loss {loss:.4f}, train acc {acc:.3f}", flush=True
        )
        self.logged = copy(now)

    def epoch(self, result: EpochResult) -> None:
        """Print the epoch's line and restart the bar."""
        if not self.quiet:
            self.bar.clear()
            print(result, flush=True)
        self._start_bar(result.epoch + 1, 0)

    def _start_bar(self, epoch: int, num_examples: int) -> None:
        self.bar.reset()
        self.bar.set_description(f"epoch {epoch}/{self.num_epochs}")
        self.bar.update(num_examples)

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()

    def finish(self, run: Run) -> None:
        """Print the results of the run."""
        self.close()
        if not self.quiet and run.history:
            best = best_epoch(run.history)
            if best.val_acc is not None:
                print(f"best val acc {best.val_acc:.3f} after epoch {best.epoch}, kept in {BEST}")
            seconds = sum(result.train_seconds for result in run.history)
            images = len(run.history) * run.setup.data.train.num_examples
            print(f"{images / seconds:,.0f} examples/s in training; results are in", end=" ")
        print(run.directory.path, flush=True)


class WorkerConsole(Console):
    """The console of one of several workers: the first one prints, each reports to the launcher.

    It is not stopped after a batch, for which the others would wait: signals end it at once.
    """

    def __init__(self, gang: Gang, quiet: bool, log_every: int | None):
        first = gang.rank == 0
        super().__init__(quiet or not first, log_every if first else None)
        self.gang = gang

    def begin(self, run: Run) -> None:
        """See Console."""
        super().begin(run)
        self.signals.restore()
        self.gang.progress = run.progress
        self.gang.size = self.num_batches, self.num_epochs

    def finish(self, run: Run) -> None:
        """See Console."""
        self.close()
        if self.gang.rank == 0:
            super().finish(run)


class GangConsole(GangWatcher):
    """Shows a gang: what each process prints, after its name, and the first worker's progress as a bar.

    Args:
        is_open: whether other machines can reach the gang's ports; said once.
    """

    def __init__(self, is_open: bool):
        self.bar = None
        if is_open:
            self.say(
                "the processes trust the network between the hosts: who reaches their ports can change the weights; "
                "--tunnel opens none"
            )

    def __enter__(self) -> GangConsole:
        self.bar = tqdm(unit=" batches", leave=False, disable=None)
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def line(self, name: str, text: str, is_error: bool) -> None:
        """Print it."""
        self.bar.clear()
        print(f"{name}: {text}", file=sys.stderr if is_error else sys.stdout, flush=True)

    def beat(self, beat: Beat) -> None:
        """Move the bar."""
        self.bar.total = beat.num_batches
        self.bar.set_description(f"epoch {beat.epoch}/{beat.num_epochs}", refresh=False)
        self.bar.n = beat.batch
        self.bar.refresh()

    def say(self, text: str) -> None:
        """Print something of the launcher's own."""
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        self.bar.close()
