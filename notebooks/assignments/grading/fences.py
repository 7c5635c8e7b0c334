"""A command -> the same, started inside namespaces of the operating system, by the first of three ways that works here.

In the fence there is no network, no other process, nothing of the teacher's but what `Sight` lists, and an empty home
in memory. The ways are bubblewrap (installed, or fetched without root), `unshare` and a container; without them, `find`
refuses, unless it is told to do without a fence.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from gluon_lenet.atomic import write_atomically
from gluon_lenet.data import cache
from gluon_lenet.errors import InputError
from gluon_lenet.machine import packages
from grading.sight import DATA, HOME, INSIDE, ROOT, SCRATCH, SEEDS, Limits, Sight

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gluon_lenet-grading"
FETCHED = CACHE / "bubblewrap"
IMAGE_PYTHON = "/home/reader/venv/bin/python"  # of the repository's Dockerfile
COPIED = ("numba", "matplotlib")  # compiled kernels and a list of fonts


@dataclass
class Started:
    """A process in a fence, with pipes to it, and what else is to be done at its end."""

    process: subprocess.Popen
    end: Callable[[], object] = field(default=lambda: None)


@dataclass(frozen=True)
class Fence(ABC):
    """A way to start a process so that the operating system separates it from everything else."""

    sight: Sight
    limits: Limits
    core: int | None = None  # the processor's core that it may use; None for all

    @property
    def name(self) -> str:
        """For the teacher."""
        return {"Bubblewrap": "bubblewrap", "Unshare": "namespaces made by unshare", "Container": "a container"}.get(
            type(self).__name__, "no fence at all"
        )

    @abstractmethod
    def start(self, command: list[str]) -> Started:
        """Start `command` inside, with pipes as its stdin and stdout; stderr has what goes wrong on the way."""

    def why_not(self) -> str:
        """Try it: empty, or why it does not work here."""
        try:
            started = self.start([self.sight.python, "-I", "-S", "-c", "print('inside')"])
        except OSError as error:
            return str(error)
        try:
            out, err = started.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            started.process.kill()
            return "no answer"
        finally:
            started.end()
        lines = err.decode(errors="replace").strip().splitlines()
        return "" if out == b"inside\n" else (lines or [f"exit status {started.process.returncode}"])[-1]

    def _order(self, command: list[str], **changes) -> list[str]:
        """The command that carries out enter.py's part."""
        order = {
            "command": command,
            "limits": self.limits.rlimits(),
            "copies": [[f"{SEEDS}/{name}", f"{SCRATCH}/{name}"] for name in COPIED],
            "home": HOME,
            # the limit on processes does not hold for root: a user who exists nowhere and has no other processes
            "user": 10**9 + secrets.randbelow(10**9) if os.getuid() == 0 else None,
            "core": self.core,
            "root": None,
            "guard": True,
            "filter": True,
        }
        return [self.sight.python, "-I", "-S", str(INSIDE / "enter.py"), json.dumps(order | changes)]

    def _popen(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True, bufsize=0
        )


@dataclass(frozen=True)
class Bubblewrap(Fence):
    """The program bwrap; `libraries` is a folder with a library that it needs, if it was fetched."""

    program: str = "bwrap"
    libraries: str = ""

    def start(self, command: list[str]) -> Started:
        """See `Fence`."""
        size = str(self.limits.scratch_bytes)
        bwrap = [self.program, "--die-with-parent", "--as-pid-1", "--new-session", "--hostname", "student"]
        bwrap += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        bwrap += [] if os.getuid() == 0 else ["--unshare-user"]
        bwrap += ["--dev", "/dev", "--perms", "1777", "--size", size, "--tmpfs", "/dev/shm", "--proc", "/proc"]
        bwrap += ["--perms", "1777", "--size", size, "--tmpfs", SCRATCH]  # first: what is shown may lie in /tmp
        for folder in self.sight.folders():
            bwrap += ["--perms", "0755", "--dir", folder]
        for source, target in self.sight.files:
            bwrap += ["--ro-bind", source, target]
        for path, text in self.sight.links:
            bwrap += ["--symlink", text, path]
        bwrap += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]
        environment = self.sight.environment()
        if self.libraries:
            bwrap += ["--unsetenv", "LD_LIBRARY_PATH"]
            environment |= {"LD_LIBRARY_PATH": self.libraries}
        return Started(self._popen([*bwrap, "--", *self._order(command)], environment))


@dataclass(frozen=True)
class Unshare(Fence):
    """The program unshare of util-linux, and root.py for the file system."""

    program: str = "unshare"

    def start(self, command: list[str]) -> Started:
        """See `Fence`."""
        at, size = tempfile.mkdtemp(prefix="lenet-root-"), self.limits.scratch_bytes
        root = {"at": at, "shown": self.sight.files, "links": self.sight.links}
        root["memory"] = [[SCRATCH, size], ["/dev/shm", size]]
        is_root = os.getuid() == 0
        unshare = ["setpriv", "--pdeathsig", "KILL", "--", self.program, "--mount", "--pid", "--fork", "--kill-child"]
        unshare += ["--net", "--ipc", "--uts", "--cgroup", *([] if is_root else ["--user", "--map-root-user"])]
        enter = self._order(command, root=root)
        process = self._popen([*unshare, "--", *enter], self.sight.environment())
        return Started(process, lambda: shutil.rmtree(at, ignore_errors=True))


@dataclass(frozen=True)
class Container(Fence):
    """Docker or Podman with an image of this repository, whose Python is used."""

    program: str = "docker"
    image: str = ""

    def start(self, command: list[str]) -> Started:
        """See `Fence`."""
        name, size = f"lenet-{secrets.token_hex(8)}", self.limits.scratch_bytes
        run = [self.program, "run", "--rm", "--interactive", "--name", name, "--network", "none", "--read-only"]
        run += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "65534:65534", "--workdir", "/"]
        run += ["--pids-limit", str(self.limits.processes), "--memory", str(self.limits.memory)]
        run += ["--memory-swap", str(self.limits.memory), "--shm-size", str(size)]
        run += ["--tmpfs", f"{SCRATCH}:size={size},mode=1777,exec"]
        for source, target in self.sight.files:
            run += ["--volume", f"{source}:{target}:ro"]
        for variable, value in self.sight.environment().items():
            run += ["--env", f"{variable}={value}"]
        # `timeout` ends the container if nobody is left to do it
        inner = [
            "timeout",
            "-s",
            "KILL",
            str(int(self.limits.seconds) + 60),
            *self._order(command, user=None, guard=False),
        ]
        run += ["--entrypoint", inner[0], self.image, *inner[1:]]
        process = self._popen(run, dict(os.environ))
        return Started(process, lambda: subprocess.run([self.program, "kill", name], capture_output=True))


@dataclass(frozen=True)
class Unsafe(Fence):
    """No fence: the code runs with all rights of whoever grades, in a temporary folder."""

    def start(self, command: list[str]) -> Started:
        """See `Fence`."""
        home = tempfile.mkdtemp(prefix="lenet-home-")
        seeds = next(source for source, target in self.sight.files if target == SEEDS)
        environment = self.sight.environment() | {"HOME": home, "TMPDIR": home}
        environment |= {"NUMBA_CACHE_DIR": f"{home}/numba", "MPLCONFIGDIR": f"{home}/matplotlib"}
        environment |= {"GLUON_LENET_DATA": str(cache.cache_dir())}
        copies = [[f"{seeds}/{name}", f"{home}/{name}"] for name in COPIED]
        process = self._popen(
            self._order(command, home=home, copies=copies, user=None, guard=False, filter=False), environment
        )
        return Started(process, lambda: shutil.rmtree(home, ignore_errors=True))


def find(sight: Sight, limits: Limits, image: str = "", unsafe: bool = False) -> Fence:
    """The first fence that works on this machine.

    Args:
        sight: what is seen inside.
        limits: what may be used.
        image: a container image of this repository (Dockerfile), for the third way; empty for none.
        unsafe: whether to do without a fence if there is none.

    Raises:
        InputError: none works, and `unsafe` is not given.
    """
    tried = []
    for make in (_installed_bubblewrap, _fetched_bubblewrap, _unshare, _container):
        try:
            fence = make(sight, limits, image)
            why_not = fence.why_not()
        except packages.PackageError as error:
            why_not = str(error)
        if not why_not:
            return fence
        tried.append(f"{make.__name__.strip('_').replace('_', ' ')}: {why_not}")
    if unsafe:
        return Unsafe(sight, limits)
    raise InputError(
        f"no fence around students' code can be made here ({'; '.join(tried)}); install bubblewrap, or allow user "
        "namespaces, or name a container image with --image; --unsafe runs their code with all your rights"
    )


def seeds() -> Path:
    """A folder with compiled kernels and a list of fonts, for each submission to copy; filled at the first call.

    Raises:
        InputError: it cannot be made.
    """
    folder, stamp = CACHE / "seeds", _stamp()
    with suppress(OSError):
        if (folder / "stamp").read_text() == stamp:
            return folder
    environment = {
        "NUMBA_CACHE_DIR": f"{folder}/numba",
        "MPLCONFIGDIR": f"{folder}/matplotlib",
        "PYTHONPATH": str(ROOT),
    }
    code = "import gluon_lenet.engines.fused.compiled as kernels, matplotlib.font_manager; kernels.address()"
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | environment, stdout=subprocess.DEVNULL)
    if done.returncode:
        raise InputError("MXNet or the kernels do not run here; see python -m gluon_lenet.doctor")
    write_atomically(folder / "stamp", stamp.encode())
    return folder


def _stamp() -> str:
    """A hash of what Numba compiles for, as it knows it: files with their times, Python, the processor."""
    sources = sorted((ROOT / "gluon_lenet").rglob("*.py"))
    parts = [f"{path} {path.stat().st_mtime_ns} {path.stat().st_size}" for path in sources]
    with suppress(OSError):
        parts += sorted({line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")})
    parts += [
        sys.version,
        sys.prefix,
        platform.processor(),
        *map(str, sorted(Path(sys.prefix).glob("lib/*/*/numba-*"))),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _installed_bubblewrap(sight: Sight, limits: Limits, image: str) -> Fence:
    return Bubblewrap(sight, limits, program=_program("bwrap"))


def _fetched_bubblewrap(sight: Sight, limits: Limits, image: str) -> Fence:
    if not (FETCHED / "bwrap").exists():
        with packages.apt(["bubblewrap", "libcap2"], grown=lambda size: None) as unpacked:
            FETCHED.mkdir(parents=True, exist_ok=True)
            for path in [*unpacked.rglob("libcap.so.*"), unpacked / "usr" / "bin" / "bwrap"]:
                shutil.copy(path, FETCHED / path.name)
    return Bubblewrap(sight, limits, program=str(FETCHED / "bwrap"), libraries=str(FETCHED))


def _unshare(sight: Sight, limits: Limits, image: str) -> Fence:
    _program("setpriv")
    return Unshare(sight, limits, program=_program("unshare"))


def _container(sight: Sight, limits: Limits, image: str) -> Fence:
    if not image:
        raise packages.PackageError("no --image is given")
    inside = [pair for pair in sight.files if pair[1].startswith((DATA, SEEDS, sight.packages))]
    in_image = replace(sight, files=inside, links=[], python=IMAGE_PYTHON)
    return Container(in_image, limits, program=shutil.which("podman") or _program("docker"), image=image)


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise packages.PackageError(f"{name} is not installed")
    return path
