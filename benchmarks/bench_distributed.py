"""Workers of a parameter server and sweeps on this machine, measured; many machines, computed from that.

    make bench-distributed                         all of it, into benchmarks/results/distributed.json, .md and .png
    make bench-distributed ARGS="--parts sweep"    a part: workers, modes, sweep

PyTorch's runs are those of `make bench` (workers/with_torch.py), and are left out if it is not installed. The network's
bytes are those of the loopback device of a network namespace, so that they need root; without, they are computed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import bench
from gluon_lenet.compat.threads import physical_cores
from gluon_lenet.sweeps.run import Options, sweep
from gluon_lenet.training.recipes import DEFAULT_RECIPE, RECIPES
from gluon_lenet.viz.figures import lines, write_picture

RESULTS = bench.RESULTS / "distributed.json"
EPOCHS = 3  # the first is left out
NUM_IMAGES, BATCH = 60000, RECIPES[DEFAULT_RECIPE].batch_size
NUM_PARAMETERS = 44_426
NETWORKS = {"1 Gbit/s": 125e6, "25 Gbit/s": 3125e6}  # bytes a second, of the server's link; assumed
WORKERS = (1, 2, 4, 8, 16, 32, 64, 125, 250, 500, 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--runs", type=int, default=6, metavar="N", help="of a sweep (default: %(default)s)")
    args = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for part in args.parts:
            machine = bench.machine(physical_cores())
            results[part] = {"machine": machine, **PARTS[part](Path(folder), args.runs)}
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    text = as_markdown(results)
    RESULTS.with_suffix(".md").write_text(text + "\n")
    if "workers" in results:
        write_picture(as_figure(results["workers"]), RESULTS.with_suffix(".png"))
    print(text)


def measure_workers(folder: Path, runs: int) -> dict:
    """Seconds a step of one process and of 1, 2 and 4 workers, by both engines; bytes a step; seconds by batch size."""
    steps = -(-NUM_IMAGES // BATCH)
    found = {"seconds": {}, "bytes": {}, "batches": {}}
    for engine in ("fused", "autograd"):
        epochs = EPOCHS if engine == "fused" else 2
        common = ["--backprop", engine, "--epochs", epochs, "--threads", 1, "--quiet"]
        found["seconds"][engine] = {"one process": train(folder / engine, "train", *common) / steps}
        for num_workers in (1, 2, 4):
            path = folder / f"{engine}-{num_workers}"
            taken, sent = launch(path, num_workers, *common)
            found["seconds"][engine][f"{num_workers} workers"] = taken / steps
            found["bytes"][str(num_workers)] = sent / steps / epochs if sent else 8 * NUM_PARAMETERS * num_workers
            bench.say(f"{engine}, {num_workers} workers: {NUM_IMAGES / taken:,.0f} images/s, {sent} bytes")
    for batch in (4, 16, 64, 256):  # of a worker: its share of a step
        taken = train(
            folder / f"batch-{batch}", "train", "--batch-size", batch, "--epochs", 2, "--threads", 1, "--quiet"
        )
        found["batches"][str(batch)] = taken / -(-NUM_IMAGES // batch)
    return found


def train(path: Path, command: str, *args) -> float:
    """The seconds of an epoch: the median without the first."""
    subprocess.run(
        [sys.executable, "-m", f"gluon_lenet.{command}", *map(str, args), "--run-dir", str(path)],
        check=True,
        cwd=bench.ROOT,
        stdout=subprocess.DEVNULL,
    )
    return seconds_of(path)


def launch(path: Path, num_workers: int, *args) -> tuple[float, int]:
    """The same by several workers, and what they sent over the loopback device in all epochs; 0 without root."""
    command = [sys.executable, "-m", "gluon_lenet.launch", "--workers", str(num_workers), "--stall", "60", "--"]
    command += [*map(str, args), "--run-dir", str(path)]
    if os.geteuid() == 0:
        script = "ip link set lo up; \"$@\" >/dev/null; awk '/lo:/ {print $2}' /proc/net/dev"
        command = ["unshare", "-n", "sh", "-c", script, "sh", *command]
    done = subprocess.run(command, check=True, cwd=bench.ROOT, stdout=subprocess.PIPE, text=True)
    return seconds_of(path), int(done.stdout.split()[-1]) if os.geteuid() == 0 else 0


def seconds_of(path: Path) -> float:
    """The median training seconds of a run's epochs, without the first if there are others."""
    taken = [json.loads(line)["train_seconds"] for line in (path / "metrics.jsonl").read_text().splitlines()]
    return median(taken[1:] or taken)


def measure_sweeps(folder: Path, runs: int) -> dict:
    """Runs an hour of a sweep of the default recipe on 1 and 2 cores, one thread a run, and of as many of PyTorch's."""
    found = {"runs": runs, "per_hour": {}}
    for jobs in range(1, min(2, physical_cores()) + 1):
        start = time.perf_counter()
        results = sweep({"seeds": runs}, folder / f"sweep-{jobs}", Options(jobs=jobs))
        if failed := [result.error for result in results if result.error]:
            raise SystemExit(f"error: {failed[0]}")
        found["per_hour"][f"gluon_lenet, {jobs}"] = 3600 * runs / (time.perf_counter() - start)
        python = bench.FRAMEWORKS / "torch" / "bin" / "python"
        if python.exists():
            job = bench.Jobs(str(folder)).write(DEFAULT_RECIPE)
            for mode in ("eager", "channels_last"):
                command = [python, bench.WORKERS / "with_torch.py", mode, job, "--epochs", bench.JOB_EPOCHS]
                start = time.perf_counter()
                with ThreadPoolExecutor(jobs) as pool:
                    list(pool.map(run_silently, [list(map(str, command))] * runs))
                found["per_hour"][f"PyTorch {mode}, {jobs}"] = 3600 * runs / (time.perf_counter() - start)
        bench.say(str(found["per_hour"]))
    return found


def measure_modes(folder: Path, runs: int) -> dict:
    """Test accuracies and images/s of the default recipe by two workers: synchronous, asynchronous, compressed."""
    found = {"test_acc": {"one process": []}, "seconds": {}}
    modes = {"dist_sync": [], "dist_async": ["--kvstore", "dist_async"], "2bit": ["--gradient-compression", "2bit"]}
    for seed in range(runs // 2):
        common = ["--seed", seed, "--threads", 1, "--quiet"]
        train(folder / f"one-{seed}", "train", *common)
        found["test_acc"]["one process"].append(accuracy_of(folder / f"one-{seed}"))
        for mode, args in modes.items():
            taken, _ = launch(folder / f"{mode}-{seed}", 2, *args, *common)
            found["test_acc"].setdefault(mode, []).append(accuracy_of(folder / f"{mode}-{seed}"))
            found["seconds"].setdefault(mode, []).append(taken)
        bench.say(str(found["test_acc"]))
    return found


def accuracy_of(path: Path) -> float:
    """The test accuracy after a run's last epoch."""
    return json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])["test_acc"]


def run_silently(command: list[str]) -> None:
    subprocess.run(command, check=True, env=bench.environment(1), stdout=subprocess.DEVNULL)


def model(measured: dict, num_workers: int, network: float, batch: int = BATCH) -> float:
    """Seconds of a step by that many workers, each on a machine of its own, with one server.

    Computing: a + b * images, the line through the measured steps of batches of 16 and 256. Adding: what a step of one
    worker with a server takes longer than without, for the messages; and the time in which the server's link carries
    first all gradients to it, then all sums back.
    """
    small, large = 16, 256
    slope = (measured["batches"][str(large)] - measured["batches"][str(small)]) / (large - small)
    constant = measured["batches"][str(small)] - slope * small
    computing = constant + slope * max(1.0, batch / num_workers)
    if num_workers == 1:
        return computing
    return computing + latency(measured) + 2 * 4 * NUM_PARAMETERS * num_workers / network


def latency(measured: dict) -> float:
    """Seconds that one worker's step takes longer with a server than without."""
    seconds = measured["seconds"]["fused"]
    return max(0.0, seconds["1 workers"] - seconds["one process"])


def as_figure(measured: dict):
    """Images per second by the number of workers, as computed."""
    curves = {}
    for network, speed in NETWORKS.items():
        curves[f"batch {BATCH}, {network}"] = [BATCH / model(measured, n, speed) for n in WORKERS]
        curves[f"{BATCH} images a worker, {network}"] = [
            BATCH * n / model(measured, n, speed, BATCH * n) for n in WORKERS
        ]
    return lines(
        {name: (WORKERS, values) for name, values in curves.items()},
        "workers, each on a machine of its own (a model)",
        "images per second",
        xscale="log",
        yscale="log",
    )


def as_markdown(results: dict) -> str:
    """The results as tables."""
    parts = ["# Several workers, and sweeps", "", "Written by `make bench-distributed`."]
    if "workers" in results:
        parts += workers_as_markdown(results["workers"])
    if "modes" in results:
        parts += modes_as_markdown(results["modes"])
    if "sweep" in results:
        parts += sweeps_as_markdown(results["sweep"])
    return "\n".join(parts)


def workers_as_markdown(measured: dict) -> list[str]:
    """What was measured of workers, and what follows for many machines."""
    text = ["", "## One training by several workers of this machine", "", where(measured["machine"]), ""]
    text += ["| engine | processes | images/s | ms a step | bytes a step |", "|---|---|---|---|---|"]
    for engine, seconds in measured["seconds"].items():
        for name, taken in seconds.items():
            sent = measured["bytes"].get(name.split()[0])
            sent = f"{sent:,.0f}" if sent else ""
            text.append(f"| {engine} | {name} | {BATCH / taken:,.0f} | {1000 * taken:.2f} | {sent} |")
    text += ["", "## Many machines: a model, not a measurement", ""]
    text += [" ".join(model.__doc__.split("\n\n", 1)[1].split()), ""]
    text += [
        "| workers | "
        + " | ".join(f"batch {BATCH}, {name}" for name in NETWORKS)
        + " | "
        + " | ".join(f"{BATCH} images a worker, {name}" for name in NETWORKS)
        + " |"
    ]
    text += ["|---|" + "---|" * 2 * len(NETWORKS)]
    for count in WORKERS:
        strong = [BATCH / model(measured, count, speed) for speed in NETWORKS.values()]
        weak = [BATCH * count / model(measured, count, speed, BATCH * count) for speed in NETWORKS.values()]
        text.append(f"| {count} | " + " | ".join(f"{number:,.0f}" for number in (*strong, *weak)) + " |")
    for name, speed in NETWORKS.items():
        best = max(range(1, 1001), key=lambda count: BATCH / model(measured, count, speed))
        gain = model(measured, 1, speed) / model(measured, best, speed)
        text += ["", f"With {name} and batches of {BATCH}, {best} workers are the fastest: {gain:.1f} times one."]
    return text


def sweeps_as_markdown(measured: dict) -> list[str]:
    """Runs per hour."""
    text = ["", "## Runs per hour of a sweep", "", where(measured["machine"]), ""]
    text += [f"{measured['runs']} runs of `{DEFAULT_RECIPE}`, each a process with one thread, imports included."]
    text += ["", "| what | 1 core | 2 cores |", "|---|---|---|"]
    names = dict.fromkeys(name.rpartition(",")[0] for name in measured["per_hour"])
    for name in names:
        cells = [measured["per_hour"].get(f"{name}, {jobs}") for jobs in (1, 2)]
        text.append(f"| {name} | " + " | ".join(f"{cell:,.0f}" if cell else "" for cell in cells) + " |")
    return text


def where(machine: dict) -> str:
    return f"{machine['cpu']}, {machine['cores']} cores; {machine['date']}; load {machine['load_before']:.2f} before."


def modes_as_markdown(measured: dict) -> list[str]:
    """What becomes of the accuracy."""
    text = ["", "## Asynchronous steps, compressed gradients", "", where(measured["machine"]), ""]
    runs = len(measured["test_acc"]["dist_sync"])
    text += [f"`{DEFAULT_RECIPE}` by 2 workers, seeds 0 to {runs - 1}.", ""]
    text += ["| mode | test accuracy of each seed | images/s |", "|---|---|---|"]
    for mode, accuracies in measured["test_acc"].items():
        taken = measured["seconds"].get(mode)
        speed = f"{NUM_IMAGES / median(taken):,.0f}" if taken else ""
        text.append(f"| {mode} | {', '.join(f'{accuracy:.4f}' for accuracy in accuracies)} | {speed} |")
    return text


PARTS = {"workers": measure_workers, "modes": measure_modes, "sweep": measure_sweeps}

if __name__ == "__main__":
    main()
