"""Recipes and seeds -> test accuracies, mean and spread, in benchmarks/results/ and in both READMEs.

    make reproduce                                            every recipe, seeds 0-4
    python benchmarks/reproduce.py d2l_v1_fashion --seeds 3   one recipe, seeds 0-2

Each run is a process of its own: `python -m gluon_lenet.train --recipe NAME --seed N`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gluon_lenet.recipes import DEFAULT_RECIPE, RECIPES

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "reproduce.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=list(RECIPES), metavar="RECIPE")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 0 to N-1 (default: %(default)s)")
    args = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in args.recipes:
        results[name] = reproduce(name, range(args.seeds))
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    table = as_table({name: results[name] for name in RECIPES if name in results})
    print(table)
    for readme in ("README.md", "README.zh-CN.md"):
        insert(ROOT / readme, "reproduce", table)
        if DEFAULT_RECIPE in args.recipes:
            insert(ROOT / readme, "train", f"```text\n{results[DEFAULT_RECIPE]['printed']}\n```")


def reproduce(name: str, seeds: range) -> dict:
    """Train `name` once a seed; the final test accuracies, the seconds of each whole process, and where it ran."""
    accuracies, seconds, printed = [], [], None
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            run_dir = Path(folder, "run")
            command = [sys.executable, "-m", "gluon_lenet.train", "--recipe", name, "--seed", str(seed)]
            start = time.perf_counter()
            run = subprocess.run(
                [*command, "--run-dir", run_dir], check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True
            )
            seconds.append(round(time.perf_counter() - start, 2))
            config = json.loads((run_dir / "config.json").read_text())
            accuracies.append(json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])["test_acc"])
            if printed is None:
                printed = run.stdout.replace(str(run_dir), f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}").rstrip()
                shutil.copyfile(run_dir / "curves.png", RESULTS.with_name(f"{name}.png"))
        print(f"{name}, seed {seed}: {accuracies[-1]:.4f} in {seconds[-1]:.1f} s", flush=True)
    return {
        "command": f"python benchmarks/reproduce.py {name} --seeds {len(seeds)}",
        "test_acc": accuracies,
        "seconds": seconds,
        "threads": config["threads"],
        "versions": config["versions"],
        "printed": printed,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }


def as_table(results: dict) -> str:
    """The results as a Markdown table, a recipe a row."""
    lines = [
        "| recipe | published | ours: mean (min-max) over seeds | seconds a run | command |",
        "|---|---|---|---|---|",
    ]
    for name, result in results.items():
        accs = result["test_acc"]
        ours = f"{statistics.mean(accs):.3f} ({min(accs):.3f}-{max(accs):.3f}), {len(accs)} seeds"
        lines.append(
            f"| `{name}` | {RECIPES[name].published} | {ours} | {statistics.median(result['seconds']):.0f} "
            f"| `{result['command']}` |"
        )
    return "\n".join(lines)


def insert(readme: Path, mark: str, content: str) -> None:
    """Put `content` between the marks <!-- mark --> and <!-- /mark --> in a README."""
    text = readme.read_text(encoding="utf-8")
    marked = rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)"
    new, count = re.subn(marked, lambda match: f"{match[1]}{content}\n{match[2]}", text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{readme.name} must hold one pair of <!-- {mark} --> marks, not {count}")
    readme.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
