"""What several test files share: the real data, a small part of it, and a way to run the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gluon_lenet
from gluon_lenet.data.datasets import load_dataset

ROOT = Path(__file__).resolve().parents[1]


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


def module_env(**extra: str) -> dict[str, str]:
    """The environment with the checkout's package on the path."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **extra}


def one_error_line(process: subprocess.CompletedProcess, *parts: str) -> None:
    """Assert that the process ended as bad input must: status 2, one line on stderr that holds `parts`."""
    assert process.returncode == 2, process.stderr
    lines = process.stderr.splitlines()
    assert len(lines) == 1, process.stderr
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


def fails_as_bad_input(main, args, capsys, *parts: str) -> None:
    """The same for a command line called from Python: also nothing on stdout."""
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
