"""Command line: train a recipe, watch it, keep its run directory. `python -m gluon_lenet.train --help`"""

from __future__ import annotations

import sys
from dataclasses import replace

from gluon_lenet import cli, compat
from gluon_lenet.errors import InputError
from gluon_lenet.recipes import DEFAULT_RECIPE, get_recipe

from tqdm import tqdm


def main(argv: list[str] | None = None) -> int:
    """Train as `argv` says; returns the exit status: 0, 1 (diverged), 2 (bad input) or 130 (Ctrl-C)."""
    args = parse(argv)
    return cli.run(lambda: train(args))


def parse(argv: list[str] | None = None):
    """The command line's arguments; leaves with status 2 and one line if one of them is wrong."""
    parser = cli.Parser(prog="python -m gluon_lenet.train", description="Train one of the LeNets by its recipe.")
    add = parser.add_argument
    add("--recipe", default=DEFAULT_RECIPE, help="what to reproduce (default: %(default)s)")
    add("--ctx", help="auto, cpu, gpu, gpu(1) or a list that shares each batch: cpu(0),cpu(1) (default: auto)")
    add("--num-gpus", type=cli.natural_int, metavar="N", help="the first N GPUs; 0 is the CPU (as in GluonCV)")
    add("--epochs", "--num-epochs", type=cli.positive_int, metavar="N", help="passes over the training data")
    add("--batch-size", type=cli.positive_int, metavar="N", help="images a step")
    add("--lr", type=cli.positive_float, metavar="LR", help="learning rate, on the mean gradient of a batch")
    add("--seed", type=cli.natural_int, default=0, metavar="N", help="of weights and shuffling (default: 0)")
    add("--threads", type=cli.positive_int, metavar="N", help="CPU threads (default: all physical cores)")
    add("--data-dir", metavar="DIR", help="folder with the four IDX files (default: found or fetched)")
    add("--run-dir", metavar="DIR", help="folder for the results (default: runs/<recipe>-<time>)")
    add("--quiet", action="store_true", help="print the run directory and nothing else")
    args = parser.parse_args(argv)
    if args.num_gpus is not None:
        if args.ctx is not None:
            parser.error("--ctx and --num-gpus both name the device; give one of them")
        args.ctx = ",".join(f"gpu({i})" for i in range(args.num_gpus)) or "cpu"
    args.ctx = args.ctx or "auto"
    return args


def train(args) -> int:
    """Train as the parsed arguments say."""
    recipe = get_recipe(args.recipe)
    chosen = {"num_epochs": args.epochs, "batch_size": args.batch_size, "lr": args.lr}
    recipe = replace(recipe, **{name: value for name, value in chosen.items() if value is not None})
    if args.threads not in (None, compat.num_threads()):
        try:
            compat.set_threads(args.threads)
        except RuntimeError as error:  # called from Python, not as a command
            raise InputError(f"--threads {args.threads}: {error}") from None

    # MXNet reads the number of threads when it is loaded, so what imports it comes here
    from gluon_lenet.devices import parse_ctx
    from gluon_lenet.runs import run_recipe
    from gluon_lenet.training import DivergedError

    with Console(recipe, args.quiet) as console:
        try:
            run_recipe(
                args.recipe,
                recipe,
                console,
                contexts=parse_ctx(args.ctx),
                seed=args.seed,
                data_dir=args.data_dir,
                run_dir=args.run_dir,
            )
        except DivergedError as error:
            console.close()
            print(f"error: {error} (the weights before this epoch are in {console.run_dir.path})", file=sys.stderr)
            return cli.FAILED
        console.finish()
    return 0


class Console:
    """Prints a run as it goes: the net's table, a progress bar on a terminal, the book's line an epoch."""

    def __init__(self, recipe, quiet: bool):
        self.recipe, self.quiet = recipe, quiet
        self.run_dir = self.bar = None
        self.train_seconds = 0.0

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def begin(self, net, train_iter, contexts, run_dir) -> None:
        """Print the net and the devices; start the bar, which shows on a terminal only."""
        self.run_dir = run_dir
        if not self.quiet:
            from gluon_lenet.summary import layer_table

            print(layer_table(net, (1, *train_iter.image_shape)))
            print("training on", ", ".join(map(str, contexts)), f"with {compat.num_threads()} CPU threads", flush=True)
        self.bar = tqdm(
            total=train_iter.num_examples, unit=" images", leave=False, disable=True if self.quiet else None
        )
        self.bar.set_description(f"epoch 1/{self.recipe.num_epochs}")

    def batch(self, num_examples: int) -> None:
        """Move the bar."""
        self.bar.update(num_examples)

    def epoch(self, result) -> None:
        """Print the epoch's line and start the bar anew."""
        self.train_seconds += result.train_seconds
        if not self.quiet:
            self.bar.clear()
            print(result, flush=True)
        self.bar.reset()
        self.bar.set_description(f"epoch {result.epoch + 1}/{self.recipe.num_epochs}")

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()

    def finish(self) -> None:
        """Print what the run came to."""
        self.close()
        if not self.quiet:
            images = self.bar.total * self.recipe.num_epochs
            print(f"{images / self.train_seconds:,.0f} examples/s in training; results are in", end=" ")
        print(self.run_dir.path)


if __name__ == "__main__":
    sys.exit(main())
