"""Users' pictures as a net sees them, and its predictions -> a matplotlib figure."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence, Set

import numpy as np
from matplotlib.figure import Figure

from gluon_lenet.errors import printable
from gluon_lenet.viz import fonts


def show_drawings(
    drawings: Sequence[np.ndarray], predictions: Sequence[str], probabilities: Sequence[float], names: Sequence[str]
) -> Figure:
    """The net's input images, each below its file's name, the predicted class and its probability.

    Args:
        drawings: n arrays (28, 28), 0 to 255.
        predictions: n class names.
        probabilities: of each prediction, 0 to 1.
        names: n file names, in any script; characters that no installed font has are escaped.
    """
    columns = min(len(drawings), 5) or 1
    rows = math.ceil(len(drawings) / columns) or 1
    figure = Figure(figsize=(1.9 * columns, 2.3 * rows), layout="constrained")  # inches
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.axis("off")
    for axis, drawing, prediction, probability, name in zip(
        axes[: len(drawings)], drawings, predictions, probabilities, names, strict=True
    ):
        axis.imshow(drawing, cmap="gray", vmin=0, vmax=255)
        text = f"{_shorten(name)}\n{prediction}  {probability:.1%}"
        axis.set_title(_escape(text, fonts.drawable()), fontsize=9, fontfamily=fonts.families(), parse_math=False)
    return figure


def _escape(text: str, drawable: Set[int]) -> str:
    """The text with control characters, and those that the fonts lack, as Python escapes: 数.png -> \\u6570.png."""
    return "".join(c if ord(c) in drawable or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)


def _shorten(name: str, longest: int = 22) -> str:
    """A file name without its folders, shortened in the middle if it is too long."""
    name = printable(os.path.basename(os.fsdecode(name)) or os.fsdecode(name))
    return name if len(name) <= longest else f"{name[: longest - 9]}…{name[-8:]}"
