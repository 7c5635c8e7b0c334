"""What a submission may see and use: files, read-only, an environment, limits; fences.py puts a fence around it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from gluon_lenet.data import cache
from gluon_lenet.data.catalogue import get_entry
from gluon_lenet.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
INSIDE = Path(__file__).resolve().parent / "inside"
HOME, SCRATCH, DATA, SEEDS = "/tmp/home", "/tmp", "/data", "/seeds"
DATASET = "fashion_mnist"
SYSTEM = ("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin")
SETTINGS = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")
SETTINGS += ("/etc/fonts",)


@dataclass(frozen=True)
class Limits:
    """What a submission may use: the kernel counts for each process, session.py for all together, and for each cell."""

    cpu_seconds: int = 900  # of each process
    address_space: int = 8 << 30  # bytes of each process, most of which is never used
    file_bytes: int = 64 << 20  # of each file
    scratch_bytes: int = 256 << 20  # of all files
    processes: int = 128  # and threads
    open_files: int = 256
    cell_seconds: float = 120.0  # of a processor
    call_seconds: float = 20.0  # of a processor, of a function that a test calls
    memory: int = 3 << 30  # bytes of all processes together
    seconds: float = 1200.0  # of the whole submission, by the clock

    def rlimits(self) -> dict[str, int]:
        """As `resource` names them."""
        return {
            "RLIMIT_CPU": self.cpu_seconds,
            "RLIMIT_AS": self.address_space,
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_NPROC": self.processes,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_CORE": 0,
        }


@dataclass(frozen=True)
class Sight:
    """What a submission sees: pairs of a path and the path at which it is seen."""

    files: list[tuple[str, str]]
    links: list[tuple[str, str]]  # a link's path, and where it points
    python: str
    packages: str  # the folder for PYTHONPATH

    @classmethod
    def of_this_machine(cls, seeds: Path) -> Sight:
        """Python, this package, the system's libraries, the training images; `seeds` are caches to be copied."""
        shown, links = [], []
        bases = {Path(folder).resolve() for folder in (sys.base_prefix, sys.base_exec_prefix)}
        own = [path for path in sorted(Path("/usr").iterdir()) if path.name != "local"]  # local has the machine's own
        for path in [*map(Path, SYSTEM), *own]:
            if path.is_symlink():
                links.append((str(path), os.readlink(path)))
            elif path.is_dir():
                shown.append(str(path))
        wanted = [*bases, Path(sys.prefix), ROOT / "gluon_lenet", INSIDE]
        shown += [str(path) for path in wanted if path != Path("/usr")]
        shown += [path for path in SETTINGS if os.path.exists(path)]
        folder = cache.cache_dir() / DATASET
        train = [(str(folder / file.name), f"{DATA}/{DATASET}/{file.name}") for file in get_entry(DATASET).files[:2]]
        files = [*((path, path) for path in dict.fromkeys(shown)), *train, (str(seeds), SEEDS)]
        return cls(files, links, sys.executable, str(ROOT))

    def check_hides(self, *folders: Path) -> None:
        """Raise InputError if one of the teacher's folders lies in what submissions see."""
        for folder in folders:
            for source, _ in self.files:
                if folder.is_relative_to(source):
                    raise InputError(f"{folder} lies in {source}, which students' code sees; move it elsewhere")

    def folders(self) -> list[str]:
        """The folders above what is seen, outermost first."""
        above = {parent for _, target in self.files for parent in Path(target).parents}
        return [str(folder) for folder in sorted(above - {Path("/"), Path(SCRATCH)})]

    def environment(self) -> dict[str, str]:
        """The environment variables of the student's code: nothing of the teacher's."""
        return {
            "CUDA_VISIBLE_DEVICES": "",
            "GLUON_LENET_DATA": DATA,
            "HOME": HOME,
            "IPYTHONDIR": f"{HOME}/.ipython",
            "LANG": "C.UTF-8",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "MPLCONFIGDIR": f"{SCRATCH}/matplotlib",
            "NUMBA_CACHE_DIR": f"{SCRATCH}/numba",
            "OMP_NUM_THREADS": "1",
            "PATH": "/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": self.packages,
            "TMPDIR": SCRATCH,
        }
