"""MXNet's shared objects -> the libraries they need and this system lacks: linked, fetched, or named, all at once.

`python -m gluon_lenet.libraries`, which make runs when it has installed MXNet, puts what is missing beside libmxnet.so,
whose RPATH, `${ORIGIN}`, has the loader look there first: links to what other wheels brought along, and files of Debian
packages. What a library needs is read off its own NEEDED entries. Only Linux's libraries (ELF) are looked at.

MXNet's wheel for aarch64 was linked with Arm's compiler and its libraries, which nobody has. All it takes from them is
CBLAS, LAPACK and LAPACKE, and some functions that the C library has as well: an OpenBLAS does for all three.
"""

from __future__ import annotations

import ctypes
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
from gluon_lenet.machine import packages


@dataclass(frozen=True)
class Library:
    """Where libraries are to be had."""

    names: str  # a pattern of their names, as they stand in NEEDED entries
    apt: str = ""  # the package of Debian and Ubuntu that has them
    dnf: str = ""  # the one of Fedora
    advice: str = ""  # what to do where neither has them
    stand_in: str = ""  # a pattern of files in site-packages that have the same functions under another name
    wheel: packages.Wheel | None = None  # the one that has the stand-in, on whatever Python


# An OpenBLAS with kernels for every ARMv8 processor and functions under their plain names. The last SciPy that has one;
# its folder of libraries is all that is taken, so that it need not be a SciPy for this Python.
OPENBLAS = packages.Wheel(
    "scipy==1.11.4",
    sha256="b030c6674b9230d37c5c60ab456e2cf12f6784596d15ce8da9365e70896effc4",
    python="3.12",
    platform="manylinux2014_aarch64",
    folder="scipy.libs",
)

LIBRARIES = (  # the first row that fits a name counts
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
        Library(
            names, advice="PyPI's nvidia-*-cu11 packages have CUDA 11 for MXNet's GPU wheel (README.md, section GPU)"
        )
        for names in ("libcu*", "libnccl*", "libnv*")
    ),
    Library("*", advice="no package of it is known here"),
)


def library(name: str) -> Library:
    """The row of LIBRARIES for a name."""
    return next(row for row in LIBRARIES if fnmatchcase(name, row.names))


def can_provide(names: list[str]) -> bool:
    """Whether `provide` has a way to some of `names`; there is none to NVIDIA's driver, for one."""
    return any(library(name).apt or library(name).stand_in for name in names)


def needed(path: Path) -> list[str]:
    """The names in the NEEDED entries of an ELF file; none if it is no such file."""
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
    """What the shared objects in MXNet's folder need and the loader does not find, sorted; nothing without MXNet."""
    home = _home()
    if home is None or sys.platform != "linux":
        return []
    objects = [path for path in home.glob("*.so*") if path.exists()]  # a link may lead nowhere
    wanted = {name for path in objects for name in needed(path)}
    return _not_found(wanted - {path.name for path in [*objects, *_cuda_libraries()]})


def advice(names: list[str]) -> str:
    """One sentence that names all of `names`, libraries that MXNet lacks, and how to install them."""
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
    """Put what MXNet lacks beside libmxnet.so, with a line for each; raises InputError that names all that remains."""
    home = _home()
    while names := missing():  # what was found may need more
        try:
            found = _link(names, home, say) or _unpack(names, home, say) or _fetch(names, home, say)
        except packages.PackageError as error:
            raise InputError(f"{advice(names)} ({error})") from None
        if not found:
            raise InputError(advice(names))


def load_cuda() -> None:
    """Load CUDA 11 from PyPI's nvidia-*-cu11, if MXNet's GPU wheel is installed.

    Links would not do: cuDNN opens libraries beside itself by name, which succeeds once they are loaded.
    """
    libraries = _cuda_libraries()
    while libraries:  # in rounds, as they need one another
        failed = [library for library in libraries if not _loads(library)]
        if len(failed) == len(libraries):
            return  # what cannot be loaded, MXNet will name
        libraries = failed


def _home() -> Path | None:
    """The folder of libmxnet.so, which is not loaded."""
    spec = PathFinder.find_spec("mxnet")
    return Path(spec.origin).parent if spec and spec.origin else None


def _not_found(names: set[str]) -> list[str]:
    """Those of `names` that the loader does not find, in a process of its own: in this one NumPy's may be loaded."""
    code = "import ctypes, sys\nfor name in sys.argv[1:]:\n try: ctypes.CDLL(name)\n except OSError: print(name)"
    command = [sys.executable, "-I", "-S", "-c", code, *sorted(names)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()


def _link(names: list[str], home: Path, say: Callable[[str], object]) -> bool:
    """Link what other wheels brought along; whether there was any."""
    found = {name: path for name in names if (path := _in_wheels(name))}
    for name, path in found.items():
        target = os.path.relpath(path, home)  # an environment may be moved
        (home / name).unlink(missing_ok=True)  # a link that leads nowhere, since NumPy is another one
        (home / name).symlink_to(target)
        say(f"MXNet needs {name}, which this system lacks: linked to {path.parent.name}/{path.name}")
    return bool(found)


def _in_wheels(name: str) -> Path | None:
    """The file of another wheel that is the library, or has its functions.

    auditwheel, which packs libraries into wheels, gives them a hash: libquadmath-96973f99.so.0.0.0.
    """
    stem, _, version = name.partition(".so")
    patterns = [f"*.libs/{name}", f"*.libs/{stem}-*.so{version}*", library(name).stand_in]
    for pattern in filter(None, patterns):
        for site in map(Path, sys.path):
            for path in sorted(site.glob(pattern)):
                return path
    return None


def _unpack(names: list[str], home: Path, say: Callable[[str], object]) -> bool:
    """Unpack the libraries in wheels that need not be installed, for `_link` to find; whether there was any."""
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
    """Take what Debian's packages have, unpacked without root; whether there was any."""
    wanted = sorted({library(name).apt for name in names} - {""})
    if not wanted:
        return False
    with packages.apt(wanted, grown=lambda size: None) as unpacked:
        found = {name: path for name in names for path in sorted(unpacked.rglob(name))[:1]}
        for name, path in found.items():
            write_atomically(home / name, path.read_bytes())
            say(f"MXNet needs {name}, which this system lacks: fetched by apt-get download {library(name).apt}")
    return bool(found)


def _cuda_libraries() -> list[Path]:
    sites = [site for site in map(Path, sys.path) if any(site.glob("mxnet_cu*.dist-info"))]
    return [path for site in sites for path in site.glob("nvidia/*/lib/*.so*")]


def _loads(path: Path) -> bool:
    try:
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True
