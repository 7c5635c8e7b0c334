"""Launched trainings with a random process killed or stopped at a random moment -> all end, nothing is lost or left.

`python tests/distributed/chaos.py 50 --record FILE` (`make test-chaos`); test_launch.py does fewer. Every second run
may restart, and must end with the weights of an undisturbed run; the others must end within 10 seconds, and are then
resumed to those weights.
"""

from __future__ import annotations

import argparse
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from conftest import module_env, same_run

TRAIN = ["--epochs", "2", "--seed", "3", "--threads", "1"]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)
VICTIMS = ("scheduler", "server", "worker 0", "worker 1", "agent", "launcher")
LIMIT = 10.0  # seconds


class Chaos:
    """Makes an undisturbed run in the folder, and then disturbed ones."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.generator = folder, np.random.default_rng(seed)
        self.ends, self.slowest, self.resumed = Counter(), 0.0, 0
        begun = time.monotonic()
        status, output = self.wait(self.launch("whole", 0)[0])
        assert status == 0, output
        self.seconds = time.monotonic() - begun

    def launch(self, name: str, restarts: int, *train: str) -> tuple[subprocess.Popen, str]:
        """The launcher, and a mark that all its processes carry."""
        mark = secrets.token_hex(8)
        train = train or (*TRAIN, "--run-dir", name)
        process = subprocess.Popen(
            [sys.executable, "-m", "gluon_lenet.launch", "--max-restarts", str(restarts), "--", *train],
            cwd=self.folder,
            env=module_env(GLUON_LENET_CHAOS=mark),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        return process, mark

    def wait(self, process: subprocess.Popen, seconds: float = 300) -> tuple[int, str]:
        """The exit status and the output."""
        output, _ = process.communicate(timeout=seconds)
        return process.returncode, output

    def disturb(self, number: int) -> str:
        """One run; returns what was done and how it ended. Raises AssertionError if it ended otherwise."""
        name, restarts = f"run{number}", number % 2
        victim, kill = VICTIMS[self.generator.integers(len(VICTIMS))], SIGNALS[self.generator.integers(len(SIGNALS))]
        if victim == "launcher":  # which nobody restarts, and which a person may stop
            restarts, kill = 0, SIGNALS[self.generator.integers(2)]
        delay = self.generator.uniform(0.5, self.seconds)
        shutil.rmtree(self.folder / name, ignore_errors=True)
        process, mark = self.launch(name, restarts)
        time.sleep(delay)
        found = marked(mark)
        what = f"{victim} {kill.name} after {delay:.1f} s"
        if victim not in found or process.poll() is not None:  # not yet there, or not any more
            status, output = self.wait(process)
            assert status == 0, f"{what}: {output}"
            return self.disturb(number)
        struck = time.monotonic()
        os.kill(found[victim], kill)
        status, output = self.wait(process, 10 if not restarts else 300)
        if restarts:
            assert status == 0, f"{what}: {output}"
            ending = "restarted" if "starting again" in output else "had ended well"
        else:
            while left := marked(mark):
                assert time.monotonic() - struck < LIMIT, f"{what}: {left} are left: {output}"
                time.sleep(0.05)
            self.slowest = max(self.slowest, time.monotonic() - struck)
            ending = "ended" if status else "had ended well"
            if status and victim != "launcher":
                assert victim in output.splitlines()[-1], f"{what}: {output}"
            if status and (self.folder / name / "config.json").exists():
                status, output = self.wait(self.launch(name, 0, "--resume", name)[0])
                assert status == 0, f"{what}, resumed: {output}"
                self.resumed += 1
                ending = "ended, and was resumed"
            elif status:
                ending = "ended before there was a run"
        assert not marked(mark), f"{what}: {marked(mark)} are left"
        if (self.folder / name / "config.json").exists():
            same_run(self.folder / name, self.folder / "whole")
            left = [file for file in os.listdir(self.folder / name) if file.endswith(".tmp")]
            assert not left, f"{what}: {left} are left"
        self.ends[ending] += 1
        return f"{what}: {ending}"


def marked(mark: str) -> dict[str, int]:
    """The processes that run and carry the mark, by name."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if f"GLUON_LENET_CHAOS={mark}".encode() not in environment or state == "Z":
            continue
        role = next((part[10:].decode() for part in environment if part.startswith(b"DMLC_ROLE=")), None)
        rank = next((part[17:].decode() for part in environment if part.startswith(b"GLUON_LENET_RANK=")), "")
        name = f"{role} {rank}".strip() if role else "launcher" if b"gluon_lenet.launch" in command else "agent"
        found[name] = int(folder.name)
    return found


def main() -> None:
    """Disturb as the command line says, and record the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=int)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--record", type=Path)
    args = parser.parse_args()
    print(f"drawn with seed {args.seed}", flush=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        chaos = Chaos(Path(folder), args.seed)
        print(f"undisturbed: {chaos.seconds:.1f} s", flush=True)
        for number in range(args.runs):
            print(number, chaos.disturb(number), flush=True)
    rows = "\n".join(f"| {ending} | {count} |" for ending, count in sorted(chaos.ends.items()))
    text = f"""# Launched trainings with a process killed or stopped

`python tests/distributed/chaos.py {args.runs} --seed {args.seed}` on {time.strftime("%Y-%m-%d")}, \
Python {platform.python_version()}, {os.cpu_count()} cores, {(time.monotonic() - begun) / 60:.0f} minutes.

In each of {args.runs} trainings by 2 workers and 1 server a random process (scheduler, server, a worker, the agent, the
launcher) got SIGKILL, SIGTERM or SIGSTOP at a random moment. No process was left; the slowest end without restarts took
{chaos.slowest:.1f} s. Runs that restarted, and {chaos.resumed} that ended and were resumed by hand, had the weights,
optimizer states and results of an undisturbed run, bit for bit.

| the run | runs |
|---|---|
{rows}
"""
    print(text)
    if args.record:
        args.record.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
