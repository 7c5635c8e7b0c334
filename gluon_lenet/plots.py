"""Images, labels and training histories -> matplotlib figures."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gluon_lenet.data.datasets import FASHION_MNIST_LABELS
from gluon_lenet.errors import InputError
from gluon_lenet.run_dir import write_atomically

PICTURES = (".png", ".jpg", ".pdf", ".svg")


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


class Animator:
    """Curves that grow while a net trains, as the d2l course has it: live in a notebook, a file elsewhere.

    Args:
        xlabel, ylabel, xlim, ylim, xscale, yscale, figsize: of the one axis.
        legend: a label a curve.
        fmts: a matplotlib format a curve.
        file: what `save` writes outside a notebook.
    """

    def __init__(
        self,
        xlabel: str | None = None,
        ylabel: str | None = None,
        legend: Sequence[str] = (),
        xlim=None,
        ylim=None,
        xscale: str = "linear",
        yscale: str = "linear",
        fmts: Sequence[str] = ("-", "m--", "g-.", "r:"),
        figsize: tuple[float, float] = (4.5, 3),
        file: str = "animator.png",
    ):
        self.settings = {"xlabel": xlabel, "ylabel": ylabel, "xlim": xlim, "ylim": ylim}
        self.settings |= {"xscale": xscale, "yscale": yscale}
        self.legend, self.fmts, self.file = legend, fmts, file
        self.figure = Figure(figsize=figsize, layout="constrained")
        self.axis = self.figure.subplots()
        self.points = {}  # number of the curve -> its x and its y
        self._display = _notebook_display()
        self._shown = None

    def add(self, x: float, y) -> None:
        """Add a point at `x` to each curve: a number, or one a curve, None where a curve has none."""
        for i, value in enumerate(y if hasattr(y, "__len__") else [y]):
            if value is not None:
                xs, ys = self.points.setdefault(i, ([], []))
                xs.append(x)
                ys.append(value)
        if self._display is None:
            return
        self._draw()
        png = io.BytesIO()
        self.figure.savefig(png, format="png", dpi=100)
        picture = self._display.Image(png.getvalue())
        if self._shown is None:
            self._shown = self._display.display(picture, display_id=True)
        else:
            self._shown.update(picture)

    def save(self) -> None:
        """Write the file, outside a notebook."""
        if self._display is None:
            self._draw()
            self.figure.savefig(self.file, dpi=120)

    def _draw(self) -> None:
        self.axis.cla()
        for i, (xs, ys) in sorted(self.points.items()):
            label = self.legend[i] if i < len(self.legend) else None
            self.axis.plot(xs, ys, self.fmts[i % len(self.fmts)], label=label)
        self.axis.set(**{name: value for name, value in self.settings.items() if value is not None})
        self.axis.grid(alpha=0.3)
        if self.legend:
            self.axis.legend()


def _notebook_display():
    """The module `IPython.display` in a notebook's kernel, None elsewhere; IPython is not imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return ipython.display if shell is not None and hasattr(shell, "kernel") else None


def curves(history: Sequence, title: str) -> Figure:
    """Loss and accuracy by epoch, side by side, from a list of `training.EpochResult`."""
    epochs = [result.epoch for result in history]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    loss_axis, acc_axis = figure.subplots(1, 2)
    loss_axis.plot(epochs, [result.train_loss for result in history], "o-", label="train")
    loss_axis.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    acc_axis.plot(epochs, [result.train_acc for result in history], "o-", label="train")
    acc_axis.plot(epochs, [result.test_acc for result in history], "s--", label="test")
    if history[0].val_acc is not None:
        loss_axis.plot(epochs, [result.val_loss for result in history], "^:", label="validation")
        acc_axis.plot(epochs, [result.val_acc for result in history], "^:", label="validation")
    acc_axis.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1))
    for axis in (loss_axis, acc_axis):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    loss_axis.legend(loc="upper right")
    acc_axis.legend(loc="lower right")
    figure.suptitle(title)
    return figure


def confusion_matrix(confusion: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """The counts as a square of cells, a row for each actual class, shaded by their share of the row.

    Args:
        confusion: counts (n, n), images of the row's class predicted as the column's.
        classes: the n class names.
        title: above it.
    """
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(7.2, 6.8), layout="constrained")
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(confusion):
        color = "white" if shares[row, column] > 0.5 else "black" if count else "lightgray"
        axis.text(column, row, str(count), ha="center", va="center", color=color, fontsize=9)
    axis.set_xticks(range(len(classes)), classes)
    if max(map(len, classes)) > 2:
        axis.tick_params("x", rotation=30)
    axis.set_yticks(range(len(classes)), classes)
    axis.set(xlabel="predicted", ylabel="actual", title=title)
    return figure


def prediction_grid(
    images: np.ndarray, predictions: Sequence[str], labels: Sequence[str], title: str, columns: int = 10
) -> Figure:
    """Images under their predicted classes; a wrong one is red, in a red frame, the actual class in brackets.

    Args:
        images: n images (h, w), 0 to 255.
        predictions: n class names.
        labels: n class names.
        title: above the grid.
        columns: images in a row.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(max(1.15 * columns, 4), 1.45 * rows + 0.5), layout="constrained")  # inches
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(images) :]:
        axis.axis("off")
    for axis, image, prediction, label in zip(axes, images, predictions, labels, strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        axis.set(xticks=[], yticks=[])
        if prediction == label:
            axis.set_title(prediction, fontsize=8)
        else:
            axis.set_title(f"{prediction}\n({label})", fontsize=8, color="red")
            for spine in axis.spines.values():
                spine.set(color="red", linewidth=2)
    figure.suptitle(title)
    return figure


def check_picture_path(path: str | Path) -> None:
    """Find out before the work, not after it, whether a picture could be written there.

    Raises:
        InputError: the name does not end as a picture's, or there is no folder for it.
    """
    path = Path(path)
    if path.suffix.lower() not in PICTURES:
        raise InputError(f"picture {path}: end its name in one of {', '.join(PICTURES)}")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"picture {path}: {'it is a folder' if path.is_dir() else f'no folder {path.parent}'}")


def write_picture(figure: Figure, path: str | Path) -> None:
    """Write a figure in the format the path ends in, whole or not at all; raises InputError as `check_picture_path`."""
    check_picture_path(path)
    data = io.BytesIO()
    figure.savefig(data, format=Path(path).suffix[1:].lower(), dpi=120)
    write_atomically(Path(path), data.getvalue())
