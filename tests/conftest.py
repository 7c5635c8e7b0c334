"""Shared fixtures and helpers: the real data, a small part of it, and calls of the command lines."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import wrapt
from filelock import FileLock
from safetensors.numpy import load_file

import gluon_lenet
from gluon_lenet.data import cache, catalogue
from gluon_lenet.data.datasets import load_dataset
from gluon_lenet.errors import DataError
from gluon_lenet.training.run_dir import RunDir

ROOT = Path(__file__).resolve().parents[1]

if "PYTEST_XDIST_WORKER" in os.environ:  # several share the cores
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # OpenMP's threads sleep while they wait, not spin

    @wrapt.when_imported("gluon_lenet.engines.fused.compiled")
    def one_compiles(module):
        """On a new machine one worker compiles the kernels, the others wait for it and read them from the disk."""
        address, lock = module.address, Path(tempfile.gettempdir()) / f"gluon_lenet-kernels-{os.getuid()}.lock"

        @functools.cache
        def locked():
            with FileLock(lock):
                return address()

        module.address = locked


TOOLS = {  # programs, and the tests that call them
    "bash": "test_environment.py, test_evaluate.py",
    "git": "test_public.py",
    "make": "test_machine.py, test_devices.py",
    "tar": "test_sources.py",
}


def pytest_sessionstart(session):
    """Stop with one line if tools, terminals or data are missing, without which many tests would fail."""
    if hasattr(session.config, "workerinput"):
        return  # a worker of pytest-xdist; the main session has checked
    whole = session.config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if lacking := whole and [f"{tool} (for {files})" for tool, files in TOOLS.items() if shutil.which(tool) is None]:
        raise pytest.UsageError(f"the tests need {', '.join(lacking)}; install what is not there")
    try:
        for end in os.openpty():
            os.close(end)
    except OSError as error:
        raise pytest.UsageError(
            f"the tests need pseudo-terminals (for test_sources.py), and there are none ({error.strerror}); mount "
            "/dev/pts, as containers and chroots must: mount -t devpts devpts /dev/pts"
        ) from None
    for dataset in catalogue.DATASETS.values():
        try:
            cache.fetch(dataset)
        except DataError as error:
            tried = [line.strip() for line in str(error).splitlines() if line.startswith("  ")]
            raise pytest.UsageError(
                f"the tests need {dataset.name}, and no source has it (the last error: {tried[-1]}); install what is "
                f"missing there, or copy the four files, unpacked, into {cache.cache_dir() / dataset.name}"
            ) from None


@pytest.fixture(scope="session")
def fashion():
    """The real Fashion-MNIST, from the cache or fetched."""
    return load_dataset("fashion_mnist")


@pytest.fixture
def small_batches(fashion):
    """Two batch iterators over the first 2,048 training and 512 test images."""
    return (
        gluon_lenet.Batches(fashion.train_images[:2048], fashion.train_labels[:2048], 256, shuffle=True, seed=0),
        gluon_lenet.Batches(fashion.test_images[:512], fashion.test_labels[:512], 256),
    )


@pytest.fixture
def small(monkeypatch):
    """The recipes of small_train.py, by name."""
    import small_train  # imported here, because it loads MXNet

    small_train.shrink(monkeypatch.setitem, monkeypatch.setattr)


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all tests."""
    from browser import Browser  # only the tests of the page need Jupyter's websocket client

    with Browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> str:
    """The address of the page, as the command writes it without arguments, in a folder with an awkward name."""
    from gluon_lenet import demo  # imported here, because it loads MXNet

    path = tmp_path_factory.mktemp("网 页 #1") / "lenet 50%.html"
    assert demo.main(["--output", str(path)]) == 0
    return path.as_uri()


@pytest.fixture
def lenet(browser, written):
    """The page, loaded anew."""
    from lenet_page import Page

    browser.window(1280, 900)
    browser.prefer()
    page = Page(browser, written)
    page.open()
    yield page
    assert not browser.complaints()


@pytest.fixture
def run_module(tmp_path):
    """Call `python -m gluon_lenet.NAME ARGS` in an empty folder; returns the finished process."""

    def run(name: str, *args, **kwargs) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", f"gluon_lenet.{name}", *map(str, args)],
            capture_output=True,
            text=True,
            timeout=170,
            **{"cwd": tmp_path, "env": module_env(), **kwargs},
        )

    return run


def new_directory(path: Path) -> RunDir:
    """An empty run directory."""
    path.mkdir()
    return RunDir(path)


def module_env(**extra: str) -> dict[str, str]:
    """The environment with the checkout's package on the path."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **extra}


def one_error_line(process: subprocess.CompletedProcess, *parts: str) -> None:
    """Assert that the process rejected bad input: status 2, one line on stderr that contains `parts`."""
    assert process.returncode == 2, process.stderr
    lines = process.stderr.splitlines()
    assert len(lines) == 1, process.stderr
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


def fails_as_bad_input(main, args, capsys, *parts: str) -> None:
    """Assert the same of a command line called from Python, and that stdout is empty."""
    try:
        status = main(list(map(str, args)))
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


def same_run(run_dir, other):
    """Assert that two runs have the same weights and optimizer states, bit for bit, and the same metrics."""
    files, other_files = ({file.name: file for file in folder.glob("*.safetensors")} for folder in (run_dir, other))
    assert files.keys() == other_files.keys() >= {"last.safetensors"}
    for name, file in files.items():
        arrays, others = load_file(file), load_file(other_files[name])
        assert arrays.keys() == others.keys()
        for key in arrays:
            assert arrays[key].tobytes() == others[key].tobytes(), (name, key)
    lines, other_lines = ((folder / "metrics.jsonl").read_text().splitlines() for folder in (run_dir, other))
    for line, other_line in zip(lines, other_lines, strict=True):
        measured = [{k: v for k, v in json.loads(text).items() if "seconds" not in k} for text in (line, other_line)]
        assert measured[0] == measured[1]
