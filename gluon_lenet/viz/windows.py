"""An image and a kernel -> pictures of their cross-correlation, step by step; a film and a widget of the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from gluon_lenet.viz.files import as_bytes
from gluon_lenet.viz.films import film, fix_layout
from gluon_lenet.viz.fonts import chinese

_HERE = "#d62728"  # of the window, and of the number that it gives
_INSET = 0.12  # pixels of the image
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7")  # told apart by the colour-blind (Okabe and Ito 2008)


class Correlation:
    """The cross-correlation of an image with a kernel, without padding, cell by cell.

    Args:
        image: (h, w).
        kernel: (k, l), not larger than the image.

    Attributes:
        result: (h - k + 1, w - l + 1).
    """

    def __init__(self, image: np.ndarray, kernel: np.ndarray):
        self.image, self.kernel = np.asarray(image, np.float64), np.asarray(kernel, np.float64)
        self._windows = np.lib.stride_tricks.sliding_window_view(self.image, self.kernel.shape)  # (rows, columns, k, l)
        self.result = (self._windows * self.kernel).sum(axis=(2, 3))

    def __len__(self) -> int:
        """The number of steps, from left to right and from top to bottom."""
        return self.result.size

    def step(self, number: int) -> Figure:
        """The picture of a step: the image with the window, the window's products, the result so far.

        It is always the same figure, changed.

        Args:
            number: from 0.
        """
        row, column = divmod(number, self.result.shape[1])
        drawn = self._drawn
        drawn.window.set_xy((column - 0.5, row - 0.5))
        drawn.cell.set_xy((column - 0.5, row - 0.5))
        products = self._windows[row, column] * self.kernel
        drawn.products.set_data(products)
        for (i, j), product in np.ndenumerate(products):
            colour = "white" if abs(product) > 0.6 * drawn.products.norm.vmax else "black"
            pixel, weight = self._windows[row, column, i, j], self.kernel[i, j]
            drawn.factors[i, j].set(text=f"{pixel:.2f} × {_number(weight, 'g')}", color=colour)
            drawn.numbers[i, j].set(text=_number(product), color=colour)
        drawn.products.axes.set_title(f"窗口 × 卷积核；加起来是 {_number(self.result[row, column])}", color=_HERE)
        so_far = self.result.copy()
        so_far.flat[number + 1 :] = np.nan
        drawn.so_far.set_data(so_far)
        drawn.so_far.axes.set_title(f"输出 {_size(self.result)}：第 {row} 行，第 {column} 列")
        return drawn.figure

    @cached_property
    @chinese()
    def _drawn(self) -> _Drawn:
        """The picture without its numbers."""
        height, width = self.kernel.shape
        figure = Figure(figsize=(9.6, 3.5), layout="constrained")  # inches
        left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1.15, 1])
        left.imshow(self.image, cmap="gray")
        left.set_title(f"输入 {_size(self.image)}")
        bound = max(np.abs(self.kernel).max() * self.image.max(), 1e-9)
        products = middle.imshow(np.zeros((height, width)), cmap="RdBu_r", vmin=-bound, vmax=bound)
        middle.set_title("窗口 × 卷积核")  # as high as what `step` writes there, for the layout
        bound = np.abs(self.result).max()
        so_far = right.imshow(np.zeros(self.result.shape), cmap="RdBu_r", vmin=-bound, vmax=bound)
        right.set_facecolor("0.88")  # of what is still to come
        right.set_title("输出")
        for axis in (left, middle, right):
            axis.set(xticks=[], yticks=[])
        fix_layout(figure)
        factors, numbers = np.empty((2, height, width), object)
        for i, j in np.ndindex(height, width):
            factors[i, j] = middle.text(j, i - 0.2, "", fontsize=7, ha="center", va="center")
            numbers[i, j] = middle.text(j, i + 0.18, "", fontsize=10, ha="center", va="center")
        return _Drawn(
            figure=figure,
            window=left.add_patch(_frame(0, 0, height, width)),
            products=products,
            factors=factors,
            numbers=numbers,
            so_far=so_far,
            cell=right.add_patch(_frame(0, 0, 1, 1)),
        )

    def film(self, numbers: Sequence[int], seconds: float = 0.25) -> bytes:
        """A moving picture (GIF, repeated for ever) of some steps, each shown for so many seconds."""
        return film(map(self.step, numbers), seconds, dpi=90)

    def player(self, still: int = 0):
        """A widget that plays the steps, with a slider.

        Args:
            still: the step whose picture is shown where widgets are not.
        """
        import ipywidgets

        play = ipywidgets.Play(max=len(self) - 1, interval=300)
        slider = ipywidgets.IntSlider(max=len(self) - 1, description="位置", continuous_update=True)
        picture = ipywidgets.Image(value=as_bytes(self.step(0), dpi=100), format="png")
        shown = as_bytes(self.step(still), dpi=150)
        ipywidgets.jslink((play, "value"), (slider, "value"))

        def show(change):
            picture.value = as_bytes(self.step(change.new), dpi=100)

        slider.observe(show, names="value")
        return _WithPicture(ipywidgets.VBox([ipywidgets.HBox([play, slider]), picture]), shown)


@dataclass(frozen=True)
class _Drawn:
    """What changes from one step's picture to the next."""

    figure: Figure
    window: Rectangle  # in the image
    products: AxesImage
    factors: np.ndarray  # (k, l) of texts
    numbers: np.ndarray  # (k, l) of texts: the products
    so_far: AxesImage
    cell: Rectangle  # in the result


class _WithPicture:
    """A widget, and the picture that is shown where there are no widgets: on GitHub, in an exported notebook."""

    def __init__(self, widget, png: bytes):
        self.widget, self.png = widget, png

    def _repr_mimebundle_(self, **_) -> Mapping:
        return self.widget._repr_mimebundle_() | {"image/png": self.png}


def _frame(row, column, height, width, edgecolor=_HERE, label=None, inset=0.0) -> Rectangle:
    """A frame around cells of a picture, so many cells inside of their edges."""
    corner, size = (column - 0.5 + inset, row - 0.5 + inset), (width - 2 * inset, height - 2 * inset)
    return Rectangle(corner, *size, fill=False, linewidth=2, edgecolor=edgecolor, label=label)


def _number(value: float, form: str = ".2f") -> str:
    """With a minus sign, not a hyphen; never -0.00."""
    return f"{round(value, 2) + 0.0:{form}}".replace("-", "−")


def _size(array) -> str:
    return "×".join(map(str, array.shape))


@chinese()
def framed(image: np.ndarray, frames: Mapping[str, tuple[int, int, int, int]], title: str = "") -> Figure:
    """An image with frames of several colours, and a legend that names them.

    Each is drawn a little inside of the next, so that edges at the same place are both seen.

    Args:
        image: (h, w).
        frames: name -> (first row, first column, height, width), in pixels; the smallest first.
        title: above it.
    """
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")  # inches
    axis = figure.subplots()
    axis.imshow(image, cmap="gray")
    for number, ((name, cells), color) in enumerate(zip(frames.items(), cycle(_COLOURS))):
        inset = _INSET * (len(frames) - 1 - number)
        axis.add_patch(_frame(*cells, edgecolor=color, label=name, inset=inset))
    axis.set(xticks=[], yticks=[], title=title)
    axis.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    return figure
