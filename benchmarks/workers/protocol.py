"""A job on the command line, requests on stdin -> one line of JSON on stdout per answer.

    python with_torch.py channels_last JOB.json            answers requests until stdin ends
    python with_torch.py channels_last JOB.json --epochs 5 trains 5 epochs, as a user's script would, and ends

Requests: `epoch` (a pass over the training images, then one over the test images, timed separately), `infer N` (images
per second, N at a time), `sgemm` (the best float32 matrix product, in FLOP/s), `memory` (peak bytes). The parent
(bench.py) sets the number of threads in the environment and stops every process but the one it asks.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

INFERENCE_SECONDS = 0.5  # least duration of an inference timing


class Contender:
    """A net, its optimizer and its data in one framework, given by `job`; `mode` is how the net is run."""

    def __init__(self, job: dict, mode: str):
        self.job, self.mode, self.threads = job, mode, int(os.environ["OMP_NUM_THREADS"])
        self.batch_size, self.epoch = job["batch_size"], 0
        self.build()

    def build(self) -> None:
        """Make the net, the optimizer and the data, in the framework's preferred form."""
        raise NotImplementedError

    def train(self, order: np.ndarray) -> float:
        """One pass over the training images, in this order; waits for all computations and returns the mean loss."""
        raise NotImplementedError

    def logits(self, first: int, last: int) -> np.ndarray:
        """The net's outputs (last - first, classes) for these test images."""
        raise NotImplementedError

    def count_correct(self) -> int:
        """The number of test images predicted correctly."""
        raise NotImplementedError

    def versions(self) -> dict[str, str]:
        """Names and versions of the libraries."""
        raise NotImplementedError

    # What the contenders share -----------------------------------------------------------------------------------

    def arrays(self, part: str, raw: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """uint8 images (n, h, w) and labels (n,); `part` is train or test.

        The images are already resized if the recipe resizes; `raw` gives the original ones.
        """
        folder = Path(self.job["folder"])
        return np.load(folder / f"{part}_images{'' if raw else self.job['resized']}.npy"), np.load(
            folder / f"{part}_labels.npy"
        )

    def floats(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """The net's inputs, float32 (n, 1, h, w), and labels int64 (n,)."""
        images, labels = self.arrays(part)
        X = images[:, None].astype(np.float32) / 255
        if (self.job["mean"], self.job["std"]) != (0, 1):
            X = (X - np.float32(self.job["mean"])) / np.float32(self.job["std"])
        return X, labels.astype(np.int64)

    def run_epoch(self) -> dict:
        """Train, then test: seconds of training and of both, mean training loss, test accuracy."""
        start = time.perf_counter()
        loss = self.train(np.random.default_rng([self.job["seed"], self.epoch]).permutation(self.job["num_train"]))
        trained = time.perf_counter()
        num_correct = self.count_correct()
        end = time.perf_counter()
        self.epoch += 1
        return {
            "train_seconds": trained - start,
            "seconds": end - start,
            "loss": float(loss),
            "test_acc": int(num_correct) / self.job["num_test"],
        }

    def infer(self, batch_size: int) -> float:
        """Images per second, waiting for each batch of test images."""
        for i in range(3):
            self.logits(i, i + batch_size)
        images, first, start = 0, 0, time.perf_counter()
        while (seconds := time.perf_counter() - start) < INFERENCE_SECONDS:
            first = first + batch_size if first + 2 * batch_size <= self.job["num_test"] else 0
            self.logits(first, first + batch_size)
            images += batch_size
        return images / seconds

    def multiply(self, a: np.ndarray, b: np.ndarray):
        """A function without arguments that computes the matrix product of two float32 arrays."""
        return lambda: a @ b

    def sgemm(self) -> float:
        """FLOP/s of the fastest of several square matrix products."""
        best = 0.0
        for side in (1024, 2048):
            product = self.multiply(*np.random.default_rng(0).random((2, side, side), np.float32))
            product()
            for _ in range(2**34 // side**3 // 2):
                start = time.perf_counter()
                product()
                best = max(best, 2 * side**3 / (time.perf_counter() - start))
        return best


def peak_memory() -> int:
    """Peak bytes of this process, plus the private memory of its children."""
    status = Path("/proc/self/status")
    if not status.exists():  # macOS counts bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total = 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{child}/smaps_rollup").read_text().splitlines()
                total += 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return total


def main(contender_class: type[Contender]) -> None:
    """Answer requests, or train the requested number of epochs."""
    mode, job = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a framework prints goes to stderr: stdout is for answers only

    def answer(content) -> None:
        print(json.dumps(content), file=answers, flush=True)

    contender = contender_class(job, mode)
    if sys.argv[3:4] == ["--epochs"]:
        for _ in range(int(sys.argv[4])):
            answer(contender.run_epoch())
        return
    answer(contender.versions() | {"python": sys.version.split()[0], "numpy": np.__version__})
    for line in sys.stdin:
        request, *arguments = line.split()
        if request == "epoch":
            answer(contender.run_epoch())
        elif request == "infer":
            answer(contender.infer(int(arguments[0])))
        elif request == "sgemm":
            answer(contender.sgemm())
        elif request == "memory":
            answer(peak_memory())
