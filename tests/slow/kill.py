"""Runs killed by SIGKILL at random moments and resumed -> the same bits as undisturbed runs, or an error.

`python tests/slow/kill.py 1000 --lanes 2 --record FILE` (`make test-kill`); test_kill.py kills fewer.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from conftest import ROOT, module_env, same_run
from small_train import SMALL

TRAIN = [sys.executable, ROOT / "tests" / "helpers" / "small_train.py"]
# Phase -> per cent of the kills: while the process starts (imports, data, the directory), from its first batch to a
# little more than an epoch later, while it writes a file, while it ends.
PHASES = {"start": 25, "train": 40, "write": 25, "end": 10}
SEEDS = (3, 4)  # of the runs; for each recipe and seed, the undisturbed run is made once


class Lane:
    """Runs processes one after another, killing each, until the required number of kills."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.generator = folder, np.random.default_rng(seed)
        self.kills, self.whole_runs = Counter(), 0
        self._whole = {}  # (recipe, seed) -> the undisturbed run, seconds until it trained, seconds an epoch took
        self._runs = 0

    def work(self, kills: int) -> None:
        """Kill the given number of times, over as many runs as needed; each is finished and compared."""
        while self.kills.total() < kills:
            recipe, seed = sorted(SMALL)[self._runs % len(SMALL)], SEEDS[self._runs // len(SMALL) % len(SEEDS)]
            self._runs += 1
            self._run(recipe, seed, kills)

    def _run(self, recipe: str, seed: int, kills: int) -> None:
        whole, to_start, epoch = self._undisturbed(recipe, seed)
        run = self.folder / f"run{self._runs}"
        phases = []
        while True:
            last = self.kills.total() >= kills
            process = self._start(run, recipe, seed)
            if not last:
                phase = str(self.generator.choice(list(PHASES), p=np.array(list(PHASES.values())) / 100))
                if phase == "start":
                    time.sleep(self.generator.uniform(0, 1.1) * to_start)
                elif trains(process):
                    if phase == "write":
                        wait_for_a_write(process, run)
                    elif phase == "end":
                        wait_for_the_last_epoch(
                            process, run, SMALL[recipe].num_epochs, patience=(SMALL[recipe].num_epochs + 2) * epoch
                        )
                    else:
                        time.sleep(self.generator.uniform(0, 1.5) * epoch)
                process.kill()  # no effect if it has ended meanwhile
            output, _ = process.communicate()
            if process.returncode == -signal.SIGKILL:
                self.kills[phase] += 1
                phases.append(phase)
                continue
            assert process.returncode == 0, f"{recipe}, seed {seed}, killed at {phases}: {output}"
            break
        same_run(run, whole)
        assert sorted(os.listdir(run)) == sorted(os.listdir(whole)), "something half-written is left"
        self.whole_runs += 1
        shutil.rmtree(run)

    def _start(self, run: Path, recipe: str, seed: int) -> subprocess.Popen:
        """The process that resumes where the previous one was killed."""
        begun = (run / "config.json").exists()
        args = ["--resume", run] if begun else ["--recipe", recipe, "--seed", seed, "--threads", 1, "--run-dir", run]
        return subprocess.Popen(
            [*TRAIN, *map(str, args)],
            cwd=self.folder,
            env=module_env(OMP_NUM_THREADS="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _undisturbed(self, recipe: str, seed: int) -> tuple[Path, float, float]:
        if (recipe, seed) not in self._whole:
            path, begun = self.folder / f"{recipe}-{seed}", time.perf_counter()
            process = self._start(path, recipe, seed)
            assert trains(process)
            trained = time.perf_counter()
            output, _ = process.communicate()
            assert process.returncode == 0, output
            epoch = (time.perf_counter() - trained) / SMALL[recipe].num_epochs
            self._whole[recipe, seed] = path, trained - begun, epoch
        return self._whole[recipe, seed]


def trains(process) -> bool:
    """Whether the process reached its first batch."""
    return any(line.startswith("training on") for line in iter(process.stdout.readline, ""))


def wait_for_a_write(process, run: Path) -> None:
    """Return while a file is being written under its temporary name."""
    while process.poll() is None and not any(name.endswith(".tmp") for name in os.listdir(run)):
        pass


def wait_for_the_last_epoch(process, run: Path, num_epochs: int, patience: float) -> None:
    """Return when the results of all epochs are written, or after a timeout in seconds."""
    end = time.perf_counter() + patience
    while process.poll() is None and time.perf_counter() < end:
        metrics = run / "metrics.jsonl"
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= num_epochs:
            return
        time.sleep(0.001)


def kill(folder: Path, kills: int, lanes: int, seed: int) -> list[Lane]:
    """Kill the given number of times in parallel lanes; raises AssertionError if a run ended differently."""
    workers = []
    for k in range(lanes):
        (folder / f"lane{k}").mkdir()
        workers.append(Lane(folder / f"lane{k}", seed + k))
    with ThreadPoolExecutor(lanes) as executor:
        for future in [executor.submit(worker.work, -(-kills // lanes)) for worker in workers]:
            future.result()
    return workers


def main() -> None:
    """Kill as the command line says, and record the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--record", type=Path)
    args = parser.parse_args()
    print(f"moments drawn with seed {args.seed}", flush=True)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        lanes = kill(Path(folder), args.kills, args.lanes, args.seed)
    minutes = (time.perf_counter() - begun) / 60
    kills, runs = sum((lane.kills for lane in lanes), Counter()), sum(lane.whole_runs for lane in lanes)
    text = f"""# Runs killed and resumed

`python tests/slow/kill.py {args.kills} --lanes {args.lanes} --seed {args.seed}` on {time.strftime("%Y-%m-%d")}, \
Python {platform.python_version()}, {os.cpu_count()} cores, {minutes:.0f} minutes.

{kills.total()} kills (SIGKILL) of processes that made {runs} runs of {" and ".join(sorted(SMALL))}: each run ended with
the same weights, optimizer states and results, bit for bit, as an undisturbed run, and left no partial files.

| killed | kills |
|---|---|
| while it started: imports, data, the run directory, reading a checkpoint | {kills["start"]} |
| while it trained or tested | {kills["train"]} |
| while it wrote a file | {kills["write"]} |
| after the last epoch, while it ended | {kills["end"]} |
"""
    print(text)
    if args.record:
        args.record.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
