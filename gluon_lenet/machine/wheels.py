"""This machine and its Python -> why MXNet 1.9.1 has no wheel for them; needs only Python's standard library."""

from __future__ import annotations

import platform
import sys

PYTHONS = (3, 10), (3, 15)  # the oldest and the newest, as requires-python in pyproject.toml says

_CONTAINER = "run the chapter in a container (docs/platforms.md, section macOS, Windows and containers)"


def why_no_wheel() -> str | None:
    """Why MXNet cannot be installed here and what to do, in one sentence; None if it can."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) == ("Darwin", "arm64"):
        return f"MXNet has no wheel for macOS on Apple Silicon: {_CONTAINER}"
    if system == "Windows" or system.startswith(("MSYS", "MINGW", "CYGWIN")):
        return f"MXNet has no wheel for Windows: use WSL2, or {_CONTAINER}"
    if (system, machine) not in (("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "x86_64")):
        return f"MXNet has wheels for Linux and for macOS on x86-64 only, and this is {system} on {machine}"
    if sys.maxsize < 2**32:  # for example 32-bit Raspberry Pi OS, whose kernel reports aarch64
        return f"MXNet has wheels for Python of 64 bits only, and this is one of 32 bits on {machine}"
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return f"gluon_lenet runs MXNet on Python {pythons()}, and this is {platform.python_version()}"
    return None


def pythons() -> str:
    """The versions of Python as text, "3.10 to 3.13"."""
    return " to ".join("{}.{}".format(*version) for version in PYTHONS)
