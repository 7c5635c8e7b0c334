"""Images, labels and training histories -> matplotlib figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gluon_lenet.data.datasets import FASHION_MNIST_LABELS


def get_fashion_mnist_labels(labels) -> list[str]:
    """The class names, in the book's words, of the numbers in `labels`."""
    return [FASHION_MNIST_LABELS[int(i)] for i in labels]


def show_fashion_mnist(images, labels: Sequence[str]) -> None:
    """Draw a row of images under their labels with pyplot, as the book's function of this name does.

    Args:
        images: NDArrays or arrays of 28 * 28 values each, in any shape.
        labels: one text an image.
    """
    from matplotlib import pyplot as plt  # here, because it chooses a window system for the whole process

    _, axes = plt.subplots(1, len(images), figsize=(12, 12), squeeze=False)
    for axis, image, label in zip(axes[0], images, labels, strict=True):
        pixels = image.asnumpy() if hasattr(image, "asnumpy") else np.asarray(image)
        axis.imshow(pixels.reshape(28, 28), cmap="gray")
        axis.set_title(label)
        axis.axis("off")


def curves(history: Sequence, title: str) -> Figure:
    """Loss and accuracy by epoch, side by side, from a list of `training.EpochResult`."""
    epochs = [result.epoch for result in history]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    loss_axis, acc_axis = figure.subplots(1, 2)
    loss_axis.plot(epochs, [result.train_loss for result in history], "o-", label="train")
    loss_axis.set(xlabel="epoch", ylabel="cross-entropy loss", ylim=(0, None))
    acc_axis.plot(epochs, [result.train_acc for result in history], "o-", label="train")
    acc_axis.plot(epochs, [result.test_acc for result in history], "s--", label="test")
    acc_axis.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1))
    for axis in (loss_axis, acc_axis):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle(title)
    return figure
