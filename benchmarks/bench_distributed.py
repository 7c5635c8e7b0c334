"""Workers of a parameter server and sweeps on this machine, measured; many machines, computed from that.

    make bench-distributed                         all of it, into benchmarks/results/ and docs/distributed.md
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
import reproduce
from gluon_lenet.compat.threads import physical_cores
from gluon_lenet.sweeps.run import Options, sweep
from gluon_lenet.training.recipes import DEFAULT_RECIPE, RECIPES
from gluon_lenet.viz.figures import lines
from gluon_lenet.viz.files import write_picture

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
    for page, language in PAGES.items():
        reproduce.insert(page, "distributed", as_markdown(results, language))
    if "workers" in results:
        write_picture(as_figure(results["workers"]), RESULTS.with_suffix(".png"))
    print(as_markdown(results))


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


def as_markdown(results: dict, language: str = "en") -> str:
    """The results as sections of docs/distributed.md."""
    writers = {"workers": workers_as_markdown, "modes": modes_as_markdown, "sweep": sweeps_as_markdown}
    words = WORDS[language]
    parts = [words["by"]]
    for part, write in writers.items():
        if part in results:
            machine = results[part]["machine"]
            where = words["where"].format(**machine)
            parts += ["", words[part], "", where, "", *write(results[part], words)]
    return "\n".join(parts)


def workers_as_markdown(measured: dict, words: dict) -> list[str]:
    """What was measured of workers, and what follows for many machines."""
    text = [words["workers head"], "|---|---|---|---|---|"]
    for engine, seconds in measured["seconds"].items():
        for name, taken in seconds.items():
            count = name.split()[0]
            sent = f"{measured['bytes'][count]:,.0f}" if count in measured["bytes"] else ""
            label = words["one"] if count == "one" else count
            text.append(f"| {engine} | {label} | {BATCH / taken:,.0f} | {1000 * taken:.2f} | {sent} |")
    text += ["", words["model"].format(latency=1000 * latency(measured)), ""]
    columns = [words[kind].format(batch=BATCH, network=name) for kind in ("strong", "weak") for name in NETWORKS]
    text += [f"| {words['count']} | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for count in WORKERS:
        strong = [BATCH / model(measured, count, speed) for speed in NETWORKS.values()]
        weak = [BATCH * count / model(measured, count, speed, BATCH * count) for speed in NETWORKS.values()]
        text.append(f"| {count} | " + " | ".join(f"{number:,.0f}" for number in (*strong, *weak)) + " |")
    text.append("")
    for name, speed in NETWORKS.items():
        best = max(range(1, 1001), key=lambda count: BATCH / model(measured, count, speed))
        gain = model(measured, 1, speed) / model(measured, best, speed)
        text.append(words["best" if best > 1 else "alone"].format(network=name, batch=BATCH, best=best, gain=gain))
    return text


def modes_as_markdown(measured: dict, words: dict) -> list[str]:
    """What becomes of the accuracy."""
    text = [words["modes head"], "|---|---|---|"]
    for mode, accuracies in measured["test_acc"].items():
        taken = measured["seconds"].get(mode)
        speed = f"{NUM_IMAGES / median(taken):,.0f}" if taken else ""
        label = words["one"] if mode == "one process" else f"`{mode}`"
        text.append(f"| {label} | {', '.join(f'{accuracy:.4f}' for accuracy in accuracies)} | {speed} |")
    return text


def sweeps_as_markdown(measured: dict, words: dict) -> list[str]:
    """Runs per hour."""
    text = [words["sweep head"].format(runs=measured["runs"]), "", words["columns"], "|---|---|---|"]
    for name in dict.fromkeys(name.rpartition(",")[0] for name in measured["per_hour"]):
        cells = [measured["per_hour"].get(f"{name}, {jobs}") for jobs in (1, 2)]
        text.append(f"| {name} | " + " | ".join(f"{cell:,.0f}" if cell else "" for cell in cells) + " |")
    return text


PAGES = {bench.ROOT / "docs" / "distributed.md": "en", bench.ROOT / "docs" / "distributed.zh-CN.md": "zh"}
WORDS = {
    "en": {
        "by": "Written by `make bench-distributed`; [each measurement](../benchmarks/results/distributed.json).",
        "where": "{cpu}, {cores} cores; {date}; load {load_before:.1f} before.",
        "workers": "**One training by several workers of one machine**, each with one thread, batches of 256:",
        "workers head": "| engine | workers | images/s | ms a step | bytes a step |",
        "one": "one process, no server",
        "model": "**Many machines: a model, not a measurement.** A step is computing, a + b * images, the line through "
        "the measured steps of batches of 16 and 256; the {latency:.2f} ms that a step of one worker takes longer with "
        "a server than without; and the time in which the server's link carries all gradients to it, then all sums "
        "back. Images per second:",
        "count": "workers",
        "strong": "batch {batch}, {network}",
        "weak": "{batch} images a worker, {network}",
        "best": "With {network} and batches of {batch}, {best} workers are the fastest: {gain:.1f} times one.",
        "alone": "With {network} and batches of {batch}, one worker is the fastest.",
        "modes": "**Asynchronous steps, compressed gradients**: the default recipe by 2 workers, seeds 0, 1, ...:",
        "modes head": "| mode | test accuracy of each seed | images/s |",
        "sweep": "**Runs per hour of a sweep**:",
        "sweep head": "{runs} runs of the default recipe, each a process with one thread, imports included.",
        "columns": "| what | 1 core | 2 cores |",
    },
    "zh": {
        "by": "由 `make bench-distributed` 写出；[每一次测量](../benchmarks/results/distributed.json)。",
        "where": "{cpu}，{cores} 核；{date}；之前的负载 {load_before:.1f}。",
        "workers": "**一台机器上由多个工作进程完成的一次训练**，每个一个线程，批量大小 256：",
        "workers head": "| 引擎 | 工作进程 | 图像/秒 | 每步毫秒 | 每步字节 |",
        "one": "一个进程，没有服务进程",
        "model": "**许多台机器：是模型，不是测量。** 一步包括：计算，a + b * 图像数，"
        "是批量大小 16 和 256 的实测每步时间连成的直线；"
        "一个工作进程有服务进程时比没有时每步多出的 {latency:.2f} 毫秒；"
        "以及服务进程的网线先收齐所有梯度、再发回所有和的时间。图像/秒：",
        "count": "工作进程",
        "strong": "批量 {batch}，{network}",
        "weak": "每个工作进程 {batch} 张，{network}",
        "best": "{network}、批量大小 {batch} 时，{best} 个工作进程最快：是一个的 {gain:.1f} 倍。",
        "alone": "{network}、批量大小 {batch} 时，一个工作进程最快。",
        "modes": "**异步更新，压缩梯度**：默认的配方，2 个工作进程，随机种子 0、1、……：",
        "modes head": "| 方式 | 各个种子的测试准确率 | 图像/秒 |",
        "sweep": "**扫描每小时完成的训练次数**：",
        "sweep head": "默认的配方训练 {runs} 次，每次一个进程、一个线程，包括导入的时间。",
        "columns": "| | 1 核 | 2 核 |",
    },
}
PARTS = {"workers": measure_workers, "modes": measure_modes, "sweep": measure_sweeps}

if __name__ == "__main__":
    main()
