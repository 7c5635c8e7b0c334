"""Bytes -> a file that is whole or absent, never half-written; a regular file of bounded size -> its bytes."""

from __future__ import annotations

import errno
import os
import secrets
import select
import stat
from pathlib import Path
from typing import BinaryIO

from gluon_lenet.errors import DiskError, InputError

PATIENCE = 10  # seconds that a pipe may take nothing
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# A path that is wrong, or the user's rights: his to mend. What else the system reports is the disk's failure.
_BAD_PATH = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG),
    errno.ENXIO,  # of a socket
}


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Write `data` to `path` so that a reader, or a machine that loses power, finds the old file or the new one.

    The file that a symbolic link leads to is replaced, not the link; a file that is replaced hands its permissions on.
    A character device (`/dev/null`), a FIFO that somebody reads and whatever a process has open (`/dev/stdout`) are
    written into, as they cannot be replaced.

    Raises:
        InputError: `path` is a folder, a socket, a disk, or a FIFO without a reader.
        DiskError: the system cannot write there, for want of space or rights, say; the old file is as it was.
    """
    try:
        if (number := descriptor(path)) is not None:
            _pour(os.dup(number), data)
            return
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:  # so far, or the target of a link is
            mode = None
        if mode is None or stat.S_ISREG(mode):
            _replace(Path(os.path.realpath(path)), data, mode)
        elif stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
            _pour(_open_stream(path), data)
        else:
            raise InputError(f"{path} cannot be written: it is {_kind(mode)}; name a file")
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error.strerror}") from error


def descriptor(path: str | os.PathLike) -> int | None:
    """The number of this process's open file that `path` stands for, as `/dev/stdout` and `/dev/fd/7` do; or None."""
    own = os.path.realpath("/dev/fd")
    for _ in range(40):  # links, as many as Linux follows
        folder, name = os.path.split(os.path.abspath(path))
        if os.path.realpath(folder) == own and name.isdecimal():
            return int(name)
        if not os.path.islink(path):
            return None
        path = os.path.join(folder, os.readlink(path))
    return None


def read_regular(path: str | os.PathLike, largest: int) -> bytes:
    """The bytes of a regular file of at most `largest` bytes; never waits for a FIFO or a device.

    Raises:
        InputError: it is not there, or no regular file, or larger, or may not be read.
        DiskError: the disk fails.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > largest:
                raise InputError(f"{path} has {size:,} bytes; such a file has at most {largest:,}")
            return file.read()
    except OSError as error:
        kind = InputError if error.errno in _BAD_PATH else DiskError
        raise kind(f"{path} cannot be read: {error.strerror}") from error


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """A regular file, open for reading; raises InputError for any other, and OSError. Never waits."""
    file = open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK))  # noqa: SIM115
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise InputError(f"{path} cannot be read: it is {_kind(mode)}, not a regular file")
    return file


def _replace(path: Path, data: bytes, mode: int | None) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Return when the names in the folder are on disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _open_stream(path: str | os.PathLike) -> int:
    """A device or FIFO, open for writing; never waits for a reader to come."""
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise InputError(f"{path} cannot be written: it is a FIFO that nobody reads; name a file") from None
        raise


def _pour(file: int, data: bytes) -> None:
    """Write into an open file, and close it; never waits for good for a reader to read on."""
    try:
        poll = select.poll()
        poll.register(file, select.POLLOUT)
        rest = memoryview(data)
        while rest:
            if not poll.poll(1000 * PATIENCE):
                raise OSError(errno.ETIMEDOUT, f"its reader took nothing for {PATIENCE} seconds")
            # A pipe that takes something takes so much without waiting, also one that another process made blocking
            rest = rest[os.write(file, rest[: select.PIPE_BUF]) :]
    finally:
        os.close(file)


def _kind(mode: int) -> str:
    return _KINDS[stat.S_IFMT(mode)]
