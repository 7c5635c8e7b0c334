"""Command line: many trainings, their results in one file, a table and a plot. `python -m gluon_lenet.sweep --help`"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from gluon_lenet import cli
from gluon_lenet.errors import InputError
from gluon_lenet.sweeps.space import Space, parse_sets


def main(argv: list[str] | None = None) -> int:
    """Sweep as `argv` says; returns the exit status: 0, 1 (a run failed), 2 (bad input) or 130 (Ctrl-C)."""
    return cli.run(lambda: sweep(parse(argv)))


def parse(argv: list[str] | None = None):
    """The command line's arguments; exits with status 2 and one line if one of them is wrong."""
    parser = cli.Parser(
        prog="python -m gluon_lenet.sweep",
        description="Train a recipe with each combination of settings and seeds, one process a run. Repeat the command "
        "to go on after an interruption: finished runs are not repeated.",
    )
    add = parser.add_argument
    add("spec", nargs="?", metavar="SPEC", help='JSON file: {"recipe": NAME, "set": {"lr": [0.1, 0.9]}, "seeds": 5}')
    add("--recipe", metavar="NAME", help="the recipe whose settings are changed (default: d2l_v1_fashion)")
    add(
        *("--set", "-s"),
        action="append",
        metavar="NAME=VALUES",
        help="values of a setting: lr=0.1,0.9; net.activation=relu,tanh; net.channels=[6,16],[12,32]; "
        "with --sample also a range: lr=log(0.01,1)",
    )
    add("--seeds", type=cli.positive_int, metavar="N", help="seeds 0 to N-1 of each combination (default: 1)")
    add("--sample", type=cli.positive_int, metavar="N", help="draw N random combinations instead of taking all")
    add("--sample-seed", type=cli.natural_int, metavar="N", help="of the random combinations (default: 0)")
    add("--threads", type=cli.threads, metavar="N", help="CPU threads of each run (default: 1)")
    add("--jobs", type=cli.positive_int, metavar="N", help="runs at a time (default: one a core; of Slurm 16)")
    add("--ctx", help="the device of each run, as for train (default: cpu)")
    add("--backprop", choices=["auto", "autograd", "fused"], help="how gradients are computed (default: auto)")
    add("--data-dir", metavar="DIR", help="folder with the four IDX files (default: found or fetched)")
    add("--folder", metavar="DIR", help="folder of results.jsonl, table.txt, plot.png (default: sweeps/<recipe>)")
    add("--on", metavar="WHERE", help="a Dask scheduler's address, tcp://host:8786, or slurm: run on its workers")
    add("--keep", action="store_true", help="keep each run's directory, in runs/ of the folder")
    add("--retry", action="store_true", help="repeat runs that failed")
    add("--quiet", action="store_true", help="print only the table")
    args = parser.parse_args(argv)
    if args.on not in (None, "slurm") and args.jobs is not None:
        parser.error("--jobs is for this machine or Slurm; the workers' --nthreads says how many runs each has")
    return args


def sweep(args) -> int:
    """Sweep as the parsed arguments say."""
    space = Space() if args.spec is None else Space.from_file(args.spec)
    names = ("recipe", "seeds", "sample", "sample_seed", "threads", "ctx", "backprop", "data_dir")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.set:
        given["set"] = {**space.set, **parse_sets(args.set)}
    space = msgspec.structs.replace(space, **given)
    trials = space.trials()  # before MXNet is loaded

    from gluon_lenet.console import SweepConsole, signals_raise
    from gluon_lenet.devices import parse_ctx
    from gluon_lenet.sweeps.report import write_report
    from gluon_lenet.sweeps.run import Options
    from gluon_lenet.sweeps.run import sweep as run_all

    if args.on is None:  # other machines have other devices and folders
        parse_ctx(space.ctx)
        if space.data_dir is not None and not Path(space.data_dir).is_dir():
            raise InputError(f"--data-dir {space.data_dir}: there is no such folder")
    folder = Path(args.folder or Path("sweeps", space.recipe))
    console = SweepConsole(args.quiet)
    try:
        with signals_raise():
            results = run_all(trials, folder, Options(args.jobs, args.on, args.keep, args.retry), console)
    except (KeyboardInterrupt, SystemExit):
        console.close()
        print(f"interrupted; the results so far are in {folder}; repeat the command to go on", file=sys.stderr)
        raise
    finally:
        console.close()
    print(write_report(results, folder, space.recipe))
    failed = [result for result in results if result.error is not None]
    if failed:
        how = "repeat the command" if all(result.killed for result in failed) else "--retry repeats them"
        print(f"{len(failed)} of {len(results)} runs failed; {how}", file=sys.stderr)
    return cli.FAILED if failed else 0


if __name__ == "__main__":
    cli.leave(main())
