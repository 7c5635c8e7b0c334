"""A recipe's name -> everything that decides a result: source, net, data, optimization, and what was published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gluon_lenet.errors import InputError
from gluon_lenet.fields import Count, Natural, NotNegative, Number, Pixels, Positive, Share, Text


@dataclass(frozen=True)
class Recipe:
    """One write-up's training run; two recipes read side by side like rows of a table."""

    source: Text
    published: Text  # what the source, or a reference run, reached
    net: Text  # a name in nets.NETS
    dataset: Text  # a name in data.datasets
    optimizer: Literal["sgd", "adam"]
    lr: Positive  # on the gradient averaged over the batch
    batch_size: Natural
    num_epochs: Natural
    last_batch_in_full: bool = True  # False divides its gradient by batch_size too, as the book's train_ch5
    momentum: Share | None = None  # of sgd
    wd: NotNegative = 0.0  # weight decay: times the weight, added to the gradient
    # of lr: constant; step (x 0.1 every 10 epochs); cosine (to 0 at the last update of num_epochs)
    schedule: Literal["constant", "step", "cosine"] = "constant"
    init: Literal["xavier", "lecun1998"] = "xavier"  # of the weights; lecun1998: uniform within +-2.4 / fan-in
    loss: Literal["cross_entropy", "map"] = "cross_entropy"  # map: equation 9 of the 1998 paper
    resize: Pixels | None = None  # side
    pad: Pixels = 0  # of background on each side
    mean: Number = 0.0  # the net is fed (pixel / 255 - mean) / std
    std: Positive = 1.0
    augment: Text | None = None  # a name in data.augment.AUGMENTATIONS: how training images are bent at random
    num_validation: Count = 0  # training images held out to choose the best weights by


RECIPES = {
    "d2l_v1_fashion": Recipe(
        source="d2l-zh v1, chapter LeNet (write-up 001)",
        published="0.757-0.769 test accuracy in published runs",
        net="lenet5_sigmoid_maxpool",
        dataset="fashion_mnist",
        optimizer="sgd",
        lr=0.9,
        batch_size=256,
        num_epochs=5,
        last_batch_in_full=False,
    ),
    "d2l_v2_fashion": Recipe(
        source="d2l course, lesson 21 (write-up 004)",
        published="0.763-0.817 test accuracy in five reference runs",
        net="lenet5_sigmoid_avgpool",
        dataset="fashion_mnist",
        optimizer="sgd",
        lr=0.9,
        batch_size=256,
        num_epochs=10,
    ),
    "relu_adam_mnist": Recipe(
        source="a book's section 4.4 (write-up 000), fed 0-1 pixels, where it feeds a net trained on those 0-255",
        published="0.9812 test accuracy",
        net="lenet5_relu_maxpool",
        dataset="mnist",
        optimizer="adam",
        lr=0.001,
        batch_size=64,
        num_epochs=3,
    ),
    "sgd_step_mnist": Recipe(
        source="a tutorial (write-up 002), its schedule stepped and its best weights chosen off the test set",
        published="none; 0.944-0.959 test accuracy in three reference runs",
        net="lenet5_sigmoid_avgpool_c5",
        dataset="mnist",
        optimizer="sgd",
        lr=0.001,
        batch_size=16,
        num_epochs=10,
        momentum=0.9,
        schedule="step",
        num_validation=5000,
    ),
    "tanh_adam_mnist": Recipe(
        source="a report (write-up 003)",
        published="0.9880 test accuracy",
        net="lenet5_tanh_avgpool",
        dataset="mnist",
        optimizer="adam",
        lr=0.001,
        batch_size=64,
        num_epochs=30,
        resize=32,
        mean=0.1307,
        std=0.3081,
        num_validation=5000,
    ),
    "lecun1998_mnist": Recipe(
        source="LeCun, Bottou, Bengio, Haffner 1998, section III; its second-order steps replaced by momentum and wd",
        published="0.95 % test error in the paper, 0.98 % in a reference run",
        net="lenet5_1998",
        dataset="mnist",
        optimizer="sgd",
        lr=0.002,
        batch_size=32,
        num_epochs=20,
        momentum=0.9,
        wd=0.002,
        schedule="cosine",
        init="lecun1998",
        loss="map",
        pad=2,
        mean=0.1 / 1.275,  # paper -0.1, ink 1.175: x * 1.275 - 0.1
        std=1 / 1.275,
    ),
    "lecun1998_distorted": Recipe(
        source="the same, trained on distorted digits as in section III.B, drawn anew in each pass",
        published="0.80 % test error in the paper",
        net="lenet5_1998",
        dataset="mnist",
        optimizer="sgd",
        lr=0.002,
        batch_size=32,
        num_epochs=20,
        momentum=0.9,
        schedule="cosine",
        init="lecun1998",
        loss="map",
        pad=2,
        mean=0.1 / 1.275,
        std=1 / 1.275,
        augment="lecun1998",
    ),
    "augmented_mnist": Recipe(
        source="write-up 003's shortcoming, rotated and stretched digits, mended by augmentation",
        published="none; 0.9947 test accuracy in a reference run",
        net="lenet5_relu_maxpool",
        dataset="mnist",
        optimizer="adam",
        lr=0.002,
        batch_size=128,
        num_epochs=40,
        schedule="cosine",
        augment="handwriting",
    ),
    "better_fashion": Recipe(
        source="the exercise at the end of write-up 001: a better LeNet for Fashion-MNIST",
        published="none; 0.9176 test accuracy in a reference run",
        net="lenet5_relu_maxpool_wide",
        dataset="fashion_mnist",
        optimizer="adam",
        lr=0.002,
        batch_size=128,
        num_epochs=24,
        schedule="cosine",
        augment="clothing",
    ),
}

DEFAULT_RECIPE = "d2l_v1_fashion"

AUGMENT = {"mnist": "handwriting", "fashion_mnist": "clothing"}  # what --augment does to a data set


def get_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        InputError: no recipe has that name; the message lists those there are.
    """
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}; choose from {', '.join(RECIPES)}")
    return RECIPES[name]
