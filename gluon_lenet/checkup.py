"""This machine -> what the chapter needs: found or not, and what to type; works even if nothing is installed.

Packages that may crash or be missing, MXNet above all, are imported in a subprocess (`_ask`), so that the other checks
still run.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

from gluon_lenet import __version__
from gluon_lenet.machine import nvidia, wheels

ROOT = Path(__file__).resolve().parents[1]  # of the checkout, or site-packages

# The direct dependencies in pyproject.toml, except those with a row of their own.
PACKAGES = (
    "d2lzh",
    "filelock",
    "matplotlib",
    "msgspec",
    "numba",
    "pillow",
    "pyelftools",
    "requests",
    "safetensors",
    "setuptools",
    "tqdm",
    "wrapt",
)

_PATIENCE = 120  # seconds for one import

_ENOUGH = 200 * 10**6  # bytes: both data sets take 110 MB unpacked, a run directory 2 MB


@dataclass(frozen=True)
class Found:
    """What one check found."""

    ok: bool
    text: str
    type: str | None = None  # the command that fixes it, if there is one
    needed: bool = True  # whether the chapter cannot run without it


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    ok: bool
    found: str
    type: str | None
    needed: bool


class _Failed(Exception):
    """A subprocess of `_ask` failed; the message is one line."""


def rows() -> list[Row]:
    """The results of all checks, in the order in which to fix them."""
    return [_row(name, check) for name, check in CHECKS.items()]


def _row(name: str, check: Callable[[], Found]) -> Row:
    try:
        found = check()
    except ModuleNotFoundError as error:
        found = Found(False, f"not looked at, as {error.name} is not installed")
    except Exception as error:  # one failed check must not end the others
        found = Found(False, " ".join(str(error).split()) or type(error).__name__)
    return Row(name, found.ok, found.text, None if found.ok else found.type, found.needed and name not in OPTIONAL)


# --- the checks -------------------------------------------------------------------------------------------------------


def _package() -> Found:
    commit = ""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
        commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return Found(True, f"{__version__}{f', commit {commit}' if commit else ''}, in {ROOT}")


def _python() -> Found:
    text = f"{platform.python_version()}, {sys.executable}, on {platform.platform()}"
    why = wheels.why_no_wheel()
    return Found(why is None, f"{text}{f'; {why}' if why else ''}")


def _numpy() -> Found:
    try:
        return Found(True, _ask("import numpy; print(json.dumps(numpy.__version__))") + _locked("numpy"))
    except _Failed as error:
        return Found(False, str(error), _install("numpy"))


def _packages() -> Found:
    versions = {name: _version(name) for name in PACKAGES}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        return Found(False, f"not installed: {', '.join(missing)}", _install(*missing))
    return Found(True, ", ".join(f"{name} {version}{_locked(name)}" for name, version in versions.items()))


def _libraries() -> Found:
    from gluon_lenet.machine import libraries

    missing = libraries.missing()
    if missing:
        command = f"{_this_python()} -m gluon_lenet.libraries"
        return Found(False, libraries.advice(missing), command if libraries.can_provide(missing) else None)
    return Found(True, "every library that MXNet's own need is found")


def _mxnet() -> Found:
    if _mxnet_wheel() is None:
        return Found(False, "not installed", _install("mxnet==1.9.1"))
    why, total = _ask(
        "from gluon_lenet import compat\n"
        "why = compat.why_no_mxnet()\n"
        "if why is None: import mxnet as mx\n"
        "print(json.dumps([why, None if why else float(mx.nd.ones((2,)).sum().asscalar())]))"
    )
    if why is not None:
        return Found(False, why)
    return Found(total == 2, f"{_version(_mxnet_wheel())} ({_mxnet_wheel()}), and 1 + 1 is {total:g}")


def _threads() -> Found:
    from gluon_lenet.compat import threads
    from gluon_lenet.errors import InputError

    try:
        return Found(True, f"{threads.num_threads()}, on {threads.physical_cores()} physical cores")
    except InputError as error:
        return Found(False, str(error), "unset OMP_NUM_THREADS MXNET_OMP_MAX_THREADS")


def _kernels() -> Found:
    try:
        lanes, compiled = _ask(
            "from gluon_lenet.engines.fused import compiled, sizes\n"
            "print(json.dumps([sizes.LANES, compiled.is_compiled()]))"
        )
    except _Failed as error:
        if "no locator available" not in str(error):
            raise
        return Found(False, "no folder for the compiled ones can be written", "export NUMBA_CACHE_DIR=$(mktemp -d)")
    text = f"vectors of {32 * lanes} bits, {lanes} images at a time"
    if compiled:
        return Found(True, f"{text}, compiled")
    later = "not compiled yet, which takes 10 s at the first training"
    return Found(False, f"{text}; {later}", f"{_this_python()} -m gluon_lenet.fused", needed=False)


def _data(name: str) -> Found:
    from gluon_lenet.data import cache
    from gluon_lenet.data.catalogue import DATASETS
    from gluon_lenet.data.transports import Folder

    wrong = [why for why in cache.verify(name).values() if why]
    if not wrong:
        return Found(True, f"in {cache.cache_dir() / name}, SHA-256 right")
    for source in DATASETS[name].sources:
        here = isinstance(source, Folder) and source.path.is_dir()  # the system's copy
        if here and not any(cache.verify(name, source.path).values()):
            return Found(True, f"in {source.path}, SHA-256 right")
    return Found(False, f"{len(wrong)} of 4 files: {wrong[0]}", f"{_this_python()} -m gluon_lenet.data fetch {name}")


def _gpu() -> Found:
    try:
        gpus = nvidia.gpus()
    except nvidia.DriverError as error:
        return Found(False, f"{error}; the chapter needs none")
    text = "; ".join(f"gpu({i}): {gpu.why_not() or gpu}" for i, gpu in enumerate(gpus))
    if all(gpu.why_not() for gpu in gpus):
        return Found(False, text)
    if _mxnet_wheel() == "mxnet":
        return Found(False, f"{text}; this is MXNet's CPU wheel", "make train GPU=1")
    return Found(True, text)


def _fonts() -> Found:
    file = ROOT / "gluon_lenet" / "viz" / "fonts" / "NotoSansSC-Subset.otf"
    if not file.exists():
        return Found(False, f"no {file}", "git checkout gluon_lenet/viz/fonts" if (ROOT / ".git").exists() else None)
    if _ask("from gluon_lenet.viz import fonts; print(json.dumps(ord('\\u5b66') in fonts.drawable()))"):
        return Found(True, "Chinese can be drawn")
    return Found(False, "none has Chinese characters")


def _disk() -> Found:
    from gluon_lenet.data import cache

    texts, ok = [], True
    for what, folder in (("this folder", Path.cwd()), ("the data's cache", cache.cache_dir())):
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        usable = os.access(folder, os.W_OK)
        ok = ok and usable and free >= _ENOUGH
        texts.append(f"{free / 1e9:.1f} GB free for {what}{'' if usable else f' ({folder} cannot be written)'}")
    return Found(ok, ", ".join(texts))


CHECKS: dict[str, Callable[[], Found]] = {
    "gluon_lenet": _package,
    "Python": _python,
    "NumPy": _numpy,
    "packages": _packages,
    "libraries": _libraries,
    "MXNet": _mxnet,
    "threads": _threads,
    "kernels": _kernels,
    "Fashion-MNIST": partial(_data, "fashion_mnist"),
    "MNIST": partial(_data, "mnist"),
    "GPU": _gpu,
    "fonts": _fonts,
    "disk": _disk,
}


OPTIONAL = ("MNIST", "GPU", "fonts")  # the chapter runs without these


# --- what they share --------------------------------------------------------------------------------------------------


def _ask(code: str):
    """Run `code` in a subprocess that can import this package; returns its last line of output, parsed as JSON."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-c", f"import json\n{code}"]
    env = os.environ | {"PYTHONPATH": path}
    try:
        process = subprocess.run(command, env=env, capture_output=True, text=True, errors="replace", timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        raise _Failed(f"no answer in {_PATIENCE} s") from None
    if process.returncode < 0:
        raise _Failed(f"Python dies of {signal.Signals(-process.returncode).name} there")
    if process.returncode > 0:
        raise _Failed((process.stderr.strip().splitlines() or ["no reason given"])[-1])
    return json.loads(process.stdout.splitlines()[-1])


def _this_python() -> str:
    """The command for the running Python: `python` if that is the same one."""
    if shutil.which("python") == sys.executable:
        return "python"
    path = Path(sys.executable)
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def _install(*requirements: str) -> str:
    """The command that installs these: the whole lock file if there is one."""
    if not _lock().exists():
        return f"{_this_python()} -m pip install --no-deps {' '.join(requirements)}"
    if sys.prefix == sys.base_prefix:  # the system's Python, into which pip may not install
        return f"make -C {shlex.quote(os.path.relpath(ROOT))} train" if Path.cwd() != ROOT else "make train"
    return f"{_this_python()} -m pip install --no-deps -r {shlex.quote(os.path.relpath(_lock()))}"


def _lock() -> Path:
    gpu = _mxnet_wheel() not in (None, "mxnet")
    return ROOT / ("requirements-gpu.txt" if gpu else "requirements.txt")


def _locked(name: str) -> str:
    """A note if the installed version is not the locked one."""
    if not _lock().exists():
        return ""
    versions = re.findall(rf"^{name}==(\S+)", _lock().read_text(), re.MULTILINE | re.IGNORECASE)
    return "" if _version(name) in versions else f" (the lock: {' or '.join(versions)})"


def _mxnet_wheel() -> str | None:
    """The name of MXNet's installed wheel: `mxnet`, or one for GPUs."""
    return next((name for name in ("mxnet-cu117", "mxnet-cu112", "mxnet") if _version(name)), None)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
