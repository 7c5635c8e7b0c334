"""Command line: run a script with its nets accelerated. `python -m gluon_lenet.accelerate --help`"""

from __future__ import annotations

import io
import logging
import os
import sys
import types

from gluon_lenet import cli
from gluon_lenet.errors import InputError


def main(argv: list[str] | None = None) -> int:
    """Run the script; returns the exit status: 0 or 2 (bad input); the script may exit with another or raise."""
    argv = sys.argv[1:] if argv is None else argv
    number = next((i for i, argument in enumerate(argv) if not argument.startswith("-")), len(argv))  # of the script
    args = parse(argv[: number + 1])
    sources = []
    status = cli.run(lambda: prepare(args, sources))
    if status == 0:  # from here on errors are the script's
        run(args, sources[0], argv[number:])
    return status


def parse(argv: list[str]):
    """The command's own arguments; exits with status 2 and one line if one of them is wrong."""
    parser = cli.Parser(
        prog="python -m gluon_lenet.accelerate",
        usage="python -m gluon_lenet.accelerate [-h] [--verbose] [--strict] SCRIPT [ARGS ...]",
        description="Run a Python script as python would, its Gluon nets computed by the fused CPU kernels where they "
        "serve, and its d2lzh with working data and device helpers. The script needs no change.",
    )
    parser.add_argument("--verbose", action="store_true", help="say on stderr what is accelerated, what not, and why")
    parser.add_argument("--strict", action="store_true", help="an error where a net is left to MXNet")
    parser.add_argument("script", metavar="SCRIPT", help="the script; what follows are its own arguments")
    return parser.parse_args(argv)


def prepare(args, sources: list[bytes]) -> int:
    """Read the script into `sources`, and import what accelerates."""
    if not os.path.isfile(args.script):
        there = "is not a file" if os.path.exists(args.script) else "does not exist"
        raise InputError(f"script {args.script} {there}")
    with io.open_code(os.path.abspath(args.script)) as file:
        sources.append(file.read())
    from gluon_lenet.engines import accelerated  # noqa: F401  # an MXNet that cannot be imported is reported here

    return 0


def run(args, source: bytes, argv: list[str]) -> None:
    """Execute the script as the main module, with its own `sys.argv` and `sys.path`."""
    from gluon_lenet.data.d2lzh_patch import patch_d2lzh
    from gluon_lenet.engines.accelerated import accelerate, log

    if args.verbose:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("accelerate: %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    patch_d2lzh()
    sys.argv = argv
    if not getattr(sys.flags, "safe_path", False):  # with -P, sys.path has no folder of the script
        sys.path[0] = os.path.dirname(os.path.realpath(args.script))
    module = types.ModuleType("__main__")
    module.__file__, module.__package__ = os.path.abspath(args.script), None
    code = compile(source, module.__file__, "exec")
    sys.modules["__main__"] = module
    with accelerate(strict=args.strict):
        exec(code, vars(module))


class _Module(types.ModuleType):
    """This module, which shares its name with the function `gluon_lenet.accelerate` and so can be called as that."""

    def __call__(self, *args, **kwargs):
        from gluon_lenet.engines.accelerated import accelerate

        return accelerate(*args, **kwargs)


if __name__ == "__main__":
    sys.exit(main())
sys.modules[__name__].__class__ = _Module
