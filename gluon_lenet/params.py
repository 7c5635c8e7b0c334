"""Command line: a run's weights <-> Gluon's own .params file. `python -m gluon_lenet.params --help`"""

from __future__ import annotations

from gluon_lenet import cli
from gluon_lenet.atomic import descriptor
from gluon_lenet.training.recipes import RECIPES, get_recipe

STDOUT = 1


def main(argv: list[str] | None = None) -> int:
    """Export or import as `argv` says; returns the exit status: 0, 1 (data or disk) or 2 (bad input)."""
    return cli.run(lambda: params(parse(argv)))


def parse(argv: list[str] | None = None):
    """The command line's arguments; exits with status 2 and one line if one of them is wrong."""
    parser = cli.Parser(
        prog="python -m gluon_lenet.params",
        description="Exchange weights with stock Gluon: net.save_parameters, net.load_parameters.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="export | import")
    out = actions.add_parser("export", help="write a run's weights as net.save_parameters does")
    out.add_argument("file", metavar="FILE", help="the .params file; an existing one is replaced")
    out.add_argument(
        "--run",
        metavar="DIR",
        required=True,
        help="a run's folder, as gluon_lenet.train prints it, or pretrained:RECIPE",
    )
    out.add_argument(
        "--weights", choices=["best", "last"], help="which weights (default: best if it exists, else last)"
    )
    into = actions.add_parser(
        "import",
        help="make a run of a .params file: to evaluate, to predict, or to train further with train --resume",
    )
    into.add_argument("file", metavar="FILE", help="written by save_parameters, collect_params().save or export")
    into.add_argument(
        "--recipe", metavar="NAME", required=True, help=f"its net and preprocessing: {', '.join(RECIPES)}"
    )
    into.add_argument("--run-dir", metavar="DIR", help="folder of the run (default: runs/<recipe>-<time>)")
    into.add_argument("--data-dir", metavar="DIR", help="folder with the four IDX files (default: found or fetched)")
    return parser.parse_args(argv)


def params(args) -> int:
    """Export or import as the parsed arguments say."""
    return export_params(args) if args.action == "export" else import_params(args)


def export_params(args) -> int:
    """Export as the parsed arguments say."""
    # imported here because it loads MXNet, after the arguments have been checked
    from gluon_lenet.inference.params_file import save_params
    from gluon_lenet.inference.trained import Trained

    save_params(args.file, Trained(args.run, args.weights, ctx="cpu").net)
    if descriptor(args.file) != STDOUT:  # there the name would become part of the file
        print(args.file)
    return 0


def import_params(args) -> int:
    """Import as the parsed arguments say."""
    recipe = get_recipe(args.recipe)
    from gluon_lenet.devices import parse_ctx
    from gluon_lenet.inference.params_file import load_params
    from gluon_lenet.training.run import Run
    from gluon_lenet.training.run_dir import RunDir
    from gluon_lenet.training.setup import Setup

    setup = Setup(args.recipe, recipe, parse_ctx("auto"), seed=0, data_dir=args.data_dir)
    load_params(args.file, setup.net)
    with RunDir.create(args.run_dir, setup.name) as directory:
        Run.create(setup, directory)
    print(directory.path)
    return 0


if __name__ == "__main__":
    cli.leave(main())
