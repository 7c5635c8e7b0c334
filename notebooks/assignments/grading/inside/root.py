"""A list of what is to be seen -> a file system of its own for this process, in the mount namespace it is alone in.

For `unshare`; bubblewrap and containers make theirs themselves.
"""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _LAST_CAPABILITY = 4, 38, 24, 40
_LOCKED = {  # flags of a mount that a user namespace must keep: of statvfs -> of mount
    os.ST_NOSUID: _NOSUID,
    os.ST_NODEV: _NODEV,
    os.ST_NOEXEC: _NOEXEC,
    os.ST_NOATIME: 1024,
    os.ST_NODIRATIME: 2048,
    os.ST_RELATIME: 1 << 21,
}


def enter(order: dict) -> None:
    """Make the file system that `order` describes and stay in it; raises OSError.

    Args:
        order: "at", an empty folder; "shown", pairs of a path and where it is seen, read-only; "links", pairs of a
            link's place and its text; "memory", pairs of a folder and the bytes that it can hold.
    """
    at = order["at"]
    _mount("none", "/", None, _REC | _PRIVATE)
    _mount("tmpfs", at, "tmpfs", _NOSUID | _NODEV, "size=1m,mode=755")
    for folder, size in order["memory"]:
        os.makedirs(at + folder, exist_ok=True)
        _mount("tmpfs", at + folder, "tmpfs", _NOSUID | _NODEV, f"size={size},nr_inodes=20000,mode=1777")
    for source, target in order["shown"]:
        _bind(source, at + target)
    for place, text in order["links"]:
        os.makedirs(os.path.dirname(at + place), exist_ok=True)
        os.symlink(text, at + place)
    for name in ("null", "zero", "full", "random", "urandom"):
        _bind(f"/dev/{name}", f"{at}/dev/{name}", read_only=False)
    os.makedirs(f"{at}/dev/pts")
    _mount("devpts", f"{at}/dev/pts", "devpts", _NOSUID | _NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    os.symlink("pts/ptmx", f"{at}/dev/ptmx")
    for name, number in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{number}", f"{at}/dev/{name}")
    os.makedirs(f"{at}/proc")
    _mount("proc", f"{at}/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    os.makedirs(f"{at}/.old")
    os.chdir(at)
    _check(_libc.syscall(_PIVOT_ROOT[os.uname().machine], b".", b".old"), "pivot_root")
    os.chdir("/")
    _check(_libc.umount2(b"/.old", _DETACH), "umount")
    os.rmdir("/.old")
    _mount("none", "/", None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)


def forbid_rights() -> None:
    """No program that is started later gets rights beyond those of its user; raises OSError."""
    for number in range(_LAST_CAPABILITY + 1):
        _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # not allowed to a user without rights; older kernels lack some
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def open_memory(to_its_user: bool) -> None:
    """Whether this process's own user may read and write its memory and see what it has open; raises OSError."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, int(to_its_user), 0, 0, 0), "prctl")


def drop_rights() -> None:
    """Give up every capability; raises OSError."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the third version of the call, for this process
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")


def _bind(source: str, target: str, read_only: bool = True) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT, 0o600))
    _mount(source, target, None, _BIND | _REC)
    if read_only:
        has = os.statvfs(target).f_flag
        locked = sum(flag for seen, flag in _LOCKED.items() if has & seen)
        _mount("none", target, None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV | locked)


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    names = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    _check(_libc.mount(*names[:3], ctypes.c_ulong(flags), names[3]), f"mount {target}")


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
