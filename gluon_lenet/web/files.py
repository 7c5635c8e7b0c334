"""Runs and a path -> the nets that the page shows, the page's file, the page in a browser."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections import Counter
from pathlib import Path

from gluon_lenet.atomic import write_output
from gluon_lenet.errors import InputError, printable
from gluon_lenet.web.page import Shown, page

# One recipe for each net that a write-up or the paper tells of, and for the wide one; the first is open at the start.
RECIPES = (
    *("augmented_mnist", "lecun1998_distorted", "tanh_adam_mnist", "sgd_step_mnist"),
    *("d2l_v1_fashion", "d2l_v2_fashion", "better_fashion"),
)
PRETRAINED = tuple(f"pretrained:{recipe}" for recipe in RECIPES)

_OURS = b'content="gluon_lenet'  # in the head of each page
_HEAD = 4096  # bytes


def shown(runs: list[tuple]) -> list[Shown]:
    """Pairs of a run's name and its `inference.trained.Trained` -> what the page shows of it.

    Runs of one net are told apart by the names of their folders.
    """
    nets = Counter(trained.recipe.net for _, trained in runs)
    return [
        Shown(
            net=trained.net,
            name=trained.recipe.net,
            recipe=trained.name,
            transform=trained.transform,
            entry=trained.entry,
            label=printable(Path(run).name) if nets[trained.recipe.net] > 1 else "",
        )
        for run, trained in runs
    ]


def check_output(output: str | None, default: str) -> Path:
    """Where to write the page: `output`, or `default` in this folder unless another file has that name.

    Raises:
        InputError: the folder does not exist, or `default` is taken.
    """
    path = Path(output or default)
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {path.parent}")
    if path.is_dir():
        raise InputError(f"{path} cannot be written: it is a folder; name a file")
    if output is None and path.exists() and not _is_ours(path):
        raise InputError(f"{path} exists and is not a page of this command; name a file by --output")
    return path


def write_page(path: str | Path, trained) -> list[Path]:
    """Write the page that shows one net, an `inference.trained.Trained`; returns its file.

    Raises:
        InputError, DiskError: as `page` and `write`.
    """
    write(Path(path), page(shown([("", trained)])))
    return [Path(path)]


def _is_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _OURS in file.read(_HEAD)


def write(path: Path, html: str) -> None:
    """Write the page so that the file is whole or the old one.

    Raises:
        InputError, DiskError: as `atomic.write_output`.
    """
    write_output(path, html.encode())


def open_in_browser(path: Path) -> bool:
    """Open the page in the default browser; False if there is no window system, or no browser."""
    has_windows = sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
    return has_windows and webbrowser.open(path.resolve().as_uri())
