"""Command line: write the page in which one draws and sees nets compute. `python -m gluon_lenet.demo --help`"""

from __future__ import annotations

from gluon_lenet import cli

DEFAULT = "lenet.html"


def main(argv: list[str] | None = None) -> int:
    """Write the page as `argv` says; returns the exit status: 0, 1 (disk) or 2 (bad input)."""
    return cli.run(lambda: demo(parse(argv)))


def parse(argv: list[str] | None = None):
    """The command line's arguments; exits with status 2 and one line if one of them is wrong."""
    parser = cli.Parser(
        prog="python -m gluon_lenet.demo",
        description="Write one HTML file in which one draws a digit and sees what happens in every layer of trained "
        "nets, and open it. It needs no Python, no server and no network.",
    )
    add = parser.add_argument
    add(
        "--run",
        nargs="+",
        metavar="DIR",
        help="runs' folders, as gluon_lenet.train prints them, or pretrained:RECIPE (default: the pretrained nets)",
    )
    add("--output", metavar="FILE", help=f"only write the page to FILE (default: write {DEFAULT} and open it)")
    return parser.parse_args(argv)


def demo(args) -> int:
    """Write the page as the parsed arguments say."""
    # imported here because it loads MXNet, after the arguments have been checked
    from gluon_lenet.inference.trained import Trained
    from gluon_lenet.web import files
    from gluon_lenet.web.page import page

    path = files.check_output(args.output, DEFAULT)
    html = page(files.shown([(run, Trained(run, ctx="cpu")) for run in args.run or files.PRETRAINED]))
    files.write(path, html)
    print(f"{path}: {len(html.encode()):,} bytes")
    if args.output is None and not files.open_in_browser(path):
        print(f"open {path} in a browser")
    return 0


if __name__ == "__main__":
    cli.leave(main())
