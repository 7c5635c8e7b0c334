"""Every supported Python: import, read the real data, train one epoch of the chapter by the command line."""

import json
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT, module_env


def test_one_epoch_of_the_chapter(run_module, tmp_path):
    process = run_module("train", "--epochs", 1, "--seed", 0, "--run-dir", tmp_path / "run")
    assert process.returncode == 0, process.stderr
    (result,) = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    # after one epoch at lr 0.9 the sigmoid net is still near chance: the loss of guessing is ln 10 = 2.303
    assert 2.0 < result["train_loss"] < 2.4
    assert 0.09 <= result["train_acc"] <= 0.4
    assert 0.09 <= result["test_acc"] <= 0.6


def test_what_the_tests_need_and_a_machine_lacks_is_one_line(tmp_path):
    """Simulated by a PATH that has only one program."""
    (tmp_path / "bash").symlink_to(shutil.which("bash"))
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only"]
    process = subprocess.run(command, cwd=ROOT, env=module_env(PATH=str(tmp_path)), capture_output=True, text=True)
    assert process.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = process.stderr.strip().splitlines()  # pytest adds an empty one
    assert line.startswith(
        "ERROR: the tests need git (for test_public.py), make (for test_machine.py, test_devices.py), "
    )
