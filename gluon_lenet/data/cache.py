"""A data set's name -> its four IDX files, verified: from a folder, the cache, or the entry's sources in turn."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from gluon_lenet.atomic import write_atomically
from gluon_lenet.data import idx
from gluon_lenet.data.catalogue import DATASETS, DatasetEntry, get_entry
from gluon_lenet.data.idx import IdxFile
from gluon_lenet.data.transports import SourceError, find_file
from gluon_lenet.errors import DataError, DiskError, InputError
from gluon_lenet.machine.packages import PackageError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """A file that was found and verified."""

    path: Path
    origin: str
    data: bytes | memoryview = field(repr=False)  # unpacked


def cache_dir() -> Path:
    """Where fetched files are kept, unpacked, one subfolder per data set: GLUON_LENET_DATA or ~/.cache/gluon_lenet."""
    try:
        return Path(os.environ.get("GLUON_LENET_DATA") or "~/.cache/gluon_lenet").expanduser()
    except RuntimeError as error:  # a user without a home
        raise DataError(f"no cache folder: {error}; name one in the environment variable GLUON_LENET_DATA") from None


def fetch(
    dataset: str | DatasetEntry, data_dir: str | os.PathLike | None = None, progress: bool | None = None
) -> dict[str, Found]:
    """The four files of a data set, their SHA-256 verified.

    Args:
        dataset: a name in DATASETS, or an entry of your own.
        data_dir: a folder that holds them (`read_folder`): then nothing else is tried. None reads them from the cache;
            files that the cache lacks are fetched from the data set's sources in turn, and cached.
        progress: whether to show a download bar on stderr; None shows it if stderr is a terminal.

    Returns:
        File name -> its path, its origin and its bytes.

    Raises:
        InputError: an unknown name; or `data_dir` lacks a file or holds a wrong one.
        DataError: no source has a file, or the cache cannot be written.
    """
    if isinstance(dataset, str):
        dataset = get_entry(dataset)
    if data_dir is not None:
        return read_folder(dataset, data_dir)
    folder = cache_dir() / dataset.name
    found, _ = _read_cache(dataset, folder)  # no lock needed: files get their names when they are complete
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


def read_folder(dataset: DatasetEntry, data_dir: str | os.PathLike) -> dict[str, Found]:
    """The four files in a user's folder, or in its subfolder named after the data set, gzipped or not.

    Raises:
        InputError: there is no such folder, or it lacks a file or holds a wrong one; the message names it.
    """
    folder = _named_folder(data_dir)
    try:
        paths = {file: find_file(folder, file, dataset.name) for file in dataset.files}
        missing = [file.name for file, path in paths.items() if path is None]
        if missing:
            raise InputError(
                f"data folder {folder} lacks {', '.join(missing)} of {dataset.name}; they must be there or in its "
                f"subfolder {dataset.name}, gzipped (.gz) or not"
            )
        return {file.name: Found(path, str(folder), read_verified(path, file)) for file, path in paths.items()}
    except OSError as error:
        raise InputError(f"data folder {folder} cannot be read: {error}") from None


def _named_folder(data_dir: str | os.PathLike) -> Path:
    try:
        folder = Path(data_dir).expanduser()
        if not stat.S_ISDIR(os.stat(folder).st_mode):  # Path.is_dir hides every error from Python 3.14 on
            raise InputError(f"data folder {folder} is not a folder")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"data folder {folder} does not exist") from None
    except (RuntimeError, OSError) as error:  # ~nobody; a name too long, no rights
        raise InputError(f"data folder {data_dir}: {getattr(error, 'strerror', error)}") from None
    return folder


def verify(dataset: str, data_dir: str | os.PathLike | None = None) -> dict[Path, str | None]:
    """Hash the files in `data_dir` or the cache, fetching nothing: path -> None, or what is wrong with that file.

    Raises:
        InputError: an unknown name, or there is no folder `data_dir`.
    """
    files = get_entry(dataset)
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


def read_verified(path: Path, file: IdxFile) -> bytes | memoryview:
    """The unpacked bytes of `path`; raises IDXError if they are not those of `file`, OSError if unreadable.

    They are read into memory and hashed there on every call, so that a cache that others can write to, or a file that
    changes during training, cannot alter the data. The four files take 33 to 50 ms (benchmarks/README.md).
    """
    data = idx.read_bytes(path, file.size)
    check(data, file, str(path))
    return data


def check(data: bytes | memoryview, file: IdxFile, name: str) -> None:
    """Raise IDXError, with the most specific reason, unless `data` is that of `file`; messages call it `name`."""
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


def _read_cache(dataset: DatasetEntry, folder: Path) -> tuple[dict[str, Found], dict[Path, str]]:
    """What the cache holds: the valid files, and path -> reason for the invalid ones."""
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


def _collect(dataset: DatasetEntry, missing: list[IdxFile], folder: Path, progress: bool | None) -> dict[str, Found]:
    """Fetch each missing file from the first source that has a valid copy, and keep it in the cache."""
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
        except (SourceError, PackageError, OSError) as error:
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
    """Write a verified file into the cache; it gets its name only when it is complete on the disk."""
    path = folder / file.name
    with _keeping(folder):
        write_atomically(path, data)
    return path


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the cache's folder; the system releases the lock of a process that dies."""
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
            for pattern in (".*.tmp", "tmp*", ".verified.json"):  # left by killed processes, or by earlier versions
                for leftover in folder.glob(pattern):
                    leftover.unlink()
        yield
    finally:
        lock.release()


@contextmanager
def _keeping(folder: Path) -> Iterator[None]:
    """Turn an OSError into a DataError about the cache."""
    try:
        yield
    except OSError as error:
        why = error if isinstance(error, DiskError) else f"the cache {folder} cannot be written: {error}"
        raise DataError(
            f"{why}; name another folder in the environment variable GLUON_LENET_DATA, or use --data-dir FOLDER"
        ) from None
