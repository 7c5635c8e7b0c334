"""machine/ and the container's files: where MXNet has no wheel, one sentence says where it runs."""

import json
import os
import platform
import re
import subprocess
import sys

import pytest

from conftest import ROOT, module_env
from gluon_lenet.machine import wheels

TITLE = "macOS, Windows and containers"

NO_WHEEL = [
    ("Darwin", "arm64", "MXNet has no wheel for macOS on Apple Silicon: run the chapter in a container "),
    ("Windows", "AMD64", "MXNet has no wheel for Windows: use WSL2, or run the chapter in a container "),
    ("MSYS_NT-10.0-19045", "x86_64", "MXNet has no wheel for Windows: use WSL2, or run the chapter in a container "),
]


@pytest.mark.parametrize(("system", "processor", "says"), NO_WHEEL)
def test_where_there_is_no_wheel_a_sentence_leads_to_the_container(system, processor, says, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: processor)
    assert wheels.why_no_wheel() == f"{says}(docs/platforms.md, section {TITLE})"


def test_the_section_is_there():
    assert f"\n## {TITLE}\n" in (ROOT / "docs/platforms.md").read_text()


def test_here_is_one():
    assert wheels.why_no_wheel() is None


def test_other_machines_and_pythons_are_named(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    assert wheels.why_no_wheel().startswith(f"gluon_lenet runs MXNet on Python {wheels.pythons()}, and this is")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert wheels.why_no_wheel().endswith("and this is Linux on riscv64")


def test_import_mxnet_says_it(tmp_path):
    """On a simulated Apple Silicon Mac, where MXNet is not installed."""
    for name in ("numpy", "numpy.libs", "wrapt"):
        (tmp_path / name).symlink_to(
            os.path.join(os.path.dirname(os.path.dirname(pytest.importorskip("numpy").__file__)), name)
        )
    code = (
        "import platform; platform.system = lambda: 'Darwin'; platform.machine = lambda: 'arm64'\n"
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n"
        "import gluon_lenet\n"
        "try: import mxnet\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    process = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60)
    assert process.stdout.startswith(NO_WHEEL[0][2]), process.stderr


@pytest.mark.parametrize(("name", "says"), [("Darwin arm64", NO_WHEEL[0][2]), ("MSYS_NT-10.0 x86_64", NO_WHEEL[1][2])])
def test_make_says_it_too(name, says, tmp_path):
    (tmp_path / "uname").write_text(f"#!/bin/sh\n[ $1 = -s ] && echo {name.split()[0]} || echo {name}\n")
    (tmp_path / "uname").chmod(0o755)
    env = module_env(PATH=f"{tmp_path}:{os.environ['PATH']}")
    make = ["make", "-C", str(ROOT), "train", f"VENV={tmp_path / 'venv'}"]
    process = subprocess.run(make, env=env, capture_output=True, text=True, timeout=60)
    assert process.returncode == 2
    assert process.stderr.startswith(f"error: {says}")


# --- the container ----------------------------------------------------------------------------------------------------


def test_binder_and_editors_take_the_same_dockerfile():
    assert os.path.samefile(ROOT / ".binder" / "Dockerfile", ROOT / "Dockerfile")
    editor = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert os.path.samefile(ROOT / ".devcontainer" / editor["build"]["dockerfile"], ROOT / "Dockerfile")
    assert os.path.samefile(ROOT / ".devcontainer" / editor["build"]["context"], ROOT)
    lines = (ROOT / "Dockerfile").read_text()
    assert f"\nUSER {editor['remoteUser']}\n" in lines
    [venv] = re.findall(r"GLUON_LENET_VENV=(\S+)", lines)
    assert editor["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"] == f"{venv}/bin/python"


def test_what_git_ignores_docker_does_not_copy():
    ignored = {
        name: {line.strip("/").removeprefix("**/") for line in (ROOT / name).read_text().splitlines()}
        for name in (".gitignore", ".dockerignore")
    }
    assert ignored[".dockerignore"] == ignored[".gitignore"]
