"""Command line: run a script with its nets accelerated. `python -m gluon_lenet.accelerate --help`"""

from __future__ import annotations

import logging
import runpy
import sys
import types
from pathlib import Path

from gluon_lenet import cli
from gluon_lenet.errors import InputError


def main(argv: list[str] | None = None) -> int:
    """Run the script; returns the exit status: 0, 2 (bad input), or what the script exits with."""
    parser = cli.Parser(
        prog="python -m gluon_lenet.accelerate",
        description="Run a Python script as python would, its Gluon nets computed by the fused CPU kernels where they "
        "serve, and its d2lzh with working data and device helpers. The script needs no change.",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="say on stderr what is accelerated, and what not and why"
    )
    parser.add_argument("--strict", action="store_true", help="an error where a net is left to MXNet")
    parser.add_argument("script", metavar="SCRIPT", help="the script; what follows is its own arguments")
    parser.add_argument("arguments", metavar="ARGS", nargs="...", help="arguments of the script")
    return cli.run(lambda: run(parser.parse_args(argv)))


def run(args) -> int:
    """Run the script with its own `sys.argv` and `sys.path`."""
    script = Path(args.script)
    if not script.is_file():
        raise InputError(f"script {script} is not a file" if script.exists() else f"script {script} does not exist")
    from gluon_lenet.data.d2lzh_patch import patch_d2lzh
    from gluon_lenet.engines.accelerated import accelerate, log

    if args.verbose:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("accelerate: %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    patch_d2lzh()
    sys.argv = [str(script), *args.arguments]
    sys.path[0] = str(script.resolve().parent)
    with accelerate(strict=args.strict):
        runpy.run_path(str(script), run_name="__main__")
    return 0


class _Module(types.ModuleType):
    """This module, which shares its name with the function `gluon_lenet.accelerate` and so can be called as that."""

    def __call__(self, *args, **kwargs):
        from gluon_lenet.engines.accelerated import accelerate

        return accelerate(*args, **kwargs)


if __name__ == "__main__":
    sys.exit(main())
sys.modules[__name__].__class__ = _Module
