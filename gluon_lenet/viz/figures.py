"""Images, labels and training histories -> matplotlib figures."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from gluon_lenet.atomic import write_atomically
from gluon_lenet.data.catalogue import FASHION_MNIST_LABELS
from gluon_lenet.errors import InputError
from gluon_lenet.viz.fonts import chinese

PICTURES = (".png", ".jpg", ".pdf", ".svg")


def get_fashion_mnist_labels(labels) -> list[str]:
    """The class names, as in the book, of the numbers in `labels`."""
    return [FASHION_MNIST_LABELS[int(i)] for i in labels]


def show_fashion_mnist(images, labels: Sequence[str]) -> None:
    """Draw a row of images below their labels with pyplot, like the book's function of this name.

    Args:
        images: NDArrays or arrays of 28 * 28 values each, in any shape.
        labels: one text per image.
    """
    from matplotlib import pyplot as plt  # here, because it selects a window system for the whole process

    _, axes = plt.subplots(1, len(images), figsize=(12, 12), squeeze=False)
    for axis, image, label in zip(axes[0], images, labels, strict=True):
        pixels = image.asnumpy() if hasattr(image, "asnumpy") else np.asarray(image)
        axis.imshow(pixels.reshape(28, 28), cmap="gray")
        axis.set_title(label)
        axis.axis("off")


@chinese()
def curves(history: Sequence, title: str) -> Figure:
    """Loss and accuracy by epoch, side by side, from a list of `EpochResult`."""
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
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(alpha=0.3)
    loss_axis.legend(loc="upper right")
    acc_axis.legend(loc="lower right")
    figure.suptitle(title)
    return figure


@chinese()
def confusion_matrix(confusion: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """A confusion matrix, one row per actual class, cells shaded by their fraction of the row.

    Args:
        confusion: counts (n, n); rows are actual classes, columns predicted ones.
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


@chinese()
def prediction_grid(
    images: np.ndarray, predictions: Sequence[str], labels: Sequence[str], title: str, columns: int = 10
) -> Figure:
    """Images below their predicted classes; wrong ones in red, with a red frame and the actual class in brackets.

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


@chinese()
def architecture(rows: Sequence, labels: Sequence[str] = (), title: str = "") -> Figure:
    """A net from left to right: each layer's output, maps as a stack of squares drawn to scale, vectors as a bar.

    Args:
        rows: the layers, as returned by `table.layer_rows`.
        labels: what to write under the input and under each layer; by default the layers' names.
        title: above it.
    """
    shapes = [rows[0].input_shape[1:], *(row.output_shape[1:] for row in rows)]
    labels = labels or ["input", *(row.name.replace(", ", ",\n") for row in rows)]
    largest = max(shape[-1] for shape in shapes if len(shape) == 3)
    figure = Figure(layout="constrained")
    axis = figure.subplots()
    left, step = 0.0, 0.12  # in sides of the largest map: left edge of the next layer, offset of stacked maps
    for shape, label, color in zip(shapes, labels, _shades(len(shapes)), strict=True):
        if len(shape) == 3 and shape[1] > 1:
            side, pile = shape[1] / largest, min(shape[0], 8)
            width, height = side + (pile - 1) * step / 2, side + (pile - 1) * step / 2
            for i in range(pile):
                corner = left + i * step / 2, -height / 2 + (pile - 1 - i) * step / 2
                axis.add_patch(Rectangle(corner, side, side, facecolor=color, edgecolor="black", linewidth=0.7))
            text = f"{shape[0]}@{shape[1]}×{shape[2]}"
        else:  # a vector: its length is logarithmic, so that 10 is visible beside 400
            size = max(shape)
            width, height = 0.16, 0.28 * math.log2(size)
            axis.add_patch(Rectangle((left, -height / 2), width, height, facecolor=color, edgecolor="black"))
            text = str(size)
        middle = left + width / 2
        axis.text(middle, height / 2 + 0.08, text, ha="center", va="bottom", fontsize=9)
        axis.text(middle, -1.45, label, ha="center", va="top", fontsize=8)
        end = max(left + width, middle + 0.45)
        if label is not labels[-1]:
            axis.annotate("", (end + 0.3, 0), (end, 0), arrowprops={"arrowstyle": "->", "color": "gray"})
        left = end + 0.42
    axis.set(xlim=(-0.4, left), ylim=(-2.1, 1.6), aspect="equal", title=title)
    figure.set_size_inches(0.82 * (left + 0.4), 3.2)
    axis.axis("off")
    return figure


@chinese()
def image_grid(
    images: Sequence, titles: Sequence[str] = (), title: str = "", columns: int = 10, signed: bool = False
) -> Figure:
    """Images or maps (h, w) in a grid, each on its own scale from black to white.

    Args:
        images: of any sizes.
        titles: a text above each image; none by default.
        title: above the grid.
        columns: images in a row.
        signed: blue below 0, white at 0, red above, all on one scale: for weights.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    tall = 1.3 if titles else 1.05
    figure = Figure(figsize=(max(1.05 * columns, 4), tall * rows + 0.4), layout="constrained")  # inches
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    bound = max(np.abs(image).max() for image in images)
    scale = {"cmap": "RdBu_r", "vmin": -bound, "vmax": bound} if signed else {"cmap": "gray"}
    for axis in axes:
        axis.axis("off")
    for axis, image, text in zip(axes, images, titles or [""] * len(images), strict=False):
        axis.imshow(image, **scale)
        axis.set_title(text, fontsize=8)
    figure.suptitle(title)
    return figure


@chinese()
def feature_maps(outputs: Sequence[tuple[str, np.ndarray]], title: str = "", most: int = 16) -> Figure:
    """The outputs of each layer for one image, one row per layer, on the layer's own scale from black to white.

    Args:
        outputs: the layers' names and outputs, (c, h, w) or (n,); a vector is drawn as a strip.
        title: above it.
        most: the largest number of maps shown per layer.
    """
    figure = Figure(figsize=(11, 0.8 * len(outputs) + 0.5), layout="constrained")  # inches
    parts = figure.subfigures(len(outputs), 2, width_ratios=[1, 5], squeeze=False)
    for (left, right), (name, output) in zip(parts, outputs, strict=True):
        left.text(0.98, 0.5, name, ha="right", va="center", fontsize=8)
        is_vector = output.ndim == 1 or output.shape[-1] == 1
        maps = [output.reshape(1, -1)] if is_vector else output[:most]
        axes = right.subplots(1, 1 if is_vector else most, squeeze=False).ravel()
        for axis in axes:
            axis.axis("off")
        for axis, image in zip(axes, maps, strict=False):
            aspect = "auto" if is_vector else "equal"
            axis.imshow(image, cmap="gray", vmin=output.min(), vmax=output.max(), aspect=aspect)
    figure.suptitle(title)
    return figure


@chinese()
def lines(
    series: Mapping[str, tuple[Sequence, Sequence]],
    xlabel: str,
    ylabel: str,
    title: str = "",
    markevery: int = 1,
    **limits,
) -> Figure:
    """Several curves on one axis, to compare runs.

    Args:
        series: label -> x (numbers or names) and y.
        xlabel, ylabel, title: of the axis.
        markevery: draw a marker at every n-th point.
        limits: other properties of the axis: ylim, yscale.
    """
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axis = figure.subplots()
    for (label, (xs, ys)), marker in zip(series.items(), cycle("os^vD*xP"), strict=False):
        axis.plot(xs, ys, marker=marker, markersize=4, markevery=markevery, label=label)
    if all(isinstance(x, int) for xs, _ in series.values() for x in xs):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title, **limits)
    axis.grid(alpha=0.3)
    if len(series) > 1:
        axis.legend(fontsize=8, ncols=1 + len(series) // 7)
    return figure


@chinese()
def bars(values: Mapping[str, float], xlabel: str, title: str = "", **limits) -> Figure:
    """One horizontal bar per name, the first on top, labelled with its value.

    Args:
        values: by name.
        xlabel, title: of the axis.
        limits: other properties of the axis: xlim, xscale.
    """
    figure = Figure(figsize=(7, 0.32 * len(values) + 0.9), layout="constrained")
    axis = figure.subplots()
    counts = all(isinstance(value, int) for value in values.values())
    axis.bar_label(
        axis.barh(list(values), list(values.values())), fmt="{:,.0f}" if counts else "{:.3g}", padding=3, fontsize=8
    )
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.set(xlabel=xlabel, title=title, **limits)
    axis.tick_params("y", labelsize=8)
    axis.grid(axis="x", alpha=0.3)
    return figure


@chinese()
def cells(marks: np.ndarray, xlabel: str, ylabel: str, title: str = "") -> Figure:
    """A boolean table as filled and empty squares, such as a connection table.

    Args:
        marks: bool (rows, columns).
        xlabel, ylabel, title: of the axis.
    """
    figure = Figure(figsize=(0.36 * marks.shape[1] + 1, 0.36 * marks.shape[0] + 1.1), layout="constrained")
    axis = figure.subplots()
    axis.pcolormesh(marks, cmap="Blues", vmin=0, vmax=1.4, edgecolors="white", linewidth=2)
    for ticks, size in ((axis.set_xticks, marks.shape[1]), (axis.set_yticks, marks.shape[0])):
        ticks(np.arange(size) + 0.5, range(size))
    axis.invert_yaxis()
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title, aspect="equal")
    return figure


def _shades(n: int) -> list:
    """n light colours along a colour scale."""
    return [colormaps["YlGnBu"](0.1 + 0.5 * i / max(n - 1, 1)) for i in range(n)]


def check_picture_path(path: str | Path) -> None:
    """Check, before the work, whether a picture can be written there.

    Raises:
        InputError: the name has another extension, or its folder does not exist.
    """
    path = Path(path)
    if path.suffix.lower() not in PICTURES:
        raise InputError(f"picture {path}: end its name in one of {', '.join(PICTURES)}")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"picture {path}: {'it is a folder' if path.is_dir() else f'no folder {path.parent}'}")


def write_picture(figure: Figure, path: str | Path) -> None:
    """Write a figure atomically, in the format of the path's extension.

    Raises:
        InputError: as `check_picture_path`, or as `write_atomically`.
        DiskError: the disk is full, or fails.
    """
    check_picture_path(path)
    data = io.BytesIO()
    figure.savefig(data, format=Path(path).suffix[1:].lower(), dpi=120)
    write_atomically(Path(path), data.getvalue())
