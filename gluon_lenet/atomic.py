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

PATIENCE = 10  # seconds to wait for the reader of a pipe
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# A wrong path or missing rights, which the user can fix. Any other error of the system is a failure of the disk.
_BAD_PATH = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG),
    errno.ENXIO,  # of a socket
    errno.EROFS,
}


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Write `data` to `path` so that a reader, or a machine that loses power, finds the old file or the new one.

    A symbolic link is followed: its target is replaced. The new file keeps the permissions of the old one. A character
    device (`/dev/null`), a FIFO with a reader and an open file of a process (`/dev/stdout`) cannot be replaced and are
    written to directly.

    Raises:
        InputError: `path` is a folder, a socket, a disk, or a FIFO without a reader.
        DiskError: the system cannot write there (no space, no rights); the old file is unchanged.
    """
    try:
        if (number := descriptor(path)) is not None:
            _pour(os.dup(number), data)
            return
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:  # a new file, or a link whose target does not exist
            mode = None
        if mode is None or stat.S_ISREG(mode):
            _replace(Path(os.path.realpath(path)), data, mode)
        elif stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
            _pour(_open_stream(path), data)
        else:
            raise InputError(f"{path} cannot be written: it is {_kind(mode)}; name a file")
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error.strerror}") from error


def write_output(path: str | os.PathLike, data: bytes) -> None:
    """`write_atomically` to a file that the user named.

    Raises:
        InputError: also if the folder of `path` does not exist or may not be written to, or the name is too long.
        DiskError: no space, or the disk fails.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {path.parent}")
    try:
        write_atomically(path, data)
    except DiskError as error:
        if error.__cause__.errno in _BAD_PATH:
            raise InputError(str(error)) from error
        raise


def descriptor(path: str | os.PathLike) -> int | None:
    """The file descriptor of this process that `path` names, as `/dev/stdout` and `/dev/fd/7` do; None for others."""
    own = os.path.realpath("/dev/fd")
    for _ in range(40):  # Linux follows at most 40 links
        folder, name = os.path.split(os.path.abspath(path))
        if os.path.realpath(folder) == own and name.isdecimal():
            return int(name)
        if not os.path.islink(path):
            return None
        path = os.path.join(folder, os.readlink(path))
    return None


def read_regular(path: str | os.PathLike, largest: int) -> bytes:
    """The bytes of a regular file of at most `largest` bytes; never blocks on a FIFO or a device.

    Raises:
        InputError: the file does not exist, is not regular, is larger, or may not be read.
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
    """A regular file, open for reading; raises InputError for any other kind, and OSError. Never blocks."""
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
    """Flush the folder's entries to disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _open_stream(path: str | os.PathLike) -> int:
    """A device or FIFO, open for writing; does not wait for a reader."""
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise InputError(f"{path} cannot be written: it is a FIFO that nobody reads; name a file") from None
        raise


def _pour(file: int, data: bytes) -> None:
    """Write to an open file and close it; waits at most PATIENCE seconds for the reader."""
    try:
        poll = select.poll()
        poll.register(file, select.POLLOUT)
        rest = memoryview(data)
        while rest:
            if not poll.poll(1000 * PATIENCE):
                raise OSError(errno.ETIMEDOUT, f"its reader took nothing for {PATIENCE} seconds")
            # A writable pipe takes PIPE_BUF bytes without blocking, even if another process made it blocking
            rest = rest[os.write(file, rest[: select.PIPE_BUF]) :]
    finally:
        os.close(file)


def _kind(mode: int) -> str:
    return _KINDS[stat.S_IFMT(mode)]
