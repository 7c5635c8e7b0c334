"""Command line: train a recipe, watch it, keep its run directory. `python -m gluon_lenet.train --help`"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from copy import copy
from dataclasses import replace

from tqdm import tqdm

from gluon_lenet import cli, compat
from gluon_lenet.errors import DiskError, InputError
from gluon_lenet.metrics import Progress
from gluon_lenet.recipes import AUGMENT, DEFAULT_RECIPE, RECIPES, get_recipe
from gluon_lenet.run_dir import BEST, CONFIG, LAST, RunDir


def main(argv: list[str] | None = None) -> int:
    """Train as `argv` says; returns the exit status: 0, 1 (diverged), 2 (bad input), 130 (Ctrl-C) or 143 (SIGTERM)."""
    return cli.run(lambda: train(parse(argv)))


def parse(argv: list[str] | None = None):
    """The command line's arguments; leaves with status 2 and one line if one of them is wrong."""
    parser = cli.Parser(prog="python -m gluon_lenet.train", description="Train one of the LeNets by its recipe.")
    add = parser.add_argument
    add("--recipe", metavar="NAME", help=f"what to reproduce: {', '.join(RECIPES)} (default: {DEFAULT_RECIPE})")
    add("--ctx", help="auto, cpu, gpu, gpu(1) or a list that shares each batch: cpu(0),cpu(1) (default: auto)")
    add("--num-gpus", type=cli.gpus, metavar="N", help="the first N GPUs; 0 is the CPU (as in GluonCV)")
    add("--epochs", "--num-epochs", type=cli.epochs, metavar="N", help="passes over the training data")
    add("--batch-size", type=cli.positive_int, metavar="N", help="images a step")
    add("--lr", type=cli.positive_float, metavar="LR", help="learning rate, on the mean gradient of a batch")
    add("--augment", action="store_true", default=None, help="bend the training images at random, anew each epoch")
    add("--seed", type=cli.natural_int, metavar="N", help="of weights and shuffling (default: 0)")
    add("--threads", type=cli.threads, metavar="N", help="CPU threads (default: all physical cores)")
    add("--backprop", metavar="MODE", help="auto, autograd or fused (default: auto, fused where it serves)")
    add("--data-dir", metavar="DIR", help="folder with the four IDX files (default: found or fetched)")
    add("--run-dir", metavar="DIR", help="folder for the results (default: runs/<recipe>-<time>)")
    add("--resume", metavar="DIR", help="go on with the run in DIR, by its own settings, to the bit")
    add("--log-every", type=cli.positive_int, metavar="N", help="print loss and accuracy every N batches, too")
    add("--quiet", action="store_true", help="print the run directory and nothing else")
    args = parser.parse_args(argv)
    if args.num_gpus is not None:
        if args.ctx is not None:
            parser.error("--ctx and --num-gpus both name the device; give one of them")
        args.ctx = ",".join(f"gpu({i})" for i in range(args.num_gpus)) or "cpu"
    if args.quiet and args.log_every is not None:
        parser.error("--quiet prints no lines that --log-every asks for; give one of them")
    if args.resume is not None:
        fixed = ["recipe", "ctx", "batch_size", "lr", "augment", "seed", "threads", "backprop", "run_dir"]
        given = [f"--{name.replace('_', '-')}" for name in fixed if getattr(args, name) is not None]
        if given:
            parser.error(f"--resume goes on by the run's own settings; drop {', '.join(given)}")
    return args


def train(args) -> int:
    """Train as the parsed arguments say."""
    if args.resume is None:
        return _train(args)
    with RunDir(args.resume).alone() as directory:  # before anything in it is read
        return _train(args, directory)


def _train(args, directory: RunDir | None = None) -> int:
    """Train a new run, or go on with that in `directory`, which this process holds."""
    if directory is None:
        recipe = get_recipe(args.recipe or DEFAULT_RECIPE)
        settings = {"name": args.recipe or DEFAULT_RECIPE, "seed": args.seed or 0, "data_dir": args.data_dir}
        ctx, threads, mode = args.ctx or "auto", args.threads, args.backprop or "auto"
    else:
        config = directory.read_config()
        recipe = config.settings
        settings = {"name": config.recipe, "seed": config.seed, "data_dir": args.data_dir or config.data_dir}
        ctx, threads, mode = ",".join(config.ctx), config.threads, config.backprop
    chosen = {"num_epochs": args.epochs, "batch_size": args.batch_size, "lr": args.lr}
    chosen["augment"] = AUGMENT[recipe.dataset] if args.augment and recipe.augment is None else None
    recipe = replace(recipe, **{name: value for name, value in chosen.items() if value is not None})
    if threads not in (None, compat.num_threads()):
        try:
            compat.set_threads(threads)
        except RuntimeError as error:  # called from Python, not as a command
            raise InputError(f"--threads {threads}: {error}") from None

    # MXNet reads the number of threads when it is loaded, so what imports it comes here
    from gluon_lenet import checkpoint
    from gluon_lenet.devices import parse_ctx
    from gluon_lenet.runs import Run
    from gluon_lenet.training import DivergedError

    if directory is not None:  # before a net is built from settings that may have been changed
        config.check_resumable(directory.path / CONFIG)
        if not directory.is_unbegun():
            config.check_owns(directory.path / LAST, checkpoint.read_header(directory.path / LAST))
    with contextlib.ExitStack() as stack:
        console = stack.enter_context(Console(args.quiet, args.log_every))
        run = Run(recipe=recipe, contexts=parse_ctx(ctx), mode=mode, **settings)
        if directory is None:
            run.begin(stack.enter_context(RunDir.create(args.run_dir, run.name)))
        else:
            run.resume(directory)
        try:
            whole = run.train(console)
        except DivergedError as error:
            console.close()
            print(f"error: {error} (the weights before this epoch are in {run.directory.path})", file=sys.stderr)
            return cli.FAILED
        except OSError as error:
            if cli.is_of_output(error):
                error = DiskError(f"{cli.OUTPUT_FAILS}: {error.strerror}")
                cli.discard(sys.stdout)
            elif not isinstance(error, DiskError):
                raise
            console.close()
            print(f"error: {run.explain(error)}", file=sys.stderr)
            return cli.FAILED
        console.finish(run)
        if not whole:
            print(f"interrupted; go on with --resume {run.directory.path}", file=sys.stderr)
            return 128 + console.signal
    return 0


class Console:
    """Shows a run as it goes: the net's table, a progress bar on a terminal, the book's line an epoch; heeds signals.

    The first Ctrl-C or SIGTERM ends the training after the batch under way, so that it can be resumed to the bit; the
    second ends it at once.
    """

    def __init__(self, quiet: bool, log_every: int | None = None):
        self.quiet, self.log_every = quiet, log_every
        self.bar = self.signal = None
        self.handlers = {}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def begin(self, run) -> None:
        """Print the net and the devices; start the bar, which shows on a terminal only."""
        if not self.quiet:
            from gluon_lenet.summary import layer_table

            print(layer_table(run.net, (1, *run.train_iter.image_shape)))
            devices = ", ".join(map(str, run.contexts))
            print(
                f"training on {devices} with {compat.num_threads()} CPU threads, gradients by {run.engine}", flush=True
            )
        self.num_epochs = run.recipe.num_epochs
        self.progress, self.num_batches, self.logged = run.progress, len(run.train_iter), copy(run.progress)
        disable = True if self.quiet else None  # None: on a terminal only
        self.bar = tqdm(total=run.train_iter.num_examples, unit=" images", leave=False, disable=disable)
        self._start_bar(run.progress.epoch, run.progress.num_examples)
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            self.handlers = {number: signal.signal(number, self._heed) for number in (signal.SIGINT, signal.SIGTERM)}

    def _heed(self, number, frame) -> None:
        signal.signal(number, self.handlers[number])
        self.signal = number

    def should_stop(self) -> bool:
        """Whether a signal came."""
        return self.signal is not None

    def batch(self, num_examples: int) -> None:
        """Move the bar; print a line if one is due."""
        self.bar.update(num_examples)
        if self.log_every is not None and self.progress.batch % self.log_every == 0:
            self._log()

    def _log(self) -> None:
        """Print the means since the last line; the first of an epoch, or after `--resume`, begins there."""
        now, before = self.progress, self.logged if self.logged.epoch == self.progress.epoch else Progress()
        num_examples = now.num_examples - before.num_examples
        loss = (now.loss_sum - before.loss_sum) / num_examples
        acc = (now.num_correct - before.num_correct) / num_examples
        self.bar.clear()
        print(
            f"epoch {now.epoch}, batch {now.batch}/{self.num_batches}, loss {loss:.4f}, train acc {acc:.3f}", flush=True
        )
        self.logged = copy(now)

    def epoch(self, result) -> None:
        """Print the epoch's line and start the bar anew."""
        if not self.quiet:
            self.bar.clear()
            print(result, flush=True)
        self._start_bar(result.epoch + 1, 0)

    def _start_bar(self, epoch: int, num_examples: int) -> None:
        self.bar.reset()
        self.bar.set_description(f"epoch {epoch}/{self.num_epochs}")
        self.bar.update(num_examples)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()

    def finish(self, run) -> None:
        """Print what the run came to."""
        self.close()
        if not self.quiet and run.history:
            if run.history[0].val_acc is not None:
                best = max(run.history, key=lambda result: result.val_acc)  # the first of equals, as it was kept
                print(f"best val acc {best.val_acc:.3f} after epoch {best.epoch}, kept in {BEST}")
            seconds = sum(result.train_seconds for result in run.history)
            images = len(run.history) * run.train_iter.num_examples
            print(f"{images / seconds:,.0f} examples/s in training; results are in", end=" ")
        print(run.directory.path, flush=True)


if __name__ == "__main__":
    sys.exit(main())
