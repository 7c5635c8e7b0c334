"""Images, labels and training histories -> matplotlib figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogFormatter, MaxNLocator

from gluon_lenet.data.catalogue import FASHION_MNIST_LABELS
from gluon_lenet.nets.table import columns
from gluon_lenet.viz.architecture import architecture as architecture  # the notebooks' figures.architecture
from gluon_lenet.viz.fonts import chinese
from gluon_lenet.viz.intervals import interval

_MOST_MARKED = 50  # points of a curve that have markers
WORDS = {  # language -> what stands on the axes
    "en": {
        **{"epoch": "epoch", "loss": "loss", "accuracy": "accuracy", "error": "error rate"},
        **{"train": "train", "val": "validation", "test": "test", "predicted": "predicted", "actual": "actual"},
    },
    "zh": {
        **{"epoch": "迭代周期", "loss": "损失", "accuracy": "准确率", "error": "错误率（对数坐标）"},
        **{"train": "训练集", "val": "验证集", "test": "测试集", "predicted": "预测的类别", "actual": "实际的类别"},
    },
}
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.3g}%")
PLAIN = FuncFormatter(lambda value, _: np.format_float_positional(value, precision=12, trim="-"))  # never 1e-05


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
def curves(history: Sequence, title: str, language: str = "en", errors: bool = False) -> Figure:
    """Loss and accuracy by epoch, side by side.

    Args:
        history: one `EpochResult` per epoch.
        title: above them.
        language: of the labels, en or zh.
        errors: draw the error rate on a logarithmic scale, which shows differences near 100 %, not the accuracy.
    """
    word = WORDS[language]
    epochs = [result.epoch for result in history]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    loss_axis, acc_axis = figure.subplots(1, 2)
    parts = [("train", "o-"), ("val", "^:"), ("test", "s--")]
    for part, fmt in parts if history[0].val_acc is not None else parts[::2]:
        if part != "test":
            loss_axis.plot(epochs, [getattr(result, f"{part}_loss") for result in history], fmt, label=word[part])
        accuracies = np.array([getattr(result, f"{part}_acc") for result in history])
        acc_axis.plot(epochs, 1 - accuracies if errors else accuracies, fmt, label=word[part])
    loss_axis.set(xlabel=word["epoch"], ylabel=word["loss"], ylim=(0, None))
    acc_axis.set(xlabel=word["epoch"], ylabel=word["error" if errors else "accuracy"])
    if errors:
        acc_axis.set_yscale("log")
        acc_axis.yaxis.set_major_formatter(PERCENT)
        acc_axis.yaxis.set_minor_formatter(PERCENT)
    else:
        acc_axis.set_ylim(0, 1)
    for axis in (loss_axis, acc_axis):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(alpha=0.3)
    loss_axis.legend(loc="upper right")
    acc_axis.legend(loc="upper right" if errors else "lower right")
    figure.suptitle(title)
    return figure


@chinese()
def confusion_matrix(confusion: np.ndarray, classes: Sequence[str], title: str, language: str = "en") -> Figure:
    """A confusion matrix, one row per actual class; the errors are shaded, the diagonal is left blank.

    Args:
        confusion: counts (n, n); rows are actual classes, columns predicted ones.
        classes: the n class names.
        title: above it.
        language: of the labels, en or zh.
    """
    errors = confusion * (1 - np.eye(len(confusion)))
    largest = max(errors.max(), 1)
    figure = Figure(figsize=(7.2, 6.8), layout="constrained")
    axis = figure.subplots()
    axis.imshow(errors, cmap="Reds", vmin=0, vmax=largest)
    for (row, column), count in np.ndenumerate(confusion):
        right = row == column
        color = "0.45" if right else "white" if count > 0.6 * largest else "black" if count else "lightgray"
        axis.text(column, row, str(count), ha="center", va="center", color=color, fontsize=9)
    axis.set_xticks(range(len(classes)), classes)
    if sum(map(columns, classes)) > 6 * len(classes):
        axis.tick_params("x", rotation=30)
    axis.set_yticks(range(len(classes)), classes)
    axis.set(xlabel=WORDS[language]["predicted"], ylabel=WORDS[language]["actual"], title=title)
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
    figure = Figure(figsize=(max(1.15 * columns, 4), 1.55 * rows + 0.5), layout="constrained")  # inches
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(images) :]:
        axis.axis("off")
    for axis, image, prediction, label in zip(axes, images, predictions, labels, strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        axis.set(xticks=[], yticks=[])
        if prediction == label:
            axis.set_title(prediction, fontsize=10)
        else:
            axis.set_title(f"{prediction}\n({label})", fontsize=10, color="red")
            for spine in axis.spines.values():
                spine.set(color="red", linewidth=2)
    figure.suptitle(title)
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
        signed: blue below 0, white at 0, red above, all on one scale, with its bar: for weights.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    tall = 1.05 + 0.25 * max((1 + text.count("\n") for text in titles), default=0)
    figure = Figure(figsize=(max(1.05 * columns, 4), tall * rows + 0.4), layout="constrained")  # inches
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    bound = max(np.abs(image).max() for image in images)
    scale = {"cmap": "RdBu_r", "vmin": -bound, "vmax": bound} if signed else {"cmap": "gray"}
    for axis in axes:
        axis.axis("off")
    for axis, image, text in zip(axes, images, titles or [""] * len(images), strict=False):
        shown = axis.imshow(image, **scale)
        axis.add_patch(_frame(-0.5, -0.5, *np.shape(image)[1::-1]))
        axis.set_title(text, fontsize=9)
    if signed:
        figure.colorbar(shown, ax=axes, fraction=0.03, pad=0.02).ax.tick_params(labelsize=8)
    figure.suptitle(title)
    return figure


@chinese()
def feature_maps(
    outputs: Sequence[tuple[str, np.ndarray]], title: str = "", most: int = 16, classes: Sequence[str] = ()
) -> Figure:
    """The outputs of each layer for one image, one row per layer, framed, with the row's scale beside it.

    Args:
        outputs: the layers' names and outputs, (c, h, w) or (n,); a vector is drawn as a strip.
        title: above it.
        most: the largest number of maps shown per layer.
        classes: the names of the last vector's numbers, which are then drawn as labelled bars, the largest in red.
    """
    heights = [1.0] * len(outputs)
    if classes:
        heights[-1] = 2.2
    figure = Figure(figsize=(11, 0.8 * sum(heights) + 0.5), layout="constrained")  # inches
    axes = figure.subplots(len(outputs), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axis, (name, output) in zip(axes, outputs, strict=True):
        count = f"\n{most} / {len(output)}" if output.ndim == 3 and len(output) > most else ""
        axis.set_ylabel(name + count, rotation=0, ha="right", va="center", fontsize=9)
        if classes and output is outputs[-1][1]:
            _class_bars(axis, output, classes)
            continue
        _row_of_maps(axis, output, most)
        bar = figure.colorbar(axis.images[0], cax=axis.inset_axes((1.008, 0.15, 0.014, 0.7)))
        ends = axis.images[0].get_clim()
        bar.set_ticks(ends, labels=[f"{end:.2f}" for end in ends], fontsize=8)
    figure.suptitle(title)
    return figure


def _row_of_maps(axis: Axes, output: np.ndarray, most: int) -> None:
    """A layer's output, framed: up to `most` maps side by side, or a strip as wide as these.

    One axis holds them all, since matplotlib takes seconds for a hundred axes.
    """
    low, high = output.min(), output.max()
    is_vector = output.ndim == 1 or output.shape[-1] == 1
    for left, image in enumerate([output.reshape(1, -1)] if is_vector else output[:most]):
        width, height = (most, 0.9) if is_vector else 0.9 * np.array(image.shape[::-1]) / max(image.shape)
        bottom = (1 - height) / 2
        place = (left, left + width, bottom, bottom + height)
        axis.imshow(image, cmap="gray", vmin=low, vmax=high, extent=place)
        axis.add_patch(_frame(left, bottom, width, height))
    axis.set(xlim=(0, most), ylim=(0, 1), xticks=[], yticks=[], frame_on=False)


def _class_bars(axis: Axes, values: np.ndarray, classes: Sequence[str]) -> None:
    """A vector's numbers as bars, named by their classes, the largest in red."""
    colors = ["tab:red" if i == values.argmax() else "tab:blue" for i in range(len(values))]
    drawn = axis.bar(list(classes), values, color=colors)
    axis.bar_label(drawn, fmt="{:.1f}", fontsize=8, padding=1)
    axis.axhline(0, color="0.4", linewidth=0.8)
    axis.margins(x=0.02, y=0.25)
    axis.tick_params(labelsize=9)
    axis.spines[["top", "right"]].set_visible(False)


def _frame(left: float, bottom: float, width: float, height: float) -> Rectangle:
    """The outline of an image that `imshow` drew, which is seen on a white page whatever the image's edge."""
    return Rectangle((left, bottom), width, height, fill=False, edgecolor="0.5", linewidth=1, clip_on=False)


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
        series: label -> x (numbers or names) and y; if y is (seeds, x), the mean, with the range over the seeds shaded;
            two equal values are a level, drawn dashed.
        xlabel, ylabel, title: of the axis.
        markevery: draw a marker at every n-th point.
        limits: other properties of the axis: ylim, yscale.
    """
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axis = figure.subplots()
    for (label, (xs, ys)), marker in zip(series.items(), cycle("os^vD*xP"), strict=False):
        ys = np.asarray(ys, float)
        if ys.shape == (2,) and ys[0] == ys[1]:
            axis.plot(xs, ys, color="0.35", linestyle="--", linewidth=1.2, label=label, zorder=3)
            continue
        middle = ys.mean(axis=0) if ys.ndim == 2 else ys
        shape = marker if len(xs) <= _MOST_MARKED * markevery else None
        (line,) = axis.plot(xs, middle, marker=shape, markersize=4, markevery=markevery, label=label)
        if ys.ndim == 2:
            axis.fill_between(xs, ys.min(axis=0), ys.max(axis=0), color=line.get_color(), alpha=0.18, linewidth=0)
    if all(isinstance(x, int) for xs, _ in series.values() for x in xs):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title, **limits)
    _plain_numbers(axis)
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
    _plain_numbers(axis)
    axis.tick_params("y", labelsize=8)
    axis.grid(axis="x", alpha=0.3)
    return figure


def _plain_numbers(axis: Axes) -> None:
    """Write 0.01 beside a logarithmic scale: formulas such as 10^-2 need a mathematical font."""
    for scale in (axis.xaxis, axis.yaxis):
        if scale.get_scale() == "log":
            scale.set_major_formatter(PLAIN)
            scale.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.6)))


@chinese()
def dots(
    groups: Mapping[str, Mapping[str, Sequence[float]]],
    xlabel: str,
    title: str = "",
    reference: float | None = None,
    **limits,
) -> Figure:
    """Repeated runs of many settings, a row each: every run a pale dot, their mean a dark one with an error bar.

    The bar is the 95 % confidence interval of the mean (`interval`); a single run has none.

    Args:
        groups: group -> setting -> the results of its runs; each group has a colour.
        xlabel, title: of the axis.
        reference: where to draw a vertical line, such as the mean of the setting all are compared with.
        limits: other properties of the axis: xlim, xscale.
    """
    names = [(group, setting) for group, settings in groups.items() for setting in settings]
    figure = Figure(figsize=(7.6, 0.3 * len(names) + 1.1), layout="constrained")
    axis = figure.subplots()
    colors = dict(zip(groups, cycle(f"C{i}" for i in range(10)), strict=False))
    for row, (group, setting) in enumerate(names):
        runs, color = np.asarray(groups[group][setting], float), colors[group]
        axis.plot(runs, [row] * len(runs), "o", color=color, alpha=0.3, markersize=4, markeredgewidth=0)
        if len(runs) > 1:
            mean, half = interval(runs.tolist())
            axis.errorbar(mean, row, xerr=half, fmt="o", color=color, markersize=5, capsize=3, linewidth=1.4)
    if reference is not None:
        axis.axvline(reference, color="0.5", linestyle="--", linewidth=1)
    firsts = np.cumsum([0, *map(len, groups.values())])
    for line in firsts[1:-1]:
        axis.axhline(line - 0.5, color="0.85", linewidth=0.8)
    labels = [f"{group}：{setting}" if group else setting for group, setting in names]
    axis.set_yticks(range(len(names)), labels, fontsize=9)
    axis.set(xlabel=xlabel, title=title, ylim=(len(names) - 0.4, -0.6), **limits)
    _plain_numbers(axis)
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
