"""Command line: train a recipe, show its progress, keep its run directory. `python -m gluon_lenet.train --help`"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace
from functools import partial

from gluon_lenet import cli
from gluon_lenet.compat.threads import num_threads, set_threads
from gluon_lenet.errors import DiskError, InputError
from gluon_lenet.options import parse
from gluon_lenet.training.recipes import DEFAULT_RECIPE, FOLDER_RECIPE, get_recipe
from gluon_lenet.training.run_dir import CONFIG, LAST, RunDir


def main(argv: list[str] | None = None) -> int:
    """Train as `argv` says; returns the exit status: 0, 1 (diverged), 2 (bad input), 130 (Ctrl-C) or 143 (SIGTERM)."""
    return cli.run(lambda: train(parse(argv)))


def train(args) -> int:
    """Train as the parsed arguments say."""
    if args.kvstore is not None:
        from gluon_lenet.distributed.environment import config_of
        from gluon_lenet.distributed.servers import serve_if_asked

        config_of(os.environ, args.kvstore, args.gradient_compression)  # before MXNet reads it, and waits
        serve_if_asked()
        return _train_in_gang(args)
    if args.resume is None:
        return _train(args)
    with RunDir(args.resume).lock() as directory:  # before anything in it is read
        return _train(args, directory)


def _train_in_gang(args) -> int:
    """Train as one of several workers."""
    if args.threads not in (None, num_threads()):
        set_threads(args.threads)
    from gluon_lenet.distributed import worker

    with contextlib.ExitStack() as stack:
        gang = stack.enter_context(worker.join(args.kvstore, args.gradient_compression))
        path = args.run_dir if worker.begun(gang, args.run_dir) else args.resume
        directory = None if path is None else stack.enter_context(worker.resumed(gang, path))
        status = _train(args, directory, gang)
        if status == 0:  # after an error the others might wait here for ever
            gang.leave()
        return status


def _train(args, directory: RunDir | None = None, gang=None) -> int:
    """Train a new run, or resume the one in `directory`, which this process has locked; with others, if in a gang."""
    folder = args.dataset
    if directory is None:
        name = args.recipe or (DEFAULT_RECIPE if folder is None else FOLDER_RECIPE)
        recipe = get_recipe(name)
        settings = {"name": name, "seed": args.seed or 0, "data_dir": args.data_dir}
        ctx, threads, mode = args.ctx or "auto", args.threads, args.backprop or "auto"
    else:
        config = directory.read_config()
        config.check_resumable(directory.path / CONFIG, gang and gang.config)
        recipe = config.settings
        if config.classes is not None:
            folder = folder or args.data_dir or config.data_dir
        elif folder is not None:
            raise InputError(
                f"--dataset {folder}: the run in {directory.path} was trained on {recipe.dataset}; drop it"
            )
        settings = {"name": config.recipe, "seed": config.seed, "data_dir": args.data_dir or config.data_dir}
        ctx, threads, mode = ",".join(config.ctx), config.threads, config.backprop
    if threads not in (None, num_threads()):
        try:
            set_threads(threads)
        except RuntimeError as error:  # called from Python, not as a command
            raise InputError(f"--threads {threads}: {error}") from None

    # imported here: MXNet reads the number of threads when it is loaded
    from gluon_lenet.console import Console, WorkerConsole
    from gluon_lenet.data.catalogue import get_entry
    from gluon_lenet.devices import parse_ctx
    from gluon_lenet.inference.pictures.folder import load_folder
    from gluon_lenet.training import checkpoint
    from gluon_lenet.training.loop import DivergedError
    from gluon_lenet.training.run import Run
    from gluon_lenet.training.setup import Setup

    if directory is not None and not directory.is_unbegun():
        # before a net is built from settings that may have been changed
        config.check_owns(directory.path / LAST, checkpoint.read_header(directory.path / LAST))
    if folder is not None:
        settings["dataset"] = load_folder(folder, get_entry(recipe.dataset).form)
        settings["data_dir"] = os.path.abspath(folder)
        if directory is None:
            recipe = recipe.fitted(len(settings["dataset"].train_images))
        else:
            config.check_unchanged(settings["dataset"])
    chosen = {"num_epochs": args.epochs, "batch_size": args.batch_size, "lr": args.lr}
    if args.augment and recipe.augment is None:
        chosen["augment"] = get_entry(recipe.dataset).augmentation
    recipe = replace(recipe, **{name: value for name, value in chosen.items() if value is not None})
    with contextlib.ExitStack() as stack:
        settings |= {"recipe": recipe, "contexts": parse_ctx(ctx), "mode": mode}
        if gang is None:
            console, setup, create = Console(args.quiet, args.log_every), Setup(**settings), RunDir.create
        else:
            from gluon_lenet.distributed.worker import GangSetup, created

            console = WorkerConsole(gang, args.quiet, args.log_every)
            setup, create = GangSetup(gang, **settings), partial(created, gang)
        stack.enter_context(console)
        if directory is None:
            run = Run.create(setup, stack.enter_context(create(args.run_dir, setup.name)))
        else:
            run = Run.resume(setup, directory)
        try:
            is_whole = run.train(console)
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
        if not is_whole:
            print(f"interrupted; continue with --resume {run.directory.path}", file=sys.stderr)
            return 128 + console.signals.number
    return 0


if __name__ == "__main__":
    cli.leave(main())
