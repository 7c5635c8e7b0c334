"""A net's layers, and their outputs for one image -> a diagram of the net from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gluon_lenet.nets.table import LayerRow, columns
from gluon_lenet.viz.fonts import chinese

# Lengths are in pixels of a map: all maps of a diagram have one scale.
INCHES = 1.05 / 28  # per pixel of a map
STEP = 1.7  # from a map to the one behind it, to the right and up
CELL = 1.9  # the side of a vector's cell
GAP = 9  # the least distance between two layers
COLUMN = 1.6  # the width of a Latin letter of an operation's name; a Chinese character takes two
FRONT, BACK, LEFT_OUT = 4, 2, 3  # of a high pile: the maps drawn in front and behind, the steps of the "…" between them
ENDS = 7  # of a long vector: the cells drawn at each end
LINE = "#d35400"  # windows, and what they become


@dataclass
class _Stage:
    """One layer's output, and where it is drawn."""

    shape: tuple[int, ...]  # (c, h, w) or (n,)
    values: np.ndarray | None
    left: float = 0.0

    @property
    def is_vector(self) -> bool:
        return len(self.shape) == 1

    @property
    def side(self) -> int:
        return self.shape[1]

    @property
    def steps(self) -> list[int]:
        """Of the maps that are drawn, from front to back: how many steps behind the first each stands."""
        count = self.shape[0]
        if count <= FRONT + BACK + 1:
            return list(range(count))
        first = FRONT - 1 + LEFT_OUT
        return [*range(FRONT), *range(first, first + BACK)]

    @property
    def cells(self) -> list[tuple[int, float]]:
        """Of the vector's numbers that are drawn: the index, and the distance of the cell's top from the first's."""
        (count,) = self.shape
        if count <= 2 * ENDS + 1:
            return [(i, CELL * i) for i in range(count)]
        low = [(count - ENDS + i, CELL * (ENDS + 2 + i)) for i in range(ENDS)]
        return [(i, CELL * i) for i in range(ENDS)] + low

    @property
    def width(self) -> float:
        return CELL if self.is_vector else self.side + STEP * self.steps[-1]

    @property
    def height(self) -> float:
        return self.cells[-1][1] + CELL if self.is_vector else self.width

    @property
    def middle(self) -> float:
        return self.left + self.width / 2

    @property
    def top(self) -> float:
        """Of the first cell, or of the map in front."""
        return self.height / 2 if self.is_vector else -self.height / 2 + self.side


@chinese()
def architecture(
    rows: Sequence[LayerRow],
    labels: Sequence[str] = (),
    title: str = "",
    outputs: Sequence[tuple[str, object]] = (),
) -> Figure:
    """A net from left to right: each layer's maps on one scale, one dotted window per layer, operations on arrows.

    High piles of maps and long vectors are drawn in part, with dots for the rest. A Dense layer that flattens its input
    has the flattened vector before it.

    Args:
        rows: the layers, as returned by `table.layer_rows`.
        labels: the input's name, and what each layer does; by default the layers' names.
        title: above it.
        outputs: name and output of the input and each layer for a batch, as returned by `inspect.layer_outputs`: the
            first image's are drawn. Without them the maps are empty squares.
    """
    names = list(labels) or ["input", *(row.name.replace(", ", ",\n") for row in rows)]
    first = [np.asarray(getattr(output, "asnumpy", lambda o=output: o)())[0] for _, output in outputs]
    stages = [_stage(rows[0].input_shape[1:], first[0] if first else None)]
    operations = []  # from each stage to the next: its name, the row, or None for flattening
    for i, (row, name) in enumerate(zip(rows, names[1:], strict=True), start=1):
        if not stages[-1].is_vector and len(row.input_shape) == 2:
            values = None if stages[-1].values is None else stages[-1].values.ravel()
            stages.append(_Stage((prod(row.input_shape[1:]),), values))
            operations.append(("展平" if _columns(names[0]) > len(names[0]) else "flatten", None))
        stages.append(_stage(row.output_shape[1:], first[i] if first else None))
        operations.append((name, row))
    _place(stages, [name for name, _ in operations])

    figure = Figure()
    axis = figure.add_axes((0, 0, 1, 1))
    highest = max(stage.height for stage in stages) / 2
    for stage in stages:
        _draw_vector(axis, stage) if stage.is_vector else _draw_maps(axis, stage)
        text = str(stage.shape[0]) if stage.is_vector else "{}@{}×{}".format(*stage.shape)
        axis.text(stage.middle, stage.height / 2 + 1.5, text, ha="center", va="bottom", fontsize=8)
    axis.text(stages[0].middle, stages[0].height / 2 + 6.5, names[0], ha="center", va="bottom", fontsize=8)
    base = -highest - 4  # of the arrows
    for stage, after, (name, row) in zip(stages, stages[1:], operations, strict=False):
        _connect(axis, stage, after, row)
        style = {"arrowstyle": "-|>", "color": "0.4", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 8}
        axis.annotate("", (after.middle - 1, base), (stage.middle + 1, base), arrowprops=style)
        axis.text((stage.middle + after.middle) / 2, base - 1.5, name, ha="center", va="top", fontsize=8)
    lines = max(name.count("\n") + 1 for name, _ in operations)
    low, high = base - 3 - 4.2 * lines, highest + (16 if title else 9)
    half = COLUMN * _columns(operations[-1][0]) / 2
    end = max(stages[-1].left + stages[-1].width, (stages[-2].middle + stages[-1].middle) / 2 + half) + 3
    start = min(-3, stages[0].middle - COLUMN * _columns(names[0]) / 2)
    axis.text((start + end) / 2, high - 6, title, ha="center", va="bottom", fontsize=11)
    axis.set(xlim=(start, end), ylim=(low, high), aspect="equal")
    axis.axis("off")
    figure.set_size_inches(INCHES * (end - start), INCHES * (high - low))
    return figure


def _stage(shape: tuple[int, ...], values: np.ndarray | None) -> _Stage:
    """The stage of an output (c, h, w) or (n,); maps of one pixel are a vector."""
    shape = shape[:1] if prod(shape[1:]) == 1 else shape
    return _Stage(shape, values if values is None else values.reshape(shape))


def _columns(text: str) -> int:
    """The width of the longest line; a Chinese character takes two columns."""
    return max(map(columns, text.split("\n")))


def _place(stages: list[_Stage], names: list[str]) -> None:
    """Set each stage's left edge: stages do not touch, nor do the operations' names."""
    end = None  # of the last name
    for before, stage, name in zip(stages, stages[1:], names, strict=False):
        half = COLUMN * _columns(name) / 2
        left = before.left + before.width + GAP
        if end is not None:  # the name's centre is midway between the two stages
            left = max(left, 2 * (end + 1.5 + half) - before.middle - stage.width / 2)
        stage.left = left
        end = (before.middle + stage.middle) / 2 + half


def _draw_maps(axis: Axes, stage: _Stage) -> None:
    count, side = stage.shape[0], stage.side
    shown = stage.steps
    indices = list(range(count)) if len(shown) == count else [*range(FRONT), *range(count - BACK, count)]
    bottom = -stage.height / 2
    for depth, (step, index) in enumerate(zip(shown, indices, strict=True)):
        left, low, order = stage.left + STEP * step, bottom + STEP * step, 2 - 0.01 * depth
        if stage.values is not None:
            axis.imshow(
                stage.values[index],
                cmap="gray",
                vmin=stage.values.min(),
                vmax=stage.values.max(),
                extent=(left, left + side, low, low + side),
                zorder=order,
            )
        face = "none" if stage.values is not None else "#eaf1f8"
        frame = Rectangle((left, low), side, side, facecolor=face, edgecolor="0.35", linewidth=0.6, zorder=order)
        axis.add_patch(frame)
    if len(shown) < count:
        for step in np.linspace(FRONT - 0.6, FRONT + LEFT_OUT - 1.4, 3):
            for dx, dy in ((side, 0), (0, side)):  # in both notches of the pile's outline
                x, y = stage.left + STEP * step + dx, bottom + STEP * step + dy
                axis.plot(x, y, "o", color="0.2", markersize=1.4, markeredgewidth=0)


def _draw_vector(axis: Axes, stage: _Stage) -> None:
    values = stage.values
    low, high = (0, 1) if values is None else (values.min(), values.max())
    for index, depth in stage.cells:
        grey = (values[index] - low) / max(high - low, 1e-12) if values is not None else None
        face = "#eaf1f8" if grey is None else str(float(grey))
        corner = stage.left, stage.height / 2 - depth - CELL
        axis.add_patch(Rectangle(corner, CELL, CELL, facecolor=face, edgecolor="0.35", linewidth=0.5))
    if len(stage.cells) < stage.shape[0]:
        for y in (-0.6 * CELL, 0, 0.6 * CELL):
            axis.plot(stage.middle, y, "o", color="0.2", markersize=1.4, markeredgewidth=0)


def _connect(axis: Axes, stage: _Stage, after: _Stage, row: LayerRow | None) -> None:
    """Dotted lines from what one value of the next layer sees to that value."""
    if row is not None and row.window is not None and not stage.is_vector:
        source, target = _window(stage, after, row)
        for left, low, side in (source, target):
            style = {"linestyle": (0, (1.5, 1)) if side > 2 else "-", "zorder": 4}
            axis.add_patch(Rectangle((left, low), side, side, fill=False, edgecolor=LINE, linewidth=1, **style))
        pairs = [
            (
                (source[0] + x * source[2], source[1] + y * source[2]),
                (target[0] + x * target[2], target[1] + y * target[2]),
            )
            for x in (0, 1)
            for y in (0, 1)
        ]
    else:
        right = stage.left + stage.width
        cell = after.left, after.height / 2 - 3 * CELL
        if (
            not after.is_vector or row is None or len(row.input_shape) == 4
        ):  # nothing is computed: only the shape changes
            ends = after.top, (-after.height / 2)
        else:
            axis.add_patch(Rectangle(cell, CELL, CELL, fill=False, edgecolor=LINE, linewidth=1, zorder=4))
            ends = cell[1] + CELL, cell[1]
        pairs = [
            ((right, stage.height / 2), (after.left, ends[0])),
            ((right, -stage.height / 2 if stage.is_vector else stage.height / 2 - stage.side), (after.left, ends[1])),
        ]
    for (x, y), (to_x, to_y) in pairs:
        axis.plot([x, to_x], [y, to_y], linestyle=(0, (1.5, 1)), color=LINE, linewidth=0.6, zorder=3)


def _window(
    stage: _Stage, after: _Stage, row: LayerRow
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Left, bottom and side of a window on the first map, and of the pixel or cell that it becomes."""
    side, stride, padding = row.window
    if after.is_vector:
        column = line = 0
        target = after.left, after.height / 2 - 3 * CELL, CELL
    else:
        column, line = round(0.7 * (after.side - 1)), round(0.3 * (after.side - 1))
        target = after.left + column, after.top - line - 1, 1.0
    return (stage.left + column * stride - padding, stage.top - line * stride + padding - side, side), target
