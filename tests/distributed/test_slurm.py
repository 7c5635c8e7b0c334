"""What Slurm starts, by a real one on this machine: a sweep's jobs, and docs/distributed/train.sbatch."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from conftest import ROOT, one_error_line
from gluon_lenet.sweeps.run import sweep
from slurm import Slurm, why_not

pytestmark = [pytest.mark.distributed, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

SMALL = ["--set", "num_train=2000", "--set", "num_epochs=1", "--set", "batch_size=50"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with Slurm(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


def start(slurm, folder, *args):
    command = [sys.executable, "-m", "gluon_lenet.sweep", *SMALL, "--folder", str(folder), "--on", "slurm", *args]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        command,
        cwd=folder.parent,
        env=slurm.env,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored if the tests run in the background
        **pipes,
    )


def wait_for(condition, process, seconds=100):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def wait_until_none(slurm, folder):
    """No job and no worker is left, at the latest after Slurm's KillWait: Dask's workers may hang at SIGTERM."""
    deadline = time.monotonic() + 20
    while slurm.jobs() or str(folder) in subprocess.check_output(["ps", "-eo", "args"], text=True):
        assert time.monotonic() < deadline, "a job or a worker is left"
        time.sleep(0.5)


def test_a_sweep_whose_jobs_are_cancelled(slurm, tmp_path):
    """Slurm gets others in their place, and the results are those of a sweep on this machine."""
    folder = tmp_path / "a folder's 名字"
    process = start(slurm, folder, "--seeds", "4", "--jobs", "2")
    results = folder / "results.jsonl"
    wait_for(lambda: results.exists() and results.read_text().count("\n"), process)
    slurm.run("scancel", *slurm.jobs())
    out, err = process.communicate(timeout=170)
    assert (process.returncode, err) == (0, ""), out + err
    space = {"set": {"num_train": [2000], "num_epochs": [1], "batch_size": [50]}, "seeds": 4}
    far, here = sweep(space, folder), sweep(space, tmp_path / "here")
    assert [result.history[-1].train_loss for result in far] == [result.history[-1].train_loss for result in here]
    assert not list((folder / "slurm").glob(".*"))  # the keys
    wait_until_none(slurm, tmp_path)


def test_a_job_that_is_cancelled_while_it_waits(slurm, tmp_path):
    """Dask has not seen its worker; another is submitted all the same."""
    blocker = slurm.run("sbatch", "--parsable", "-c8", "--output=/dev/null", "--wrap", "sleep 100")
    process = start(slurm, tmp_path / "far", "--seeds", "2", "--jobs", "1")
    wait_for(lambda: len(slurm.jobs()) == 2, process)
    slurm.run("scancel", *set(slurm.jobs()) - {blocker})
    wait_for(lambda: len(slurm.jobs()) == 2, process)
    slurm.run("scancel", blocker)
    out, err = process.communicate(timeout=170)
    assert (process.returncode, err) == (0, ""), out + err
    wait_until_none(slurm, tmp_path)


@pytest.mark.parametrize(
    ("env", "fake", "message"),
    [
        (
            {"DASK_JOBQUEUE__SLURM__PYTHON": "/nowhere/python"},
            "",
            "ended before its worker came: .*/nowhere/python: No",
        ),
        ({}, "echo 'sbatch: error: no more today' >&2; exit 1", "sbatch refuses a job: no more today"),
    ],
    ids=["no python there", "refused later"],
)
def test_jobs_that_do_nothing_end_the_sweep(env, fake, message, slurm, tmp_path):
    sbatch = shutil.which("sbatch", path=slurm.env["PATH"])
    (tmp_path / "sbatch").write_text(
        f'#!/bin/sh\ncase "$*" in --test-only) ;; *) {fake or ":"};; esac\n{sbatch} "$@"\n'
    )
    (tmp_path / "sbatch").chmod(0o755)
    env = {**slurm.env, **env, "PATH": f"{tmp_path}:{slurm.env['PATH']}"}
    command = [sys.executable, "-m", "gluon_lenet.sweep", *SMALL, "--folder", str(tmp_path / "f"), "--on", "slurm"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=170)
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(f"error: --on slurm: .*{message}.*, 3 times in a row; output of jobs is in .*\n", done.stderr)
    assert slurm.jobs() == []


def test_an_interrupted_sweep_leaves_no_jobs(slurm, tmp_path):
    process = start(slurm, tmp_path / "far", "--seeds", "50", "--jobs", "3")
    wait_for(slurm.jobs, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "repeat the command to go on" in err
    wait_until_none(slurm, tmp_path)


def test_a_partition_that_is_not_there(slurm, tmp_path):
    command = [sys.executable, "-m", "gluon_lenet.sweep", *SMALL, "--folder", str(tmp_path / "f"), "--on", "slurm"]
    env = {**slurm.env, "SBATCH_PARTITION": "nowhere"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    one_error_line(done, "--on slurm: sbatch refuses the job", "partition")


def test_the_script_trains_and_a_requeued_job_goes_on(slurm, tmp_path):
    script = ROOT / "docs" / "distributed" / "train.sbatch"
    options = ["--parsable", "--nodes=1", "--export=ALL", "--output=log"]
    command = ["sbatch", *options, script, "--epochs", "4", "--quiet"]
    submitted = subprocess.run(command, cwd=tmp_path, env=slurm.env, capture_output=True, text=True, check=True)
    job = submitted.stdout.strip()
    metrics = tmp_path / "runs" / f"slurm-{job}" / "metrics.jsonl"

    def wait(condition, seconds=170):
        deadline = time.monotonic() + seconds
        while not condition():
            assert job in slurm.jobs(), (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    wait(lambda: metrics.exists() and metrics.read_text().count("\n") >= 1)
    slurm.run("scontrol", "requeue", job)
    while job in slurm.jobs():
        slurm.run("scontrol", "update", f"jobid={job}", "starttime=now", check=False)  # it would wait for two minutes
        time.sleep(0.5)
    state = slurm.run("scontrol", "show", "job", job)
    log = (tmp_path / "log").read_text()
    assert {"JobState=COMPLETED", "Restarts=1"} <= set(state.split()), state + log
    epochs = [json.loads(line)["epoch"] for line in metrics.read_text().splitlines()]
    assert epochs == [1, 2, 3, 4]
