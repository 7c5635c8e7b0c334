"""Launched trainings with real workers: the arithmetic, what is printed and kept, failures, restarts."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import mxnet as mx
import numpy as np
import pytest
from safetensors.numpy import load_file

from chaos import Chaos, marked
from conftest import ROOT, fails_as_bad_input, module_env
from gluon_lenet import train
from gluon_lenet.distributed.hosts import Host, place
from gluon_lenet.distributed.supervision import Gang, GangError, Plan, Watcher
from gluon_lenet.launch import main as launch_main
from gluon_lenet.training.run_dir import RunDir

pytestmark = pytest.mark.skipif(
    not mx.runtime.Features().is_enabled("DIST_KVSTORE"), reason="MXNet for ARM is built without ps-lite"
)
EPOCH = ["--epochs", "1", "--seed", "3", "--threads", "1"]


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """One epoch by two workers, with its output."""
    folder = tmp_path_factory.mktemp("launched")
    args = ["-m", "gluon_lenet.launch", "--workers", "2", "--", *EPOCH, "--run-dir", "two"]
    process = subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, cwd=folder, env=module_env(), timeout=170
    )
    assert process.returncode == 0, process.stderr
    return process, folder / "two"


def far_apart(run_dir, other):
    """The largest difference between two runs' weights."""
    arrays, others = (load_file(folder / "last.safetensors") for folder in (run_dir, other))
    assert arrays.keys() == others.keys()
    return max(np.abs(arrays[key] - others[key]).max() for key in arrays)


def test_what_is_printed_and_kept(launched):
    process, run_dir = launched
    out = process.stdout.splitlines()
    assert all(line.startswith("worker 0: ") for line in out)
    assert out[10] == "worker 0: training on cpu(0) with 1 CPU threads, gradients by the fused kernels"
    assert out[-1].endswith("examples/s in training; results are in two")
    assert sorted(os.listdir(run_dir)) == ["config.json", "curves.png", "last.safetensors", "metrics.jsonl"]
    assert json.loads((run_dir / "config.json").read_text())["gang"] == {
        "workers": 2,
        "kvstore": "dist_sync",
        "compression": None,
    }


def test_two_workers_give_what_one_process_gives(launched, tmp_path):
    """235 steps, the last of 96 images: the same images in the same batches, whatever the number of workers."""
    _, run_dir = launched
    command = [sys.executable, "-m", "gluon_lenet.train", *EPOCH, "--run-dir", "one", "--quiet"]
    subprocess.run(command, cwd=tmp_path, env=module_env(), check=True, capture_output=True, timeout=170)
    assert far_apart(run_dir, tmp_path / "one") < 1e-5
    lines = [json.loads((folder / "metrics.jsonl").read_text()) for folder in (run_dir, tmp_path / "one")]
    assert lines[0]["train_loss"] == pytest.approx(lines[1]["train_loss"], rel=1e-5)
    assert lines[0]["train_acc"] == pytest.approx(lines[1]["train_acc"], abs=1e-4)
    assert lines[0]["test_acc"] == pytest.approx(lines[1]["test_acc"], abs=1e-4), "every test image counts once"


def test_one_process_does_not_resume_what_two_trained(launched, capsys):
    _, run_dir = launched
    assert train.main(["--resume", str(run_dir)]) == 2
    assert "the run was trained by 2 workers by dist_sync, and only the same can resume it" in capsys.readouterr().err
    assert RunDir(run_dir).read_config().gang.workers == 2


def test_without_the_environment_it_says_what_is_lacking(capsys):
    fails_as_bad_input(train.main, ["--kvstore", "dist_sync"], capsys, "the environment lacks DMLC_ROLE, ")


def test_an_environment_that_is_wrong_is_named(monkeypatch, capsys):
    """Before MXNet waits for the others, or is the server of nobody."""
    for name, value in dict(ROOT_URI="127.0.0.1", ROOT_PORT="9", NUM_WORKER="1", NUM_SERVER="x").items():
        monkeypatch.setenv(f"DMLC_PS_{name}" if "ROOT" in name else f"DMLC_{name}", value)
    for role, message in (("boss", "DMLC_ROLE is 'boss'"), ("scheduler", "DMLC_NUM_SERVER is 'x'")):
        monkeypatch.setenv("DMLC_ROLE", role)
        fails_as_bad_input(train.main, ["--kvstore", "dist_sync"], capsys, message)


def test_more_workers_than_images_are_not_started(capsys):
    fails_as_bad_input(launch_main, ["--workers", "300", "--"], capsys, "batch size 256 is too small for 300 workers")


def launch(folder, *args, train=(), status=0, **env):
    """A finished launch, which ended with that status."""
    command = [sys.executable, "-m", "gluon_lenet.launch", *args, "--", *train]
    process = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=module_env(**env), timeout=300)
    assert process.returncode == status, process.stdout + process.stderr
    return process


@pytest.mark.distributed
@pytest.mark.parametrize(
    "args",
    [
        ["--backprop", "autograd"],
        ["--recipe", "relu_adam_mnist", "--batch-size", "256"],
        ["--recipe", "sgd_step_mnist", "--batch-size", "128", "--augment"],
        ["--recipe", "better_fashion", "--batch-size", "512"],
        ["--ctx", "cpu(0),cpu(1)"],
    ],
    ids=" ".join,
)
def test_it_is_the_same_training_whatever_the_recipe_and_the_engine(args, tmp_path):
    """Within what 235 steps and more make of another order of sums; momentum and Adam carry it on."""
    launch(tmp_path, "--workers", "2", train=[*args, *EPOCH, "--run-dir", "two", "--quiet"])
    command = [sys.executable, "-m", "gluon_lenet.train", *args, *EPOCH, "--run-dir", "one", "--quiet"]
    subprocess.run(command, cwd=tmp_path, env=module_env(), check=True, capture_output=True, timeout=300)
    accuracies = [json.loads((tmp_path / run / "metrics.jsonl").read_text())["test_acc"] for run in ("one", "two")]
    difference = far_apart(tmp_path / "one", tmp_path / "two")
    print(args, difference, accuracies)
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.003)
    if "--recipe" not in args:  # plain SGD, 235 steps
        assert difference < 1e-5


@pytest.mark.distributed
@pytest.mark.parametrize("num_workers", [1, 3, 4])
def test_other_numbers_of_workers(num_workers, launched, tmp_path):
    """235 batches, the last of 96 images: none is lost, none is counted twice."""
    launch(tmp_path, "--workers", str(num_workers), train=[*EPOCH, "--run-dir", "run", "--quiet"])
    assert far_apart(tmp_path / "run", launched[1]) < 1e-5


@pytest.mark.distributed
def test_a_last_batch_with_fewer_images_than_workers(tmp_path):
    """60000 = 2 * 29999 + 2, for three workers."""
    args = [*EPOCH, "--batch-size", "29999", "--quiet", "--run-dir"]
    launch(tmp_path, "--workers", "3", train=[*args, "three"])
    command = [sys.executable, "-m", "gluon_lenet.train", *args, "one"]
    subprocess.run(command, cwd=tmp_path, env=module_env(), check=True, capture_output=True, timeout=170)
    assert far_apart(tmp_path / "three", tmp_path / "one") < 1e-4, "sums of 29,999 gradients"


@pytest.mark.distributed
def test_asynchronous_and_compressed(tmp_path):
    for kvstore in (["--kvstore", "dist_async"], ["--gradient-compression", "2bit"]):
        name = kvstore[1]
        launch(tmp_path, train=[*kvstore, "--epochs", "2", "--run-dir", name, "--quiet"])
        assert len((tmp_path / name / "metrics.jsonl").read_text().splitlines()) == 2
        done = launch(tmp_path, train=[*kvstore, "--resume", name], status=2)
        assert "cannot be resumed" in done.stderr


@pytest.mark.distributed
def test_a_worker_without_a_launcher_does_not_wait_for_ever():
    code = (
        "import types, time\n"
        "from gluon_lenet.distributed import worker\n"
        "worker._PATIENCE['waiting'] = 0.1\n"
        "worker.Reporter(types.SimpleNamespace(state='waiting', since=time.monotonic(), rank=1))\n"
        "time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=module_env(), capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert done.stderr == "error: worker 1: waiting, no answer for 0 s; a process is dead\n"


@pytest.mark.distributed
def test_two_devices_in_one_process_equal_one(tmp_path):
    for ctx in ("cpu", "cpu(0),cpu(1)"):
        args = ["--ctx", ctx, "--backprop", "autograd", *EPOCH, "--run-dir", ctx, "--quiet"]
        command = [sys.executable, "-m", "gluon_lenet.train", *args]
        subprocess.run(command, cwd=tmp_path, env=module_env(), check=True, capture_output=True, timeout=170)
    assert far_apart(tmp_path / "cpu", tmp_path / "cpu(0),cpu(1)") < 1e-5


@pytest.mark.distributed
def test_an_error_in_the_workers_is_the_launchers(tmp_path):
    done = launch(tmp_path, train=[*EPOCH, "--batch-size", "1"], status=2)
    assert "batch size 1 is too small for 2 workers" in done.stderr.splitlines()[-1]
    done = launch(tmp_path, train=["--recipe", "relu_adam_mnist", *EPOCH, "--lr", "1e30"], status=1)
    assert "try a smaller lr" in done.stderr.splitlines()[-1]


@pytest.mark.distributed
def test_a_run_directory_that_goes_ends_all_and_is_named(tmp_path):
    """Only the first worker notices."""
    command = [sys.executable, "-m", "gluon_lenet.launch", "--", "--epochs", "50", "--run-dir", "run"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=tmp_path, env=module_env(), text=True, **pipes)
    while "epoch 1" not in process.stdout.readline():
        pass
    shutil.rmtree(tmp_path / "run")
    begun = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert time.monotonic() - begun < 20, "an epoch, and 10 seconds"
    assert "worker 0 failed: exit status 1: run directory run was deleted, moved or replaced" in errors.splitlines()[-1]


@pytest.mark.distributed
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGKILL])
def test_the_launcher_is_interrupted(number, tmp_path):
    """Ctrl-C, a lost terminal, a batch system's end: within ten seconds nothing is left."""
    mark = f"launch{os.getpid()}x{time.monotonic_ns()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "gluon_lenet.launch", "--", "--epochs", "50", "--run-dir", "run"],
        cwd=tmp_path,
        env=module_env(GLUON_LENET_CHAOS=mark, TMPDIR=str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while "epoch 1" not in process.stdout.readline():
        pass
    begun = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    while marked(mark):
        assert time.monotonic() - begun < 10
        time.sleep(0.05)
    assert os.listdir(tmp_path) == ["run"], "temporary files"
    launch(tmp_path, train=["--resume", "run", "--epochs", "4", "--quiet"])


@pytest.mark.distributed
def test_a_terminal_that_waits_and_a_launcher_that_is_stopped(tmp_path):
    """Ctrl-S, or `| less`, holds up the output for a while, not the training; Ctrl-Z ends it, and is named."""
    command = [
        sys.executable,
        "-m",
        "gluon_lenet.launch",
        "--",
        "--log-every",
        "1",
        "--epochs",
        "8",
        "--run-dir",
        "run",
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=tmp_path, env=module_env(), text=True, **pipes)
    process.stdout.readline()
    time.sleep(20)
    assert process.poll() is None
    process.communicate(timeout=100)
    assert process.returncode == 0
    process = subprocess.Popen([*command[:-1], "other"], cwd=tmp_path, env=module_env(), text=True, **pipes)
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    time.sleep(8)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "error: the launcher itself was stopped for " in errors


@pytest.mark.distributed
def test_random_processes_are_killed_or_stopped(tmp_path):
    chaos = Chaos(tmp_path, seed=int(time.time()))
    for number in range(6):
        print(chaos.disturb(number))
    assert chaos.slowest < 10


@pytest.mark.distributed
def test_a_stuck_worker_and_other_weights_are_noticed(tmp_path, monkeypatch):
    """A worker that computes for ever; one whose weights change behind the others' backs."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for fault, message in (
        ("time.sleep(60)", "worker 1 is stuck: computing for 2 s, epoch 1, batch"),
        ("trainer._params[0].data()[:] += 1", "the weights of worker 1 differ from those of worker 0"),
    ):
        (tmp_path / "faulty.py").write_text(
            "import os, runpy, sys, time\n"
            "sys.argv[0] = 'train'\n"
            "if os.environ['DMLC_ROLE'] == 'worker' and os.environ['GLUON_LENET_RANK'] == '1':\n"
            "    from gluon_lenet.distributed import engine\n"
            "    step, calls = engine.Sharing.step, []\n"
            "    def faulty(self, batch, trainer, size=None):\n"
            "        self.gang.enter('computing'); calls.append(1)\n"
            f"        if len(calls) == 20: {fault}\n"
            "        return step(self, batch, trainer, size)\n"
            "    engine.Sharing.step = faulty\n"
            "runpy.run_module('gluon_lenet.train', run_name='__main__')\n"
        )
        command = [str(tmp_path / "faulty.py"), *EPOCH, "--kvstore", "dist_sync"]
        command += ["--run-dir", str(tmp_path / fault[:4])]
        with pytest.raises(GangError, match=message):
            Gang(Plan(place([Host()], 2, 1), command, threads=1, stall=2.0), Watcher()).run()
