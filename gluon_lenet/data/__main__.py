"""Command line: fetch, verify or describe the data sets. `python -m gluon_lenet.data --help`"""

from __future__ import annotations

import numpy as np

from gluon_lenet import cli
from gluon_lenet.data import cache
from gluon_lenet.data.catalogue import DATASETS, get_entry
from gluon_lenet.data.datasets import parse_dataset


def main(argv: list[str] | None = None) -> int:
    """Do what `argv` says; returns the exit status: 0, 1 (a file is wrong or unavailable), 2 (bad input), 130."""
    return cli.run(lambda: act(parse(argv)))


def parse(argv: list[str] | None = None):
    """The command line's arguments; exits with status 2 and one line if one of them is wrong."""
    parser = cli.Parser(prog="python -m gluon_lenet.data", description="Fetch, verify or describe the data sets.")
    parser.add_argument("action", choices=sorted(ACTIONS), help="what to do")
    parser.add_argument("name", nargs="?", help=f"{' or '.join(sorted(DATASETS))} (default: both)")
    parser.add_argument("--data-dir", metavar="DIR", help="folder with the four IDX files (default: the cache)")
    return parser.parse_args(argv)


def act(args) -> int:
    """Do as the parsed arguments say."""
    names = [args.name] if args.name else sorted(DATASETS)
    return max([ACTIONS[args.action](name, args.data_dir) for name in names])


def fetch(name: str, data_dir: str | None) -> int:
    """Get the files and print where they are and where they came from."""
    for file in cache.fetch(name, data_dir).values():
        print(f"{name}: {file.path} (from {file.origin})")
    return 0


def verify(name: str, data_dir: str | None) -> int:
    """Hash the files and print one line per file: OK, or what is wrong."""
    result = cache.verify(name, data_dir)
    for path, problem in result.items():
        print(f"{name}: {path}: OK" if problem is None else f"{name}: WRONG: {problem}")
    return cli.FAILED if any(result.values()) else 0


def info(name: str, data_dir: str | None) -> int:
    """Print shapes, class counts, files, licence and source."""
    files = get_entry(name)
    found = cache.fetch(name, data_dir)
    data = parse_dataset(name, found)
    print(f"{name}: {files.title}, {files.home}")
    print(f"  licence: {files.licence}")
    print(f"  train: images {data.train_images.shape}, labels {data.train_labels.shape}, uint8")
    print(f"  test: images {data.test_images.shape}, labels {data.test_labels.shape}, uint8")
    train, test = (np.bincount(labels, minlength=len(data.classes)) for labels in (data.train_labels, data.test_labels))
    for label, text in enumerate(data.classes):
        print(f"  class {label} {text}: {train[label]} train, {test[label]} test")
    for file in files.files:
        print(f"  {found[file.name].path}: {file.size} bytes, SHA-256 {file.sha256}")
    return 0


ACTIONS = {"fetch": fetch, "verify": verify, "info": info}


if __name__ == "__main__":
    cli.leave(main())
