"""Command line: a net's layers, shapes and parameters. `python -m gluon_lenet.summary --help`"""

from __future__ import annotations

from gluon_lenet import cli


def main(argv: list[str] | None = None) -> int:
    """Print the table of a net as `argv` says; returns the exit status: 0 or 2 (bad input)."""
    return cli.run(lambda: summarize(parse(argv)))


def parse(argv: list[str] | None = None):
    """The command line's arguments; exits with status 2 and one line if one of them is wrong."""
    parser = cli.Parser(prog="python -m gluon_lenet.summary", description="Print a net's layers, shapes, parameters.")
    parser.add_argument(
        "--net", metavar="NAME", required=True, help="for example lenet5_relu_maxpool; a wrong name lists all"
    )
    parser.add_argument("--no-bias", action="store_true", help="leave out biases, as write-up 000's table does")
    return parser.parse_args(argv)


def summarize(args) -> int:
    """Print as the parsed arguments say."""
    # imported here because it loads MXNet, after the arguments have been checked
    from gluon_lenet.nets.table import weight_table
    from gluon_lenet.nets.zoo import INPUT_SHAPES, get_net

    net = get_net(args.net)
    net.initialize()
    print(weight_table(net, (1, *INPUT_SHAPES[args.net]), bias=not args.no_bias))
    return 0


if __name__ == "__main__":
    cli.leave(main())
