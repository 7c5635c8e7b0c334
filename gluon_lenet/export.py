"""Command line: write a run's net for other programs. `python -m gluon_lenet.export --help`"""

from __future__ import annotations

import os

from gluon_lenet import cli
from gluon_lenet.atomic import descriptor

ENDINGS = {
    "onnx": ".onnx",
    "params": ".params",
    "symbol": "-symbol.json",
    "html": ".html",
}  # format -> how its file's name ends
STDOUT = 1


def main(argv: list[str] | None = None) -> int:
    """Export as `argv` says; returns the exit status: 0, 1 (disk) or 2 (bad input)."""
    return cli.run(lambda: export(parse(argv)))


def parse(argv: list[str] | None = None):
    """The command line's arguments; exits with status 2 and one line if one of them is wrong."""
    parser = cli.Parser(
        prog="python -m gluon_lenet.export",
        description="Write the net of a run for other programs. onnx: one file that ONNX Runtime and others run; its "
        "metadata describe the net's input. symbol: the two files of Gluon's net.export, for SymbolBlock.imports, "
        "without this package. params: the weights alone, for net.load_parameters. html: the page of gluon_lenet.demo.",
    )
    add = parser.add_argument
    add(
        "--run",
        metavar="DIR",
        required=True,
        help="a run's folder, as gluon_lenet.train prints it, or pretrained:RECIPE",
    )
    add("--format", choices=ENDINGS, required=True, help="what to write")
    add("--output", metavar="FILE", help="an existing one is replaced (default: RECIPE.onnx, RECIPE-symbol.json, ...)")
    add("--weights", choices=["best", "last"], help="best by validation accuracy, or last (default: best if it exists)")
    return parser.parse_args(argv)


def export(args) -> int:
    """Export as the parsed arguments say."""
    # imported here because it loads MXNet, after the arguments have been checked
    from gluon_lenet.inference.onnx_file import write_onnx
    from gluon_lenet.inference.params_file import write_params
    from gluon_lenet.inference.symbol_file import write_symbol
    from gluon_lenet.inference.trained import Trained
    from gluon_lenet.web.files import write_page

    writers = {"onnx": write_onnx, "params": write_params, "symbol": write_symbol, "html": write_page}
    trained = Trained(args.run, args.weights, ctx="cpu")
    output = args.output or f"{os.path.basename(trained.name)}{ENDINGS[args.format]}"
    files = writers[args.format](output, trained)
    if descriptor(output) != STDOUT:  # there the name would become part of the file
        print(*files, sep="\n")
    return 0


if __name__ == "__main__":
    cli.leave(main())
