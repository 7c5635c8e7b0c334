"""A figure -> a picture file, in memory or on disk; loads neither MXNet nor the figures."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

from gluon_lenet.atomic import write_output
from gluon_lenet.errors import InputError

PICTURES = (".png", ".jpg", ".pdf", ".svg")


def as_bytes(figure: Figure, kind: str = "png", dpi: int = 200) -> bytes:
    """A figure as a picture file of this kind."""
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=dpi)
    return file.getvalue()


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
        InputError: as `check_picture_path`, or as `write_output`.
        DiskError: the disk is full, or fails.
    """
    check_picture_path(path)
    write_output(path, as_bytes(figure, Path(path).suffix[1:].lower()))
