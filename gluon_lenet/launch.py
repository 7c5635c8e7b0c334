"""Command line: one training by several processes, on this machine or several. `python -m gluon_lenet.launch --help`"""

from __future__ import annotations

import shlex
import sys

from gluon_lenet import cli
from gluon_lenet.options import parse as parse_training


def main(argv: list[str] | None = None) -> int:
    """Launch as `argv` says; returns the exit status: that of the run, or 1 if a process was killed or stuck."""
    return cli.guard(lambda: launch(parse(argv)))


def parse(argv: list[str] | None = None):
    """The command line's arguments; exits with status 2 and one line if one of them is wrong."""
    parser = cli.Parser(
        prog="python -m gluon_lenet.launch",
        usage="%(prog)s [options] -- TRAIN_ARGUMENT...",
        description="Train one net by several processes (MXNet's parameter server), watched as one: when one of them "
        "fails, all end, within seconds. docs/distributed.md has examples.",
    )
    add = parser.add_argument
    add("--workers", type=cli.positive_int, metavar="N", help="processes that share each batch (default: 2)")
    add("--servers", type=cli.positive_int, metavar="N", default=1, help="processes that add gradients (default: 1)")
    add("--hosts", metavar="FILE", help="run on these hosts by ssh: NAME [workers=N] [address=IP] [python=..] a line")
    add("--tunnel", action="store_true", help="connect the hosts through ssh, so that no port is open to others")
    add("--ssh", type=shlex.split, metavar="COMMAND", default=["ssh"], help="the ssh command (default: ssh)")
    add("--port", type=cli.port, metavar="N", default=0, help="of the scheduler (default: any free one)")
    add("--stall", type=cli.positive_float, metavar="S", default=6.0, help="seconds that a step may take (default: 6)")
    add("--max-restarts", type=cli.natural_int, metavar="N", default=0, help="after a failure, start again so often")
    add("train", nargs="*", metavar="TRAIN_ARGUMENT", help="arguments of gluon_lenet.train, after --")
    args = parser.parse_args(argv)
    if args.hosts is None:
        if args.tunnel:
            parser.error("--tunnel is for several hosts, which --hosts names")
        args.workers = args.workers or 2
    return args


def launch(args) -> int:
    """Launch as the parsed arguments say."""
    from gluon_lenet.console import GangConsole, signals_raise
    from gluon_lenet.distributed.planning import make_plan
    from gluon_lenet.distributed.supervision import GangError, supervise

    plan = make_plan(args, parse_training(["--kvstore", "dist_sync", *args.train]))
    with GangConsole(len(plan.hosts) > 1 and not plan.tunnel) as console, signals_raise():
        try:
            supervise(plan, console, args.max_restarts, console.say)
        except GangError as error:
            console.close()
            print(f"error: {error}", file=sys.stderr)
            return error.status
    return 0


if __name__ == "__main__":
    cli.leave(main())
