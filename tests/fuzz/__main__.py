"""Command line: random cases of each target, or of those named, and a table of the outcomes.

`PYTHONPATH=.:tests:tests/helpers python -m fuzz --cases 100000 --record FILE` (`make fuzz`).
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

from fuzz import TARGETS
from fuzz.lanes import FoundError, fuzz

PACKAGES = ["hypothesis", "mxnet", "msgspec", "numpy", "Pillow", "safetensors"]
READS = {
    "idx_files": "IDX files",
    "checkpoints": "checkpoints",
    "run_files": "config.json and metrics.jsonl",
    "params_files": "Gluon's `.params` files",
    "pictures": "pictures",
    "command_lines": "command lines",
}

assert tuple(READS) == TARGETS


def main() -> int:
    """Fuzz as the command line says; returns the exit status: 1 if a failing case is found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--cases", type=int, default=100_000, help="of each target (default: 100000)")
    parser.add_argument("--lanes", type=int, default=os.cpu_count(), help="processes at a time (default: one per core)")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "little"))
    parser.add_argument("--record", type=Path, help="also write the table there, if nothing is found")
    args = parser.parse_args()
    if unknown := set(args.targets) - set(TARGETS):
        parser.error(f"unknown target {unknown.pop()!r}; choose from {', '.join(TARGETS)}")
    names = args.targets or list(TARGETS)
    print(f"{args.cases:,} cases of each, drawn with seed {args.seed}", flush=True)
    begun = time.perf_counter()
    results = {}
    for name, result in fuzz(names, args.cases, args.seed, args.lanes):
        print(f"{name}: {result if isinstance(result, FoundError) else dict(result)}", flush=True)
        results[name] = result
    minutes = (time.perf_counter() - begun) / 60
    if any(isinstance(result, FoundError) for result in results.values()):
        return 1
    rows = "\n".join(
        f"| {READS[name]} | {counts.total():,} | {counts['accepted']:,} | {counts['refused']:,} |"
        for name, counts in results.items()
    )
    text = f"""# Random bad input

`python -m fuzz {" ".join(args.targets)}{" " * bool(args.targets)}--cases {args.cases} --lanes {args.lanes} --seed \
{args.seed}` on {time.strftime("%Y-%m-%d")}, Python {platform.python_version()}, \
{", ".join(f"{name} {version(name)}" for name in PACKAGES)}, {os.cpu_count()} cores, {minutes:.0f} minutes.

Each case was refused by one line of error, or accepted and compared with what it says; none crashed, hung, took 1 GiB
of memory or left anything half-written.

| read | cases | accepted | refused |
|---|---|---|---|
{rows}
"""
    print(text)
    if args.record:
        args.record.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
