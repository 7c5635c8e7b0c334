"""An epoch of the chapter through our train_ch5 against d2lzh.train_ch5 with d2lzh's own loader, interleaved.

    python benchmarks/against_d2lzh.py [--rounds 3]

Both train the chapter's nn.Sequential at batch size 256 on the real Fashion-MNIST; an epoch is what the book's printed
time covers, training and test pass. Writes benchmarks/results/against_d2lzh.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import gluon_lenet  # first: it mends NumPy for MXNet
from gluon_lenet import compat

# isort: split
import d2lzh
import mxnet as mx
from mxnet import gluon, init, nd
from mxnet.gluon.data import vision

BATCH_SIZE = 256
RESULTS = Path(__file__).resolve().parent / "results" / "against_d2lzh.json"


class FashionMNIST(vision.FashionMNIST):
    """Gluon's data set over our verified files: the SHA-1s it insists on are of files withdrawn in 2017."""

    def _get_data(self):
        data = gluon_lenet.load_dataset("fashion_mnist")
        images, labels = (data.train_images, data.train_labels) if self._train else (data.test_images, data.test_labels)
        self._data, self._label = nd.array(images[..., None], dtype="uint8"), labels.astype("int32")


def epoch_of(train_ch5, iters) -> float:
    """Seconds of one epoch, from fresh weights."""
    net = gluon_lenet.lenet()
    net.initialize(init.Xavier())
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.9})
    mx.nd.waitall()
    start = time.perf_counter()
    train_ch5(net, *iters, BATCH_SIZE, trainer, mx.cpu(), 1)
    mx.nd.waitall()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    vision.FashionMNIST = FashionMNIST
    contestants = {
        "gluon_lenet": (gluon_lenet.train_ch5, gluon_lenet.load_data_fashion_mnist(BATCH_SIZE, seed=0)),
        "d2lzh": (d2lzh.train_ch5, d2lzh.load_data_fashion_mnist(BATCH_SIZE)),
    }
    seconds = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, (train_ch5, iters) in contestants.items():
            seconds[name].append(epoch_of(train_ch5, iters))
    seconds = {name: values[1:] for name, values in seconds.items()}  # the first round warms up
    ratios = [ours / theirs for ours, theirs in zip(seconds["gluon_lenet"], seconds["d2lzh"], strict=True)]
    result = {
        "command": f"python benchmarks/against_d2lzh.py --rounds {rounds}",
        "seconds_an_epoch": {name: [round(value, 3) for value in values] for name, values in seconds.items()},
        "ratio": [round(ratio, 3) for ratio in ratios],
        "median_ratio": round(statistics.median(ratios), 3),
        "threads": compat.num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
