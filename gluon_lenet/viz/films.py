"""Figures, or snapshots of a net in training -> a moving picture (GIF), which plays in notebooks and on GitHub."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage

from gluon_lenet.viz.figures import PLAIN
from gluon_lenet.viz.files import as_bytes
from gluon_lenet.viz.fonts import chinese

_COLOURS = 128  # of a film


def film(figures: Iterable[Figure], seconds: float = 0.25, dpi: int = 65) -> bytes:
    """A GIF, repeated for ever, of figures of one size, each shown for so many seconds.

    All frames have one palette, so that the file holds only what changes from one to the next.
    """
    from PIL import Image

    frames = [Image.open(io.BytesIO(as_bytes(figure, dpi=dpi))).convert("RGB") for figure in figures]
    palette = _palette(frames)
    frames = [_in_palette(frame, palette) for frame in frames]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 * seconds), loop=0)
    return file.getvalue()


def _palette(frames: Sequence) -> np.ndarray:
    """The colours of a film, uint8 (n, 3): chosen from every frame, rare ones as well as common ones."""
    from PIL import Image

    counts = {}
    for frame in frames:
        for count, colour in frame.getcolors(frame.width * frame.height):
            counts[colour] = counts.get(colour, 0) + count
    often = [colour for colour, count in counts.items() if count >= len(frames)]  # not the edges of letters
    sample = Image.fromarray(np.array([often], np.uint8))
    chosen = np.array(sample.quantize(_COLOURS - 1, kmeans=3).getpalette(), np.uint8).reshape(-1, 3)
    return np.concatenate([chosen[: _COLOURS - 1], [[255, 255, 255]]]).astype(np.uint8)  # and the page's white


def _in_palette(frame, palette: np.ndarray):
    """The frame with the nearest colours of the palette."""
    from PIL import Image

    pixels = np.asarray(frame, np.int32)
    as_numbers = pixels @ (1 << 16, 1 << 8, 1)  # NumPy finds different numbers faster than different rows
    colours, places = np.unique(as_numbers, return_inverse=True)
    colours = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1)
    nearest = ((colours[:, None] - palette[None].astype(np.int32)) ** 2).sum(axis=2).argmin(axis=1)
    indexed = Image.fromarray(nearest[places].reshape(pixels.shape[:2]).astype(np.uint8)).convert("P")
    indexed.putpalette(palette.tobytes())
    return indexed


def fix_layout(figure: Figure) -> None:
    """Lay a figure out, once and for all: later pictures of it take a fraction of the time, and nothing moves."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


@dataclass(frozen=True)
class Snapshot:
    """A net at one moment of its training."""

    batch: int  # how many it has been trained on
    loss: float  # there
    filters: np.ndarray  # (n, h, w): the first layer's weights
    maps: np.ndarray  # (n, h, w): what that layer gives for one image
    gradients: Mapping[str, float]  # layer -> the norm of its gradient


class Training:
    """The pictures of a training: the first layer's weights and maps, the loss so far, the gradients of all layers.

    Args:
        snapshots: in order; all have the same layers and sizes.
        level: a loss to draw as a horizontal line.
    """

    @chinese()
    def __init__(self, snapshots: Sequence[Snapshot], level: float):
        self.snapshots = snapshots
        first = snapshots[0]
        self._figure = Figure(figsize=(9, 4), layout="constrained")  # inches
        left, right = self._figure.subfigures(1, 2, width_ratios=[1, 1.25])
        above, below = left.subfigures(2, 1)
        above.suptitle("第一层的卷积核（红正蓝负）", fontsize=10)
        below.suptitle("第一层的特征图（黑 0，白 1）", fontsize=10)
        bound = max(np.abs(shot.filters).max() for shot in snapshots)
        self._filters = _images_in_two_rows(above, first.filters, cmap="RdBu_r", vmin=-bound, vmax=bound)
        self._maps = _images_in_two_rows(below, first.maps, cmap="gray", vmin=0, vmax=1)
        self._loss, gradients = right.subplots(2, 1)
        (self._line,) = self._loss.plot([], [], color="C0")
        (self._here,) = self._loss.plot([], [], "o", color="C3")
        self._loss.axhline(level, color="0.5", linestyle="--", linewidth=1)
        most = max(shot.loss for shot in snapshots)
        self._loss.set(xlim=(0, snapshots[-1].batch), ylim=(0, 1.08 * most), title=_title(first))
        self._bars = gradients.bar(list(first.gradients), list(first.gradients.values()), color="C1")
        norms = [norm for shot in snapshots for norm in shot.gradients.values()]
        gradients.set(yscale="log", ylim=(min(norms) / 1.5, max(norms) * 1.5), title="各层梯度的大小（对数坐标）")
        gradients.yaxis.set_major_formatter(PLAIN)
        for axis in (self._loss, gradients):
            axis.title.set_fontsize(10)
            axis.tick_params(labelsize=9)
            axis.grid(axis="y", alpha=0.3)
        fix_layout(self._figure)

    def film(self, seconds: float = 0.2) -> bytes:
        """A GIF of all snapshots."""
        return film((self.picture(number) for number in range(len(self.snapshots))), seconds, dpi=80)

    def picture(self, number: int) -> Figure:
        """The picture of a snapshot: always the same figure, changed."""
        shot, so_far = self.snapshots[number], self.snapshots[: number + 1]
        for drawn, image in zip(self._filters + self._maps, [*shot.filters, *shot.maps], strict=True):
            drawn.set_data(image)
        self._line.set_data([past.batch for past in so_far], [past.loss for past in so_far])
        self._here.set_data([shot.batch], [shot.loss])
        self._loss.title.set_text(_title(shot))
        for bar, norm in zip(self._bars, shot.gradients.values(), strict=True):
            bar.set_height(norm)
        return self._figure


def _images_in_two_rows(part: SubFigure, images: np.ndarray, **scale) -> list[AxesImage]:
    """The drawn images, of (n, h, w)."""
    axes = part.subplots(2, -(-len(images) // 2)).ravel()
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    return [axis.imshow(image, **scale) for axis, image in zip(axes, images, strict=False)]


def _title(shot: Snapshot) -> str:
    """What is written above the loss."""
    return f"{shot.batch:3} 个小批量之后，损失 {shot.loss:.2f}"
