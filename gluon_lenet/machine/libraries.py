"""MXNet's shared objects -> the libraries they need and this system lacks: linked, fetched, or named, all at once.

`python -m gluon_lenet.libraries`, which make runs after installing MXNet, puts missing libraries beside libmxnet.so,
where the loader looks first (its RPATH is `${ORIGIN}`): links to libraries of other wheels, and files of Debian
packages. The needed libraries are read from the NEEDED entries. Only Linux's libraries (ELF) are supported.

MXNet's wheel for aarch64 was linked with the libraries of Arm's compiler, which are not distributed. It only uses their
CBLAS, LAPACK and LAPACKE, and some functions that the C library has as well: an OpenBLAS replaces all three.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.machinery import PathFinder
from pathlib import Path

from gluon_lenet.atomic import write_atomically
from gluon_lenet.errors import InputError
from gluon_lenet.machine import cuda, packages


@dataclass(frozen=True)
class Library:
    """Where to get libraries."""

    names: str  # a pattern of their names, as in NEEDED entries
    apt: str = ""  # their package in Debian and Ubuntu
    dnf: str = ""  # their package in Fedora
    advice: str = ""  # what to do if neither has them
    stand_in: str = ""  # a pattern of files in site-packages with the same functions under another name
    wheel: packages.Wheel | None = None  # the wheel that has the stand-in, for any Python


# An OpenBLAS with kernels for every ARMv8 processor and unmangled function names; the last SciPy that ships one. Only
# its folder of libraries is used, so that it need not be a SciPy for this Python.
OPENBLAS = packages.Wheel(
    "scipy==1.11.4",
    sha256="b030c6674b9230d37c5c60ab456e2cf12f6784596d15ce8da9365e70896effc4",
    python="3.12",
    platform="manylinux2014_aarch64",
    folder="scipy.libs",
)

LIBRARIES = (  # the first row that matches a name counts
    Library("libgomp.so.1", apt="libgomp1", dnf="libgomp"),
    Library("libquadmath.so.0", apt="libquadmath0", dnf="libquadmath"),
    Library("libgcc_s.so.1", apt="libgcc-s1", dnf="libgcc"),
    Library("libstdc++.so.6", apt="libstdc++6", dnf="libstdc++"),
    Library("libz.so.1", apt="zlib1g", dnf="zlib"),
    *(
        Library(
            name,
            advice="the OpenBLAS of SciPy 1.11.4 has their functions",
            stand_in="scipy.libs/libopenblasp-r0-953c10af.3.21.dev.so",
            wheel=OPENBLAS,
        )
        for name in ("libarmpl_lp64_mp.so", "libamath.so", "libastring.so")  # of Arm's compiler
    ),
    Library("libcuda.so.1", advice="NVIDIA's driver has it; without a GPU, install mxnet==1.9.1"),
    *(
        Library(names, advice="PyPI's nvidia-*-cu11 packages have CUDA 11 for MXNet's wheel (docs/platforms.md, GPU)")
        for names in ("libcu*", "libnccl*", "libnv*")
    ),
    Library("*", advice="no package of it is known here"),
)


def library(name: str) -> Library:
    """The row of LIBRARIES for a name."""
    return next(row for row in LIBRARIES if fnmatchcase(name, row.names))


def can_provide(names: list[str]) -> bool:
    """Whether `provide` can get some of `names`; it cannot get NVIDIA's driver, for one."""
    return any(library(name).apt or library(name).stand_in for name in names)


def needed(path: Path) -> list[str]:
    """The names in the NEEDED entries of an ELF file; none if it is not an ELF file."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as file:
        try:
            segments = [segment for segment in ELFFile(file).iter_segments() if isinstance(segment, DynamicSegment)]
            return [entry.needed for segment in segments for entry in segment.iter_tags("DT_NEEDED")]
        except ELFError:
            return []  # MXNet's own error says more about it


def missing() -> list[str]:
    """The libraries that the files in MXNet's folder need and the loader does not find, sorted; none without MXNet."""
    home = _home()
    if home is None or sys.platform != "linux":
        return []
    objects = [path for path in home.glob("*.so*") if path.exists()]  # a link may be broken
    wanted = {name for path in objects for name in needed(path)}
    return _not_found(wanted - {path.name for path in [*objects, *cuda.libraries()]})


def advice(names: list[str]) -> str:
    """One sentence that names all missing libraries `names`, and how to install them."""
    rows = list(dict.fromkeys(map(library, names)))
    ways = []
    if packaged := [row for row in rows if row.apt]:
        apt, dnf = (" ".join(getattr(row, tool) for row in packaged) for tool in ("apt", "dnf"))
        ways.append(f"apt install {apt}, or dnf install {dnf}")
    ways += dict.fromkeys(
        f"{', '.join(name for name in names if library(name).advice == row.advice)}: {row.advice}"
        for row in rows
        if row.advice
    )
    return f"MXNet needs {', '.join(names)}, which this system lacks: {'; '.join(ways)}"


def provide(say: Callable[[str], object]) -> None:
    """Put missing libraries beside libmxnet.so, one line for each; raises InputError naming those still missing."""
    home = _home()
    while names := missing():  # the new libraries may need others
        try:
            found = _link(names, home, say) or _unpack(names, home, say) or _fetch(names, home, say)
        except packages.PackageError as error:
            raise InputError(f"{advice(names)} ({error})") from None
        if not found:
            raise InputError(advice(names))


def _home() -> Path | None:
    """The folder of libmxnet.so; does not load it."""
    spec = PathFinder.find_spec("mxnet")
    return Path(spec.origin).parent if spec and spec.origin else None


def _not_found(names: set[str]) -> list[str]:
    """The `names` that the loader does not find; in a subprocess, since NumPy's libraries may be loaded in this one."""
    code = "import ctypes, sys\nfor name in sys.argv[1:]:\n try: ctypes.CDLL(name)\n except OSError: print(name)"
    command = [sys.executable, "-I", "-S", "-c", code, *sorted(names)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()


def _link(names: list[str], home: Path, say: Callable[[str], object]) -> bool:
    """Link libraries that other wheels ship; returns whether there were any."""
    found = {name: path for name in names if (path := _in_wheels(name))}
    for name, path in found.items():
        target = os.path.relpath(path, home)  # relative, since an environment may be moved
        (home / name).unlink(missing_ok=True)  # a broken link, after NumPy was replaced
        (home / name).symlink_to(target)
        say(f"MXNet needs {name}, which this system lacks: linked to {path.parent.name}/{path.name}")
    return bool(found)


def _in_wheels(name: str) -> Path | None:
    """The file of another wheel that is the library, or has its functions.

    auditwheel, which packs libraries into wheels, adds a hash to their names: libquadmath-96973f99.so.0.0.0.
    """
    stem, _, version = name.partition(".so")
    patterns = [f"*.libs/{name}", f"*.libs/{stem}-*.so{version}*", library(name).stand_in]
    for pattern in filter(None, patterns):
        for site in map(Path, sys.path):
            for path in sorted(site.glob(pattern)):
                return path
    return None


def _unpack(names: list[str], home: Path, say: Callable[[str], object]) -> bool:
    """Unpack libraries from wheels without installing them, for `_link` to find; returns whether there were any."""
    wheels = {library(name).wheel for name in names} - {None}
    for wheel in wheels:
        say(f"fetching {wheel.requirement} for the libraries in its wheel ...")
        with packages.unpacked_wheel(wheel, grown=lambda size: None) as unpacked:
            folder = home.parent / wheel.folder
            folder.mkdir(exist_ok=True)
            for path in (unpacked / wheel.folder).iterdir():
                write_atomically(folder / path.name, path.read_bytes())
    return bool(wheels)


def _fetch(names: list[str], home: Path, say: Callable[[str], object]) -> bool:
    """Fetch and unpack Debian packages without root; returns whether they had any of the libraries."""
    wanted = sorted({library(name).apt for name in names} - {""})
    if not wanted:
        return False
    with packages.apt(wanted, grown=lambda size: None) as unpacked:
        found = {name: path for name in names for path in sorted(unpacked.rglob(name))[:1]}
        for name, path in found.items():
            write_atomically(home / name, path.read_bytes())
            say(f"MXNet needs {name}, which this system lacks: fetched by apt-get download {library(name).apt}")
    return bool(found)
