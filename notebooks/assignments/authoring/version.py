"""A seed -> the numbers of one version of the assignment: shapes, padding, widths, activation, what is asked.

A version's net is no net of the book or of our notebooks, so neither holds the answers.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import prod

CLASSES = 10
PIXELS = 28  # a side of the original images


@dataclass(frozen=True)
class Conv:
    """A convolution with stride 1 and the 2x2 pooling after it."""

    channels: int
    kernel: int
    padding: int
    pooling: str  # "max" or "mean"

    def size(self, size: int) -> int:
        """A side of the convolution's output, for a side of its input."""
        return size + 2 * self.padding - self.kernel + 1


@dataclass(frozen=True)
class Optimizer:
    """How Gluon's Trainer is to be made, and a learning rate and a number of epochs with which it works."""

    name: str
    settings: tuple[tuple[str, float], ...]
    lr: float
    num_epochs: int

    @property
    def arguments(self) -> str:
        """The settings besides the learning rate, as they stand in a dictionary of Python."""
        return "".join(f', "{name}": {value}' for name, value in self.settings)

    @property
    def keywords(self) -> str:
        """The same as arguments of a function."""
        return "".join(f", {name}={value}" for name, value in self.settings)

    @property
    def text(self) -> str:
        """The same in words."""
        return "，".join(f"{name} 是 {value}" for name, value in self.settings)


@dataclass(frozen=True)
class Version:
    """All that distinguishes one version of the assignment from another."""

    seed: int
    size: int  # a side of the images, cut or padded
    convs: tuple[Conv, Conv]
    widths: tuple[int, int]  # of the hidden dense layers
    activation: str
    optimizer: Optimizer
    correlation: str  # "stride", "padding" or "dilation": what corr2d takes besides X and K
    pool_mode: str  # of the function pool2d: "max" or "mean"
    k: int  # of the top-k accuracy
    batch_size: int
    target: float  # accuracy on the test set
    experiment: str
    questions: tuple[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The output shape of each layer by its name, without the batch."""
        shapes, size = {}, self.size
        for number, conv in enumerate(self.convs, 1):
            size = conv.size(size)
            shapes[f"conv{number}"] = (conv.channels, size, size)
            size //= 2
            shapes[f"pool{number}"] = (conv.channels, size, size)
        return shapes | {"dense1": self.widths[:1], "dense2": self.widths[1:], "output": (CLASSES,)}

    @property
    def inputs(self) -> dict[str, int]:
        """How many numbers one output of each layer with parameters is computed from."""
        channels = (1, self.convs[0].channels)
        convs = {f"conv{n}": channels[n - 1] * conv.kernel**2 for n, conv in enumerate(self.convs, 1)}
        return convs | {"dense1": prod(self.shapes["pool2"]), "dense2": self.widths[0], "output": self.widths[1]}

    @property
    def params(self) -> dict[str, int]:
        """The number of parameters of each layer that has some."""
        return {name: self.shapes[name][0] * (inputs + 1) for name, inputs in self.inputs.items()}

    @property
    def weight_shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the net's parameters in Gluon's order."""
        shapes, channels = [], 1
        for conv in self.convs:
            shapes += [(conv.channels, channels, conv.kernel, conv.kernel), (conv.channels,)]
            channels = conv.channels
        for name in ("dense1", "dense2", "output"):
            shapes += [(self.shapes[name][0], self.inputs[name]), self.shapes[name]]
        return shapes


# Optimizers that train every net of `make_version` to its target with these numbers (tests/assignments).
OPTIMIZERS = {
    "sigmoid": (Optimizer("adam", (("beta1", 0.9),), 0.005, 6), Optimizer("adam", (("beta1", 0.8),), 0.005, 6)),
    "tanh": (
        Optimizer("sgd", (("momentum", 0.9),), 0.1, 3),
        Optimizer("nag", (("momentum", 0.9),), 0.1, 3),
        Optimizer("adam", (("beta1", 0.8),), 0.002, 3),
    ),
    "relu": (
        Optimizer("sgd", (("momentum", 0.8),), 0.1, 3),
        Optimizer("nag", (("momentum", 0.8),), 0.1, 3),
        Optimizer("adam", (("beta1", 0.8),), 0.002, 3),
    ),
    "softsign": (
        Optimizer("sgd", (("momentum", 0.9),), 0.1, 3),
        Optimizer("adam", (("beta1", 0.9),), 0.002, 3),
    ),
}
TARGET = 0.75
EXPERIMENTS = ("lr", "batch_size", "activation", "pooling")
QUESTIONS = ("sigmoid", "padding", "parameters", "accuracy", "step")


def make_version(seed: int) -> Version:
    """The version of the assignment for a seed: the same numbers for the same seed, on every machine."""
    rng = random.Random(f"gluon_lenet assignment {seed}")
    while True:
        version = _draw(seed, rng)
        sides = [
            conv.size(size)
            for conv, size in zip(version.convs, (version.size, version.shapes["pool1"][1]), strict=True)
        ]
        if (
            84 not in version.widths
            and all(side % 2 == 0 and side >= 8 for side in sides)
            and 15_000 <= sum(version.params.values()) <= 60_000
        ):
            return version


def _draw(seed: int, rng: random.Random) -> Version:
    poolings = rng.choice([("max", "mean"), ("mean", "max")])  # every net of the book has twice the same
    convs = tuple(
        Conv(rng.choice(channels), rng.choice([3, 5]), rng.choice([0, 1, 2]), pooling)
        for channels, pooling in zip(([4, 5, 7, 8, 9], [10, 11, 12, 13, 14, 15, 18]), poolings, strict=True)
    )
    activation = rng.choice(sorted(OPTIMIZERS))
    return Version(
        seed=seed,
        size=rng.choice([24, 26, 30, 32]),
        convs=convs,
        widths=(rng.randrange(60, 110, 2), rng.randrange(30, 58, 2)),
        activation=activation,
        optimizer=rng.choice(OPTIMIZERS[activation]),
        correlation=rng.choice(["stride", "padding", "dilation"]),
        pool_mode=rng.choice(["max", "mean"]),
        k=rng.choice([2, 3]),
        batch_size=rng.choice([200, 240, 250, 300]),
        target=TARGET,
        experiment=rng.choice(EXPERIMENTS),
        questions=tuple(rng.sample(QUESTIONS, 2)),
    )
