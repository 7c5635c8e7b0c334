"""LeNet-5 to 99 % of MNIST's test images, ours and PyTorch with the same schedule -> benchmarks/results/speedrun.md.

    make speedrun                    5 rounds of every command, then the accuracies of 100 seeds
    make speedrun ARGS="--rounds 1"  1 round

The rounds are written to results/speedrun.json and .md. The accuracies are those of `reproduce.py speedrun_mnist`,
which goes on where it was interrupted, and measures again if the recipe has changed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

import bench
import report
import reproduce
from gluon_lenet.training.recipes import RECIPES

RECIPE = "speedrun_mnist"
OURS, COLD = "gluon_lenet", "gluon_lenet, kernels compiled first"
PYTORCH = {f"PyTorch {mode}": mode for mode in ("eager", "channels_last", "compile")}
RESULTS = bench.RESULTS / "speedrun.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: %(default)s")
    args = parser.parse_args()
    machine = bench.machine(bench.physical_cores())
    with tempfile.TemporaryDirectory() as folder:
        runs = interleave(Path(folder), machine["threads"], args.rounds)
    reproduce.main([RECIPE])
    accuracies = [run["test_acc"] for run in json.loads(reproduce.RESULTS.read_text())[RECIPE]["runs"].values()]
    results = {"machine": machine, "rounds": args.rounds, "runs": runs}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    text = as_markdown(results, accuracies)
    RESULTS.with_suffix(".md").write_text(text + "\n")
    print(text)


def interleave(folder: Path, threads: int, rounds: int) -> dict[str, list[dict]]:
    """Each command in turn, `rounds` times: name -> seconds of training and of the whole command, test accuracy."""
    job, runs = bench.Jobs(str(folder)).write(RECIPE), {name: [] for name in (OURS, COLD, *PYTORCH)}
    settings = bench.environment(threads)
    for number in range(rounds):
        cache = settings | {"NUMBA_CACHE_DIR": str(folder / f"kernels-{number}")}
        runs[OURS].append(train(folder, f"warm-{number}", settings, threads))
        runs[COLD].append(train(folder, f"cold-{number}", cache, threads))
        for name, mode in PYTORCH.items():
            python, script = bench.FRAMEWORKS / "torch" / "bin" / "python", bench.WORKERS / "with_torch.py"
            command = [python, script, mode, job, "--epochs", RECIPES[RECIPE].num_epochs]
            seconds, output = timed(command, settings, threads)
            runs[name].append(result(seconds, output.splitlines()))
        for name, taken in runs.items():
            bench.say(f"{name}: {taken[-1]}")
    return runs


def train(folder: Path, name: str, settings: dict[str, str], threads: int) -> dict:
    """Our command, in a run directory of this name."""
    command = [sys.executable, "-m", "gluon_lenet.train", "--recipe", RECIPE, "--run-dir", folder / name]
    seconds, _ = timed(command, settings, threads)
    return result(seconds, (folder / name / "metrics.jsonl").read_text().splitlines())


def timed(command: list, settings: dict[str, str], threads: int) -> tuple[float, str]:
    """The seconds that a command takes, and what it prints."""
    start = time.perf_counter()
    done = subprocess.run(
        list(map(str, command)), env=settings, preexec_fn=lambda: bench.bind(threads), stdout=subprocess.PIPE, text=True
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed with exit status {done.returncode}")
    return seconds, done.stdout


def result(seconds: float, epochs: list[str]) -> dict:
    """What is kept of a run that took so long and wrote these lines of JSON, one an epoch."""
    epochs = [json.loads(line) for line in epochs]
    return {
        "training": round(sum(epoch["train_seconds"] for epoch in epochs), 3),
        "command": round(seconds, 3),
        "test_acc": epochs[-1]["test_acc"],
    }


def as_markdown(results: dict, accuracies: list[float]) -> str:
    """The accuracies over seeds in a sentence, and a row for each command."""
    machine, recipe = results["machine"], RECIPES[RECIPE]
    rows = []
    for name, runs in results["runs"].items():
        columns = {key: [run[key] for run in runs] for key in ("training", "command", "test_acc")}
        ours = [run["training"] for run in results["runs"][OURS]]
        rows.append(
            [
                name,
                report.spread(columns["training"]),
                report.ratio(columns["training"], ours),
                report.spread(columns["command"]),
                f"{mean(columns['test_acc']):.4f}",
            ]
        )
    heads = ["", "training, s", "ours faster", "whole command, s", "test acc"]
    reached = sum(accuracy >= 0.99 for accuracy in accuracies)
    return "\n\n".join(
        [
            "# 99 % of MNIST, as fast as can be",
            f"`{RECIPE}`: LeNet-5 of 61,706 parameters, {recipe.num_epochs} epochs of Adam in batches of "
            f"{recipe.batch_size}, the learning rate falling from {recipe.lr} along a cosine, labels smoothed by "
            f"{recipe.loss.smoothing}. Test accuracy over "
            f"{len(accuracies)} seeds: {reproduce.spread(accuracies, 4)}; {reached} of them at least 0.99.",
            f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads each; {machine['date']}; load "
            f"{machine['load_before']:.2f} before; {results['rounds']} rounds of `make speedrun`; median "
            "(smallest-largest). The whole command includes imports, reading the data, test passes and, for ours, the "
            "run directory and its picture. PyTorch has its images in memory as finished floats.",
            report.table(heads, rows),
        ]
    )


if __name__ == "__main__":
    main()
