"""Each way to make a fence, for real: what is seen inside, what is refused, and what is left afterwards."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from conftest import ROOT
from gluon_lenet.errors import InputError
from gluon_lenet.machine import packages
from grading import fences, one
from grading.fences import Bubblewrap, Container, Unsafe, Unshare
from grading.session import FenceError, Session
from grading.sight import INSIDE, Limits, Sight

pytestmark = pytest.mark.assignments

LOOK = """
import ctypes, json, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def refused(action):
    try:
        return not action()
    except OSError:
        return True
def readable(path):
    with open(path, "rb") as file:
        file.read(1)
    return True
print(json.dumps({
    "home": os.listdir("."),
    "root": sorted(os.listdir("/")),
    "uid": os.getuid(),
    "pids": [n for n in os.listdir("/proc") if n.isdigit()],
    "environment": sorted(os.environ),
    "status": [l for l in open("/proc/self/status") if l.startswith(("CapEff", "CapPrm", "NoNewPrivs", "Seccomp:"))],
    "written": [p for p in WRITE if not refused(lambda: open(p, "w").write("x"))],
    "unreadable": [p for p in SHOWN if refused(lambda: readable(p))],
    "network": not refused(lambda: socket.create_connection(("127.0.0.1", PORT), 1)),
    "vsock": not refused(lambda: socket.socket(40, socket.SOCK_STREAM)),
    "local": not refused(lambda: socket.socketpair()),
    "unshare": libc.unshare(0x10000000) == 0,
    "init": [p for p in ("mem", "environ", "maps") if not refused(lambda: readable("/proc/1/" + p))],
    "memfd": libc.memfd_create(b"x", 0) >= 0,
    "oom": open("/proc/self/oom_score_adj").read().strip(),
    "cores": len(os.sched_getaffinity(0)),
}))
"""


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Caches to be copied: the real ones take seconds to make."""
    folder = tmp_path_factory.mktemp("seeds")
    (folder / "numba").mkdir()
    (folder / "numba" / "kernel.nbc").write_text("x")
    (folder / "matplotlib").mkdir()
    return folder


@pytest.fixture(scope="module", params=["bubblewrap", "unshare"])
def fence(request, seeds):
    """Each way that works without a service; installed or, as in `make grade`, fetched."""
    sight, limits = Sight.of_this_machine(seeds), Limits(seconds=60)
    if request.param == "unshare":
        return fences._unshare(sight, limits, "")
    try:
        return fences._installed_bubblewrap(sight, limits, "")
    except packages.PackageError:
        return fences._fetched_bubblewrap(sight, limits, "")


def run_inside(fence, code, **names):
    """What a Python program prints in the fence, as JSON."""
    values = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    started = fence.start([fence.sight.python, "-I", "-S", "-c", values + code])
    try:
        out, err = started.process.communicate(timeout=60)
    finally:
        started.end()
    assert started.process.returncode == 0, err.decode()
    return json.loads(out)


def test_what_is_seen_inside(fence, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADER_TOKEN", "SECRET")
    write = [str(tmp_path / "x"), str(ROOT / "gluon_lenet" / "planted.py"), "/planted", "/usr/planted", "/dev/planted"]
    shown = [str(INSIDE / "worker.py"), str(ROOT / "gluon_lenet" / "__init__.py"), sys.executable, "/dev/urandom"]
    shown += ["/data/fashion_mnist/train-images-idx3-ubyte", "/tmp/numba/kernel.nbc"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        seen = run_inside(fence, LOOK, WRITE=write, SHOWN=shown, PORT=server.getsockname()[1])
    assert seen["home"] == []
    top = {"bin", "data", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "seeds", "tmp", "usr"}
    assert set(seen["root"]) <= top | {Path(path).parts[1] for path, _ in fence.sight.files}
    assert seen["uid"] != 0 or os.getuid() != 0
    assert len(seen["pids"]) == 2  # the first, which guards the namespace, and its own
    assert not [name for name in seen["environment"] if "TOKEN" in name or "SSH" in name]
    assert [line.split()[1].strip("0") for line in seen["status"] if line.startswith("Cap")] == ["", ""]
    assert "NoNewPrivs:\t1\n" in seen["status"]
    assert "Seccomp:\t2\n" in seen["status"]
    assert seen["written"] == seen["unreadable"] == []
    assert not any(seen[name] for name in ("network", "vsock", "unshare", "memfd", "init"))
    assert seen["local"]
    assert seen["oom"] == "1000"
    assert not list(tmp_path.iterdir())


def test_a_session_ends_with_all_it_started(fence):
    nap = f"86398.{os.getpid()}"
    with Session(fence) as session:
        code = "import ctypes, os, subprocess\nctypes.CDLL(None).prctl(1, 0)  # to outlive its parent\nx = 1\n"
        code += f"subprocess.Popen(['sleep', '{nap}'], start_new_session=True)"
        assert not session.cell(code)["failed"]
        assert session.value("x") == 1
        assert any(nap in (p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]))
    deadline = time.monotonic() + 20
    while any(nap in (p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert session.process.poll() is not None


def test_it_ends_with_whoever_started_it(fence, tmp_path):
    """Also if that is killed: nothing of a submission outlives `make grade`."""
    nap = f"86397.{os.getpid()}"
    (tmp_path / "start.py").write_text(
        "import sys, msgspec, time\nfrom grading import one\n"
        "fence = one.fence_of(msgspec.json.decode(sys.stdin.buffer.read(), type=one.FenceOrder))\n"
        f"fence.start(['/usr/bin/sleep', '{nap}'])\nprint('started', flush=True)\ntime.sleep(1000)\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'notebooks' / 'assignments'}:{ROOT}"}
    command, pipe = [sys.executable, tmp_path / "start.py"], subprocess.PIPE
    deadline = time.monotonic() + 20
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment) as process:
        process.stdin.write(msgspec.json.encode(one.order_of(fence)))
        process.stdin.close()
        assert process.stdout.readline() == b"started\n"
        while not sleeping(nap):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
    while sleeping(nap):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sleeping(nap):
    """Whether the program sleeps, having become it."""
    return [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [])[:2] == ["/usr/bin/sleep", nap]]


def test_a_fence_that_does_not_start_is_no_fault_of_the_student(seeds):
    sight = Sight.of_this_machine(seeds)
    with pytest.raises(FenceError, match="did not start"):
        Session(Bubblewrap(sight, Limits(), program="/usr/bin/false"))


def test_without_a_fence_it_refuses_unless_told(seeds, monkeypatch):
    def none(*args):
        raise packages.PackageError("not here")

    for name in ("_installed_bubblewrap", "_fetched_bubblewrap", "_unshare"):
        monkeypatch.setattr(fences, name, none)
    sight = Sight.of_this_machine(seeds)
    with pytest.raises(InputError, match=r"no fence .*no --image is given.*--unsafe"):
        fences.find(sight, Limits())
    unsafe = fences.find(sight, Limits(), unsafe=True)
    assert isinstance(unsafe, Unsafe)
    with Session(unsafe) as session:
        session.cell("import os\nx = os.getuid(), os.listdir('.')")
        assert session.value("x")[0] == os.getuid()


def test_the_first_that_works_is_taken(seeds, monkeypatch):
    sight = Sight.of_this_machine(seeds)
    monkeypatch.setattr(fences, "_installed_bubblewrap", lambda *a: Bubblewrap(*a[:2], program="/usr/bin/false"))
    monkeypatch.setattr(
        fences, "_fetched_bubblewrap", lambda *a: Bubblewrap(*a[:2], program="/usr/bin/no-such-program")
    )
    assert isinstance(fences.find(sight, Limits()), Unshare)


def test_a_container_is_started_with_the_same_walls(seeds, tmp_path, monkeypatch):
    """Without Docker, its place is taken by a program that writes down how it was called."""
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >> {tmp_path}/called\necho inside\n")
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(program) if name == "docker" else None)
    fence = fences._container(Sight.of_this_machine(seeds), Limits(), "our-image")
    assert isinstance(fence, Container)
    assert fence.why_not() == ""
    called = (tmp_path / "called").read_text().splitlines()
    for option, value in (
        ("--network", "none"),
        ("--cap-drop", "ALL"),
        ("--security-opt", "no-new-privileges"),
        ("--user", "65534:65534"),
        ("--pids-limit", "128"),
        ("--memory", str(3 << 30)),
    ):
        assert called[called.index(option) + 1] == value
    assert "--read-only" in called
    mounted = [called[n + 1] for n, word in enumerate(called) if word == "--volume"]
    assert all(volume.endswith(":ro") for volume in mounted)
    assert {volume.split(":")[1].split("/")[1] for volume in mounted} <= {"data", "seeds", ROOT.parts[1]}
    assert called[called.index("our-image") + 4] == "/home/reader/venv/bin/python"
    assert "kill" in called


def test_folders_of_the_teacher_are_hidden(seeds):
    sight = Sight.of_this_machine(seeds)
    sight.check_hides(ROOT / "course", Path.home() / "submissions")
    with pytest.raises(InputError, match="students' code sees"):
        sight.check_hides(Path(sys.prefix) / "course")
    assert all("t10k" not in source for source, _ in sight.files)
