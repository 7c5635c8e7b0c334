"""doctor.py on machines where something is missing: its report, and that the commands it names fix it."""

import json
import os
import re
import shutil
import subprocess
import sys
import venv

import pytest

from conftest import ROOT, fails_as_bad_input, module_env
from gluon_lenet import checkup, doctor
from gluon_lenet.machine import libraries

LINE = re.compile(r"(ok|MISSING|-) +(\S+) +(.*?)(?:; type: (.*))?")


def read(stdout, status):
    """The table that doctor prints: name -> parts."""
    *lines, verdict = stdout.splitlines()
    assert verdict.startswith("the chapter can run" if status == 0 else "the chapter cannot run")
    table = {match[2]: match.group(1, 3, 4) for match in map(LINE.fullmatch, lines)}
    assert list(table) == list(checkup.CHECKS)
    return table


@pytest.fixture
def look(fashion, tmp_path):
    """Call doctor in an empty folder, with changed variables; returns its exit status, and name -> parts."""

    def look(python=sys.executable, **extra):
        command = [python, "-m", "gluon_lenet.doctor"]
        process = subprocess.run(
            command, cwd=tmp_path, env=module_env(**extra), capture_output=True, text=True, timeout=170
        )
        assert "Traceback" not in process.stderr
        return process.returncode, read(process.stdout, process.returncode)

    return look


@pytest.fixture
def mend(tmp_path):
    """Run a command that doctor named, on the same machine."""

    def mend(command, **extra):
        process = subprocess.run(
            command, shell=True, cwd=tmp_path, env=module_env(**extra), capture_output=True, text=True, timeout=170
        )
        assert process.returncode == 0, process.stderr

    return mend


def test_a_machine_that_can_run_the_chapter(fashion, monkeypatch, capsys):
    """As a table, and the same as JSON."""
    rows = checkup.rows()
    monkeypatch.setattr(checkup, "rows", lambda: rows)
    assert doctor.main([]) == 0
    table = read(capsys.readouterr().out, 0)
    assert {mark for name, (mark, _, _) in table.items() if name not in (*checkup.OPTIONAL, "kernels")} == {"ok"}
    assert table["MXNet"][1].startswith("1.9.1 (mxnet")
    assert sys.executable in table["Python"][1]
    assert re.match(r"vectors of (512 bits, 16|256 bits, 8) images at a time", table["kernels"][1])
    assert doctor.main(["--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["can_run"] is True
    assert [row["name"] for row in result["rows"]] == list(checkup.CHECKS)
    assert {tuple(row) for row in result["rows"]} == {("name", "ok", "found", "type", "needed")}


def test_bad_arguments_are_one_line(capsys):
    fails_as_bad_input(doctor.main, ["now"], capsys, "unrecognized arguments: now")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's libraries are looked at")
def test_without_a_library(look, mend, tmp_path):
    home = libraries._home()
    site, empty = tmp_path / "site", tmp_path / "empty"
    shutil.copytree(home, site / "mxnet", copy_function=os.symlink, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(home.parent / "numpy.libs", site / "numpy.libs")
    (site / "mxnet" / "libquadmath.so.0").unlink(missing_ok=True)  # linked there on this machine
    empty.mkdir()
    (empty / "libquadmath.so.0").touch()  # the loader finds this one first
    lacking = {"PYTHONPATH": f"{site}:{ROOT}", "LD_LIBRARY_PATH": str(empty)}
    status, table = look(**lacking)
    mark, found, command = table["libraries"]
    assert (status, mark, table["MXNet"][0]) == (1, "MISSING", "MISSING")
    assert "MXNet needs libquadmath.so.0, which this system lacks: apt install libquadmath0" in found
    mend(command, **lacking)
    status, table = look(**lacking)
    assert (status, table["libraries"][0], table["MXNet"][0]) == (0, "ok", "ok")


@pytest.mark.network
@pytest.mark.parametrize(("name", "row"), [("fashion_mnist", "Fashion-MNIST"), ("mnist", "MNIST")])
def test_without_a_data_set(look, mend, name, row, tmp_path):
    from gluon_lenet.data import cache

    shutil.copytree(cache.cache_dir(), tmp_path / "cache")
    damaged = tmp_path / "cache" / name / "t10k-labels-idx1-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x0b")
    (tmp_path / "cache" / name / "train-images-idx3-ubyte").unlink()
    other = {"GLUON_LENET_DATA": str(tmp_path / "cache")}
    status, table = look(**other)
    mark, found, command = table[row]
    assert (status, mark) == ((1, "MISSING") if name == "fashion_mnist" else (0, "-"))
    assert found.startswith("2 of 4 files: ")
    assert command.endswith(f" -m gluon_lenet.data fetch {name}")
    mend(command, **other)
    assert look(**other)[1][row][0] == "ok"


@pytest.mark.slow
def test_without_the_compilers_cache(look, mend, tmp_path):
    (tmp_path / "numba").mkdir()
    other = {"NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    status, table = look(**other)
    mark, found, command = table["kernels"]
    assert (status, mark) == (0, "-")
    assert found.endswith("not compiled yet, which takes 10 s at the first training")
    assert not any((tmp_path / "numba").rglob("*.nbc"))  # doctor itself compiles nothing
    mend(command, **other)
    assert any((tmp_path / "numba").rglob("*.nbc"))
    assert look(**other)[1]["kernels"][0] == "ok"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os; os.kill(os.getpid(), 11)", "Python dies of SIGSEGV there"),
        ("raise OSError('libx.so: cannot open')", "MXNet does not load: OSError: libx.so: cannot open"),
    ],
)
def test_an_mxnet_that_does_not_load_is_a_row(look, code, says, tmp_path):
    (tmp_path / "site" / "mxnet").mkdir(parents=True)
    (tmp_path / "site" / "mxnet" / "__init__.py").write_text(code)
    status, table = look(PYTHONPATH=f"{tmp_path / 'site'}:{ROOT}")
    assert (status, table["MXNet"][:2]) == (1, ("MISSING", says))
    assert table["Fashion-MNIST"][0] == "ok"


def test_where_nothing_is_installed(look, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False)
    status, table = look(python=str(tmp_path / "venv" / "bin" / "python"))
    assert status == 1
    command = f"venv/bin/python -m pip install --no-deps -r {os.path.relpath(ROOT, tmp_path)}/requirements.txt"
    mark, says, what_to_type = table["NumPy"]
    assert (mark, what_to_type) == ("MISSING", command)
    assert says.startswith("ModuleNotFoundError: No module named 'numpy'")  # Python 3.15 appends a suggestion
    assert table["packages"] == ("MISSING", f"not installed: {', '.join(checkup.PACKAGES)}", command)
    assert table["MXNet"] == ("MISSING", "not installed", command)
    assert table["MNIST"] == ("-", "not looked at, as filelock is not installed", None)
    assert table["Python"][0] == "ok"


def test_a_number_of_threads_that_is_none(look):
    status, table = look(OMP_NUM_THREADS="many")
    assert (status, table["threads"][0]) == (1, "MISSING")
    assert table["threads"][2] == "unset OMP_NUM_THREADS MXNET_OMP_MAX_THREADS"


def test_without_the_font(monkeypatch, tmp_path):
    monkeypatch.setattr(checkup, "ROOT", tmp_path)
    assert checkup._fonts() == checkup.Found(False, f"no {tmp_path}/gluon_lenet/viz/fonts/NotoSansSC-Subset.otf")
    (tmp_path / ".git").touch()
    assert checkup._fonts().type == "git checkout gluon_lenet/viz/fonts"


def test_a_disk_that_is_full_or_read_only(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 0))
    assert checkup._disk().ok is False
    monkeypatch.undo()
    monkeypatch.setattr(os, "access", lambda folder, mode: False)
    assert "cannot be written" in checkup._disk().text


def test_every_dependency_has_a_row():
    block = re.search(r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    names = {name.lower() for name in re.findall(r'^  "([A-Za-z0-9_-]+)', block[1], re.MULTILINE)}
    assert names == {"mxnet", "numpy", *checkup.PACKAGES}
