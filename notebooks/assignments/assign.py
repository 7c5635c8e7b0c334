"""A seed -> a course directory with its version of the assignment: python notebooks/assignments/assign.py SEED."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout's package

from gluon_lenet import cli

COURSE = Path(__file__).resolve().parents[2] / "course"


def parse(argv=None) -> argparse.Namespace:
    """The command line, checked."""
    parser = cli.Parser(prog="assign.py", description="Make one version of the assignment, for a course.")
    parser.add_argument(
        "seed", type=_seed, help="a whole number of your own, kept from the students: another one for each course"
    )
    parser.add_argument("--course", type=Path, default=COURSE, help=f"the teacher's folder ({COURSE.name})")
    return parser.parse_args(argv)


def _seed(text: str) -> int:
    """An argument type: a whole number; it is empty if `make assignment` is called without SEED."""
    if not text.isdecimal() or len(text) > 12:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no whole number below 10**12; choose one: make assignment SEED=730418256"
        )
    return int(text)


def make(args: argparse.Namespace) -> int:
    """Make it and say where it is."""
    from authoring.course import make_course

    course, kept = make_course(args.course.resolve(), args.seed)
    if kept:
        print(f"{course.source} was changed by hand, and is kept", file=sys.stderr)
    print(f"for students: {course.release}")
    print(f"for you alone, with solutions and hidden tests: {course.source}")
    return 0


def main(argv=None) -> int:
    """Make an assignment; the exit status is 2 for bad input."""
    return cli.run(lambda: make(parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
