"""PyPI's nvidia-*-cu11 packages -> CUDA 11, loaded before MXNet's GPU wheel, which links it."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path


def libraries() -> list[Path]:
    """The files of CUDA 11 in site-packages; none unless MXNet's GPU wheel is installed."""
    sites = [site for site in map(Path, sys.path) if any(site.glob("mxnet_cu*.dist-info"))]
    return [path for site in sites for path in site.glob("nvidia/*/lib/*.so*")]


def load() -> None:
    """Load `libraries()`.

    Links beside libmxnet.so are not enough: cuDNN opens libraries in its own folder by name, which succeeds once they
    are loaded.
    """
    left = libraries()
    while left:  # in rounds, because they depend on each other
        failed = [path for path in left if not _loads(path)]
        if len(failed) == len(left):
            return  # MXNet's own error will name them
        left = failed


def _loads(path: Path) -> bool:
    try:
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True
