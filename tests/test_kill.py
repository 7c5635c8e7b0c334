"""Runs killed by SIGKILL at random moments and in the middle of a save, and resumed: the same bits. `make test-slow`"""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from conftest import ROOT, module_env, same_run

TRAIN = [sys.executable, ROOT / "tests" / "small_train.py"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["small_momentum", "small_dropout"])
def test_a_run_killed_at_ten_random_moments_ends_with_the_same_bits(recipe, tmp_path):
    """The fused kernels with momentum and a schedule, autograd with Adam and dropout; validation, so best and last."""
    args = ["--recipe", recipe, "--seed", "3", "--threads", "1"]
    subprocess.run([*TRAIN, *args, "--run-dir", "whole"], cwd=tmp_path, env=env(), check=True, capture_output=True)
    results = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    epoch_seconds = np.mean([result["train_seconds"] + result["eval_seconds"] for result in results])

    seed = int.from_bytes(os.urandom(4), "little")
    print(f"moments drawn with seed {seed}")  # shown if the test fails
    generator = np.random.default_rng(seed)
    kills = ["moment"] * 10 + ["save"] * 3
    generator.shuffle(kills)
    process = start(tmp_path, *args, "--run-dir", "run")
    for kill in kills:
        if kill == "save":
            wait_for_a_save(process, tmp_path / "run")
        else:
            time.sleep(generator.uniform(0, 1.5) * epoch_seconds)
        assert process.poll() is None, "the run was over before it was killed"
        process.kill()
        process.communicate()
        process = start(tmp_path, "--resume", "run")
    stdout, _ = process.communicate()
    assert process.returncode == 0, stdout
    same_run(tmp_path / "run", tmp_path / "whole")
    assert sorted(os.listdir(tmp_path / "run")) == sorted(os.listdir(tmp_path / "whole")), (
        "nothing half-written is left"
    )


def env():
    return module_env(OMP_NUM_THREADS="1")


def start(folder, *args):
    """A training process that is past its preparations: killed before, it would only begin again."""
    process = subprocess.Popen(
        [*TRAIN, *args], cwd=folder, env=env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    for line in process.stdout:
        if line.startswith("training on"):
            return process
    raise AssertionError(f"the training did not start: {process.wait()}")


def wait_for_a_save(process, run_dir):
    """Return while a file is being written, so far under another name."""
    while process.poll() is None and not any(name.endswith(".tmp") for name in os.listdir(run_dir)):
        pass
