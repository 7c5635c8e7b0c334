"""Points, added one by one -> curves that grow during training: live in a notebook, a file elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from matplotlib.figure import Figure

from gluon_lenet.viz.files import as_bytes
from gluon_lenet.viz.fonts import chinese


class Animator:
    """Curves that grow during training, as in the d2l course: live in a notebook, a file elsewhere.

    Args:
        xlabel, ylabel, xlim, ylim, xscale, yscale, figsize: of the axis.
        legend: one label per curve.
        fmts: one matplotlib format per curve.
        file: the file that `save` writes outside a notebook.
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
        self.points = {}  # index of the curve -> its x and its y
        self._display = _notebook_display()
        self._shown = None

    @chinese()
    def add(self, x: float, y) -> None:
        """Add a point at `x` to each curve; `y` is a number, or one per curve, None for curves without a point."""
        for i, value in enumerate(y if hasattr(y, "__len__") else [y]):
            if value is not None:
                xs, ys = self.points.setdefault(i, ([], []))
                xs.append(x)
                ys.append(value)
        if self._display is None:
            return
        self._draw()
        picture = self._display.Image(as_bytes(self.figure), width=round(100 * self.figure.get_figwidth()))
        if self._shown is None:
            self._shown = self._display.display(picture, display_id=True)
        else:
            self._shown.update(picture)

    @chinese()
    def save(self) -> None:
        """Write the file if not in a notebook."""
        if self._display is None:
            self._draw()
            self.figure.savefig(self.file, dpi=200)

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
    """The module `IPython.display` in a notebook's kernel, None elsewhere; does not import IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return ipython.display if shell is not None and hasattr(shell, "kernel") else None
