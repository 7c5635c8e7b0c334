"""Command line: what the chapter needs, found or not, and what to type. `python -m gluon_lenet.doctor --help`"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from gluon_lenet import checkup, cli


def main(argv: list[str] | None = None) -> int:
    """Print the table as `argv` says; returns the exit status: 0 if the chapter can run, 1 if not, 2 (bad input)."""
    return cli.guard(lambda: show(parse(argv)))


def parse(argv: list[str] | None = None):
    """The command line's arguments; exits with status 2 and one line if one of them is wrong."""
    description = "Check what the chapter needs on this machine: found or not, and what to type if not."
    parser = cli.Parser(prog="python -m gluon_lenet.doctor", description=description)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args(argv)


def show(args) -> int:
    """Print as the parsed arguments say."""
    rows = checkup.rows()
    can_run = all(row.ok for row in rows if row.needed)
    if args.json:
        print(json.dumps({"can_run": can_run, "rows": [asdict(row) for row in rows]}, indent=2, ensure_ascii=False))
        return 0 if can_run else cli.FAILED
    width = max(len(row.name) for row in rows)
    for row in rows:
        mark = "ok" if row.ok else "MISSING" if row.needed else "-"
        print(f"{mark:7}  {row.name:{width}}  {row.found}{f'; type: {row.type}' if row.type else ''}")
    print("the chapter can run" if can_run else "the chapter cannot run: fix what is MISSING, from the top")
    return 0 if can_run else cli.FAILED


if __name__ == "__main__":
    sys.exit(main())
