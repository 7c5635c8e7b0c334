"""What an answer, a unit or a layer responds to -> figures: maps of occlusion, patches, points in the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from gluon_lenet.viz.fonts import chinese


@chinese()
def heat_maps(images: Sequence[np.ndarray], maps: Sequence[np.ndarray], titles: Sequence[str], label: str) -> Figure:
    """Images, and below each a map of numbers from 0 to 1 with a common scale, centred as the image is.

    Args:
        images: (h, w), of any range.
        maps: one for each image, as large or smaller: a number stands for the place it has in the image.
        titles: one above each image.
        label: of the scale.
    """
    figure = Figure(figsize=(1.6 * len(images) + 0.8, 3.6), layout="constrained")  # inches
    above, below = figure.subplots(2, len(images), squeeze=False)
    for axis, image, title in zip(above, images, titles, strict=True):
        axis.imshow(image, cmap="gray")
        axis.set_title(title, fontsize=9)
    for axis, image, values in zip(below, images, maps, strict=True):
        (height, width), (high, wide) = image.shape, values.shape
        left, top = (width - wide) / 2 - 0.5, (height - high) / 2 - 0.5
        extent = (left, left + wide, top + high, top)
        shown = axis.imshow(values, cmap="viridis", vmin=0, vmax=1, extent=extent)
        axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), facecolor="0.88")
    for axis in (*above, *below):
        axis.set(xticks=[], yticks=[])
    figure.colorbar(shown, ax=below, fraction=0.03, pad=0.02).set_label(label, fontsize=9)
    return figure


@chinese()
def patches(rows: Mapping[str, Sequence[np.ndarray]], title: str = "") -> Figure:
    """Patches of images, a named row for each unit, all from black (0) to white (255)."""
    most = max(map(len, rows.values()))
    figure = Figure(figsize=(0.8 * most + 1.6, 0.8 * len(rows) + 0.5), layout="constrained")  # inches
    axes = figure.subplots(len(rows), most, squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis in line:
            axis.set(xticks=[], yticks=[])
        for axis, image in zip(line, images, strict=False):
            axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    figure.suptitle(title)
    return figure


@chinese()
def scatter(panels: Mapping[str, np.ndarray], labels: np.ndarray, classes: Sequence[str]) -> Figure:
    """Points in the plane, coloured by class, each class's name at its median.

    Args:
        panels: title -> points (n, 2).
        labels: (n,), positions in `classes`; at most 10.
        classes: their names.
    """
    figure = Figure(figsize=(5.2 * len(panels), 4.8), layout="constrained")  # inches
    for axis, (title, points) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for label in range(len(classes)):
            own = points[labels == label]
            axis.plot(*own.T, "o", color=f"C{label}", markersize=3, alpha=0.5, markeredgewidth=0)
        places = np.array([np.median(points[labels == label], axis=0) for label in range(len(classes))])
        for label, (name, (x, y)) in enumerate(zip(classes, _apart(places, np.ptp(points, axis=0)), strict=True)):
            edge = [withStroke(linewidth=3, foreground="white")]
            axis.text(x, y, name, color=f"C{label}", fontsize=11, ha="center", va="center", path_effects=edge)
        axis.set(xticks=[], yticks=[], title=title)
    return figure


def _apart(places: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """The places (n, 2) of names, moved up and down until no two overlap; `extent` is the width and height of all."""
    places = places.copy()
    width, height = 0.13 * extent[0], 0.045 * extent[1]  # of a name
    for _ in range(100):
        for i in range(len(places)):
            for j in range(i):
                dx, dy = places[i] - places[j]
                if abs(dx) < width and abs(dy) < height:
                    step = (height - abs(dy)) / 2 * (1 if dy >= 0 else -1)
                    places[i, 1] += step
                    places[j, 1] -= step
    return places
