"""Figures -> PNG, to be compared, and to see that every text can be drawn."""

from collections.abc import Callable

from matplotlib.figure import Figure

from gluon_lenet.viz.files import as_bytes


def png(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as PNG; a missing glyph is a warning, and warnings are errors in this suite."""
    return as_bytes(figure, dpi=dpi)


def check_nothing_stays(picture: Callable[[int], Figure], one: int, other: int) -> None:
    """Fail unless picture `one` is the same after picture `other`, which is another."""
    first = png(picture(one))
    assert png(picture(other)) != first
    assert png(picture(one)) == first
