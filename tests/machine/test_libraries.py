"""libraries.py against MXNet's real shared objects, and copies of them that need something else."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, fails_as_bad_input, module_env
from gluon_lenet import libraries as libraries_command
from gluon_lenet.errors import InputError
from gluon_lenet.machine import libraries

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux's libraries are looked at")

MXNET = libraries._home()


@pytest.fixture(scope="module")
def loaded() -> dict[str, str]:
    """The libraries that `import mxnet` loads: name, without auditwheel's hash and what follows .so -> path."""
    code = "import gluon_lenet, mxnet\nprint(open('/proc/self/maps').read())"
    maps = subprocess.run([sys.executable, "-c", code], env=module_env(), capture_output=True, text=True, check=True)
    paths = {line.split()[-1] for line in maps.stdout.splitlines() if ".so" in line}
    return {re.split(r"-[0-9a-f]{8}|\.so", Path(path).name)[0]: path for path in paths}


@pytest.fixture
def site(tmp_path, loaded) -> Path:
    """A site-packages with links to MXNet's files, and a copy of the libraries in NumPy's wheel.

    From 2.5 on, NumPy's wheel has no libquadmath; the copy gets one, named as in older wheels.
    """
    site = tmp_path / "site"
    shutil.copytree(MXNET, site / "mxnet", copy_function=os.symlink, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("libmxnet.so", "libopenblas.so.0"):  # for the loader, ${ORIGIN} is the folder of the link
        assert (site / "mxnet" / name).is_symlink()
    shutil.copytree(MXNET.parent / "numpy.libs", site / "numpy.libs")
    if not any((site / "numpy.libs").glob("libquadmath*")):
        shutil.copy(loaded["libquadmath"], site / "numpy.libs" / "libquadmath-96973f99.so.0.0.0")
    return site


def without(*names: str, site: Path) -> dict[str, str]:
    """The environment of a machine without these libraries: the loader finds empty files instead."""
    empty = site.parent / "empty"
    empty.mkdir()
    for name in names:
        (empty / name).touch()
        (site / "mxnet" / name).unlink(missing_ok=True)  # `provide` has put it there, if this machine lacks it
    return {"LD_LIBRARY_PATH": str(empty)}


def python(code: str, site: Path, **env: str) -> subprocess.CompletedProcess:
    """Run `code` in a Python that finds MXNet in `site`."""
    env = module_env(PYTHONPATH=f"{site}:{ROOT}", **env)
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)


IMPORT = "from gluon_lenet import compat\nprint(compat.why_no_mxnet())"
PROVIDE = "import sys\nfrom gluon_lenet.libraries import main\nsys.exit(main([]))"


def test_what_mxnet_needs_is_what_it_loads(loaded):
    wanted = {name for path in MXNET.glob("*.so*") for name in libraries.needed(path)}
    assert {"libgomp.so.1", "libquadmath.so.0", "libgfortran.so.3", "libopenblas.so.0"} <= wanted
    assert {name.partition(".so")[0] for name in wanted} <= loaded.keys()


def test_of_this_machine_nothing_is_missing():
    assert libraries.missing() == []


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"<html>", b"\x7fELF\x02\x01\x01" + bytes(100)])
def test_what_is_no_library_needs_nothing(content, tmp_path):
    path = tmp_path / "libx.so"
    path.write_bytes(content)
    assert libraries.needed(path) == []


def test_all_that_is_missing_is_named_at_once_with_one_command_each(site):
    process = python(IMPORT, site, **without("libgomp.so.1", "libquadmath.so.0", site=site))
    assert process.stdout == (
        "MXNet needs libgomp.so.1, libquadmath.so.0, which this system lacks: apt install libgomp1 libquadmath0, or "
        "dnf install libgomp libquadmath; without root: python -m gluon_lenet.libraries\n"
    )


def test_what_another_wheel_brought_along_is_linked_once(site, tmp_path):
    lacking = without("libquadmath.so.0", site=site)
    process = python(PROVIDE, site, **lacking)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("MXNet needs libquadmath.so.0, which this system lacks: linked to numpy.libs/")
    assert process.stdout.count("\n") == 1
    shutil.move(site, tmp_path / "moved")  # as users move environments
    assert python(IMPORT, tmp_path / "moved", **lacking).stdout == "None\n"
    assert python(PROVIDE, tmp_path / "moved", **lacking).stdout == ""


def test_a_broken_link_is_replaced(site):
    lacking = without("libquadmath.so.0", site=site)
    (site / "mxnet" / "libquadmath.so.0").symlink_to("../numpy.libs/of-another-numpy")
    assert "libquadmath.so.0" in python(IMPORT, site, **lacking).stdout
    assert python(PROVIDE, site, **lacking).returncode == 0
    assert python(IMPORT, site, **lacking).stdout == "None\n"


def fake_apt(folder: Path, files: Path) -> str:
    """A PATH with a fake apt-get: each package that it downloads contains all of `files`."""
    folder.mkdir()
    scripts = {
        "apt-get": 'case "$*" in *download*) shift 7; for name in "$@"; do touch $name.deb; done;; esac',
        "dpkg-deb": f"mkdir -p $3 && cp -R {files}/. $3",
    }
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_what_no_wheel_has_is_fetched_without_root(site, tmp_path, loaded):
    lib = tmp_path / "files" / "usr" / "lib" / "x86_64-linux-gnu"
    lib.mkdir(parents=True)
    shutil.copy(loaded["libgomp"], lib / "libgomp.so.1.0.0")
    (lib / "libgomp.so.1").symlink_to("libgomp.so.1.0.0")
    lacking = without("libgomp.so.1", "libquadmath.so.0", site=site)
    process = python(PROVIDE, site, PATH=fake_apt(tmp_path / "bin", tmp_path / "files"), **lacking)
    assert process.returncode == 0, process.stderr
    linked, fetched = process.stdout.splitlines()
    assert linked.startswith("MXNet needs libquadmath.so.0, which this system lacks: linked to numpy.libs/")
    assert fetched == "MXNet needs libgomp.so.1, which this system lacks: fetched by apt-get download libgomp1"
    assert python(IMPORT, site, **lacking).stdout == "None\n"
    assert (site / "mxnet" / "libgomp.so.1").stat().st_mode & 0o444 == 0o444 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("apt", [False, True])
def test_what_cannot_be_had_is_one_line_of_error(apt, site, tmp_path):
    (tmp_path / "nothing").mkdir()
    path = fake_apt(tmp_path / "bin", tmp_path / "nothing") if apt else str(tmp_path / "nothing")
    process = python(PROVIDE, site, PATH=path, **without("libgomp.so.1", site=site))
    assert (process.returncode, process.stdout) == (2, "")
    (line,) = process.stderr.splitlines()
    sentence = "error: MXNet needs libgomp.so.1, which this system lacks: apt install libgomp1, or dnf install libgomp"
    assert line == sentence + ("" if apt else " (apt-get is not installed)")


def test_a_library_of_a_library_is_missed_too(tmp_path, monkeypatch):
    home = tmp_path / "mxnet"
    home.mkdir()
    (home / "__init__.py").touch()
    of_mxnet = (MXNET / "libgfortran.so.3").read_bytes()
    (home / "libmxnet.so").write_bytes(of_mxnet.replace(b"libquadmath.so.0", b"libsecond.so.0\0\0"))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert libraries.missing() == ["libsecond.so.0"]
    with pytest.raises(InputError, match=r"libsecond\.so\.0: no package of it is known here"):
        libraries.provide(print)
    (tmp_path / "other.libs").mkdir()
    second = of_mxnet.replace(b"libquadmath.so.0", b"libthird.so.0\0\0\0")
    (tmp_path / "other.libs" / "libsecond-0123abcd.so.0.1.2").write_bytes(second)
    lines = []
    with pytest.raises(InputError, match=r"needs libthird\.so\.0, which"):
        libraries.provide(lines.append)
    assert lines == [
        "MXNet needs libsecond.so.0, which this system lacks: linked to other.libs/libsecond-0123abcd.so.0.1.2"
    ]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("libcuda.so.1", "libcuda.so.1: NVIDIA's driver has it; without a GPU, install mxnet==1.9.1"),
        ("libcudnn.so.8", "PyPI's nvidia-*-cu11 packages"),
        ("libnccl.so.2", "PyPI's nvidia-*-cu11 packages"),
        ("libsomething.so.7", "no package of it is known here"),
    ],
)
def test_advice_for_what_no_distribution_has(name, answer):
    assert answer in libraries.advice([name])
    assert "apt install libgomp1, or dnf install libgomp; " in libraries.advice(["libgomp.so.1", name])


def test_where_mxnet_is_not_installed_nothing_is_missing(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    assert libraries.missing() == []


def test_the_command_line(capsys):
    assert libraries_command.main([]) == 0
    assert capsys.readouterr() == ("", "")
    fails_as_bad_input(libraries_command.main, ["--x"], capsys, "unrecognized arguments: --x")


def test_cuda_libraries_are_loaded_for_a_gpu_wheel_only(tmp_path, loaded):
    library = tmp_path / "nvidia" / "cublas" / "lib" / "libcublas.so.11"
    library.parent.mkdir(parents=True)
    shutil.copy(loaded["libgomp"], library)
    (library.parent / "libbroken.so").touch()
    code = (
        f"import sys, importlib.util\nsys.path.append({str(tmp_path)!r})\nimport gluon_lenet\n"
        "importlib.util.find_spec('mxnet')\nprint('libcublas' in open('/proc/self/maps').read())"
    )
    assert json.loads(python(code, tmp_path).stdout.lower()) is False
    (tmp_path / "mxnet_cu117-1.9.1.dist-info").mkdir()
    assert json.loads(python(code, tmp_path).stdout.lower()) is True
