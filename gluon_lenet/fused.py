"""Command line: compile the kernels now, not at the first training. `python -m gluon_lenet.fused --help`"""

from __future__ import annotations

import sys

from gluon_lenet import cli


def main(argv: list[str] | None = None) -> int:
    """Compile the kernels unless they are cached on disk; returns the exit status: 0 or 2 (bad input)."""
    parser = cli.Parser(prog="python -m gluon_lenet.fused", description="Compile the fused CPU kernels now.")
    return cli.run(lambda: compile_kernels(parser.parse_args(argv)))


def compile_kernels(args) -> int:
    """Compile; `args` is empty."""
    from gluon_lenet.engines.fused import compiled

    compiled.address()
    print("the kernels are compiled")
    return 0


if __name__ == "__main__":
    sys.exit(main())
