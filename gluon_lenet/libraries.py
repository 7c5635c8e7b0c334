"""Command line: install the libraries that MXNet needs and this system lacks. `python -m gluon_lenet.libraries`"""

from __future__ import annotations

import sys

from gluon_lenet import cli
from gluon_lenet.machine import libraries


def main(argv: list[str] | None = None) -> int:
    """Provide what is missing, as `argv` says; returns the exit status: 0, 1 (disk) or 2 (some are still missing)."""
    return cli.run(lambda: provide(parse(argv)))


def parse(argv: list[str] | None = None):
    """The command line's arguments; exits with status 2 and one line if one of them is wrong."""
    description = "Link or fetch, without root, the libraries that MXNet needs and this system lacks."
    return cli.Parser(prog="python -m gluon_lenet.libraries", description=description).parse_args(argv)


def provide(args) -> int:
    """Provide them; `args` is empty."""
    libraries.provide(say=print)
    return 0


if __name__ == "__main__":
    sys.exit(main())
