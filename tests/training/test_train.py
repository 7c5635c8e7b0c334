"""train.py and run.py: the command line in subprocesses, on the real data."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import mxnet as mx
import numpy as np
import pexpect
import pytest
from PIL import Image
from safetensors.numpy import load_file

import gluon_lenet
from conftest import fails_as_bad_input, module_env, one_error_line, same_run
from gluon_lenet import train
from gluon_lenet.compat import threads
from gluon_lenet.devices import why_no_gpu
from gluon_lenet.training import checkpoint
from gluon_lenet.training.recipes import RECIPES

FILES = ["config.json", "curves.png", "last.safetensors", "metrics.jsonl"]
THREADS = threads.num_threads()  # of this process, which resumes what others began


# Printed once per machine, by whichever process is first
COMPILING = "compiling the fused kernels, once on this machine (10 to 40 s) ..."


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run of the default recipe, two epochs, with its output."""
    folder = tmp_path_factory.mktemp("finished")
    process = subprocess.run(
        [sys.executable, "-m", "gluon_lenet.train", "--epochs", "2", "--seed", "7", "--threads", str(THREADS)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=module_env(),
        timeout=170,
    )
    assert process.returncode == 0, process.stderr
    (run_dir,) = (folder / "runs").iterdir()
    return process, run_dir


def test_what_is_printed(finished):
    process, run_dir = finished
    out = process.stdout.splitlines()
    assert re.split(r"\s{2,}", out[0]) == ["layer", "output shape", "parameters"]
    assert re.split(r"\s{2,}", out[2]) == ["Conv2D 5x5, sigmoid", "(1, 6, 24, 24)", "156"]
    assert re.split(r"\s{2,}", out[9]) == ["total", "44,426"]
    assert out[10] == f"training on cpu(0) with {THREADS} CPU threads, gradients by the fused kernels"
    line = r"epoch {}, loss \d\.\d{{4}}, train acc 0\.\d{{3}}, test acc 0\.\d{{3}}, time \d+\.\d sec"
    assert re.fullmatch(line.format(1), out[11])
    assert re.fullmatch(line.format(2), out[12])
    assert re.fullmatch(rf"[\d,]+ examples/s in training; results are in runs/{run_dir.name}", out[13])
    assert len(out) == 14
    assert set(process.stderr.splitlines()) <= {COMPILING}, "a progress bar is for terminals only"


def test_what_is_kept(finished, fashion):
    _, run_dir = finished
    assert sorted(os.listdir(run_dir)) == FILES
    assert re.fullmatch(r"d2l_v1_fashion-\d{8}-\d{6}", run_dir.name)

    config = json.loads((run_dir / "config.json").read_text())
    assert config["recipe"] == "d2l_v1_fashion"
    assert config["settings"]["num_epochs"] == 2
    assert config["settings"]["lr"] == 0.9
    assert (config["seed"], config["threads"], config["ctx"]) == (7, THREADS, ["cpu(0)"])
    assert config["data_sha256"] == fashion.sha256
    assert config["versions"]["mxnet"] == mx.__version__
    assert config["versions"]["numpy"] == np.__version__
    options = ["--epochs", "2", "--seed", "7", "--threads", str(THREADS)]
    assert config["command"][1:] == ["-m", "gluon_lenet.train", *options]

    results = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    keys = ["epoch", "train_loss", "train_acc", "test_acc", "train_seconds", "eval_seconds"]
    assert [list(result) for result in results] == [keys] * 2
    assert [result["epoch"] for result in results] == [1, 2]

    with Image.open(run_dir / "curves.png") as image:
        image.load()
        assert image.width > 600


def test_the_kept_weights_score_what_was_printed(finished):
    _, run_dir = finished
    net = gluon_lenet.get_net("lenet5_sigmoid_maxpool")
    net.initialize()
    checkpoint.load(run_dir / "last.safetensors", net)
    _, test_iter = gluon_lenet.load_data_fashion_mnist(256)
    last = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    assert gluon_lenet.evaluate_accuracy(test_iter, net) == pytest.approx(last["test_acc"], abs=2e-4)


def test_same_seed_and_threads_give_the_same_bits(finished, tmp_path, monkeypatch, capsys):
    """Also without the table, in another folder and in another process: this one."""
    _, run_dir = finished
    monkeypatch.chdir(tmp_path)
    args = ["--num-epochs", "2", "--seed", "7", "--threads", str(THREADS), "--ctx", "cpu", "--quiet"]
    assert train.main([*args, "--run-dir", "again"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "again\n"
    assert set(captured.err.splitlines()) <= {COMPILING}
    same_run(tmp_path / "again", run_dir)


BAD = [
    (["--recipe", "lent"], "unknown recipe 'lent'; choose from d2l_v1_fashion"),
    (["--ctx", "tpu"], "unknown context 'tpu'; choose from auto, cpu, gpu"),
    (["--ctx", "cpu,cpu"], "names a device twice"),
    (["--ctx", "cpu", "--num-gpus", "1"], "--ctx and --num-gpus"),
    (["--epochs", "0"], "--epochs/--num-epochs: '0' is not a whole number from 1 to 1000000 "),
    (["--epochs", "-3"], "'-3' is not a whole number from 1 to 1000000 "),
    (["--epochs", "many"], "'many' is not a whole number from 1 to 1000000 "),
    (["--batch-size", "0"], "--batch-size: '0' is not a whole number from 1 to 2147483647 "),
    (["--batch-size", "60001"], "batch size 60001 must be between 1 and the number of images, 60000"),
    (["--batch-size", "59999", "--ctx", "cpu(0),cpu(1)"], "batch of 1 of the 60000 images for 2 devices"),
    (["--lr", "0"], "--lr: '0' is not a number above 0"),
    (["--lr", "-0.1"], "'-0.1' is not a number above 0"),
    (["--lr", "nan"], "'nan' is not a number above 0"),
    (["--lr", "inf"], "'inf' is not a number above 0"),
    (["--seed", "-1"], "'-1' is not a whole number from 0 to 2147483647"),
    (["--threads", "0"], "--threads: '0' is not a whole number from 1 to 256 "),
    (["--data-dir", "nowhere"], "nowhere"),
    (["--data-dir", "empty"], "empty"),
    (["--data-dir", "file"], "file"),
    (["--run-dir", "file"], "run directory file: it, or a folder above it, is a file"),
    (["--run-dir", "file/below"], "run directory file/below: it, or a folder above it, is a file"),
    (["--run-dir", "taken"], "run directory taken already holds a run (config.json)"),
    (["--run-dir", "/proc/nowhere"], "run directory /proc/nowhere cannot be written to"),
    (["--epoch"], "expected one argument"),
    (["--backprop", "magic"], "unknown backprop 'magic'; choose from auto, autograd, fused"),
    (["--backprop", "fused", "--ctx", "cpu(1)"], "the fused kernels cannot serve: they run on cpu(0), not on cpu(1)"),
    (["--resume", "nowhere"], "nowhere holds no run: config.json"),
    (["--resume", "taken"], "taken/config.json: object missing required field recipe"),
    (
        ["--resume", "taken", "--lr", "1", "--seed", "2"],
        "--resume uses the run's own settings; drop --lr, --seed",
    ),
    (["--log-every", "0"], "--log-every: '0' is not a whole number from 1 to 2147483647 "),
    (["--log-every", "50", "--quiet"], "--quiet prints no lines that --log-every asks for"),
    (["--wheels", "4"], "unrecognized arguments: --wheels 4"),
]


@pytest.mark.parametrize(("args", "says"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_bad_input_is_one_line_and_writes_nothing(args, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "config.json").write_text("{}")
    before = sorted(map(str, tmp_path.rglob("*")))
    fails_as_bad_input(train.main, args, capsys, says)
    assert sorted(map(str, tmp_path.rglob("*"))) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_bad_input_in_a_process_of_its_own(run_module, tmp_path):
    one_error_line(run_module("train", "--recipe", "lent"), "'lent'", "d2l_v1_fashion")
    one_error_line(run_module("train", "--lr", "nan"), "'nan'")
    assert os.listdir(tmp_path) == []


def test_a_gpu_that_is_not_there_is_an_error_that_says_which(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if gluon_lenet.try_gpu().device_type == "gpu":
        fails_as_bad_input(train.main, ["--ctx", "gpu(99)"], capsys, "gpu(99) cannot be used: this machine has")
    else:
        why = next(why for why in ("CPU wheel", "no NVIDIA driver", "newer than the wheel") if why in why_no_gpu())
        for args in (["--ctx", "gpu"], ["--num-gpus", "1"]):
            fails_as_bad_input(train.main, args, capsys, "gpu(0) cannot be used: ", why)
    assert os.listdir(tmp_path) == []


def test_num_gpus_is_another_way_to_say_ctx():
    assert train.parse(["--num-gpus", "2"]).ctx == "gpu(0),gpu(1)"
    assert train.parse(["--num-gpus", "0"]).ctx == "cpu"


def test_divergence_stops_with_epoch_and_batch_and_keeps_the_last_good_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train.main(["--lr", "1e38", "--run-dir", "run"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"error: epoch 1, batch \d+: (the loss|a weight) is ", line)
    assert "run" in line
    assert sorted(os.listdir(tmp_path / "run")) == ["config.json", "last.safetensors"]
    for array in load_file(tmp_path / "run" / "last.safetensors").values():
        assert np.isfinite(array).all()


def start(folder, *args):
    """A training process in `folder`."""
    return subprocess.Popen(
        [sys.executable, "-m", "gluon_lenet.train", *map(str, args)],
        cwd=folder,
        env=module_env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_between_two_batches_and_resuming_gives_the_same_bits(
    number, status, finished, tmp_path, monkeypatch
):
    _, whole = finished
    process = start(tmp_path, "--epochs", 2, "--seed", 7, "--threads", THREADS, "--run-dir", "run")
    for line in process.stdout:
        if line.startswith("epoch 1,"):
            break
    time.sleep(0.1)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == status, stderr
    assert stderr.splitlines()[-1] == "interrupted; continue with --resume run"
    assert sorted(os.listdir(tmp_path / "run")) == FILES
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
    progress = checkpoint.read_header(tmp_path / "run" / "last.safetensors").progress
    assert progress.epoch == 2
    assert 0 < progress.batch < 235, "the signal must come in the middle of the epoch"

    monkeypatch.chdir(tmp_path)
    assert train.main(["--resume", "run"]) == 0
    same_run(tmp_path / "run", whole)


def test_a_finished_run_can_go_on(small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train.main(["--epochs", "2", "--quiet", "--run-dir", "whole"]) == 0
    assert train.main(["--epochs", "1", "--quiet", "--run-dir", "run"]) == 0
    capsys.readouterr()
    assert train.main(["--resume", "run", "--epochs", "2", "--quiet"]) == 0
    assert capsys.readouterr().out == "run\n"
    same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_kill_at_random_moments_and_resume_gives_the_same_bits(finished, tmp_path):
    """SIGKILL at three moments spread over the run, resumed each time; test_kill.py has more, of slower runs."""
    _, whole = finished
    process = start(tmp_path, "--epochs", 2, "--seed", 7, "--threads", THREADS, "--run-dir", "run", "--quiet")
    while not (tmp_path / "run" / "last.safetensors").exists():
        time.sleep(0.01)
    generator = np.random.default_rng(0)
    for _ in range(3):
        time.sleep(generator.uniform(0, 1.5))
        process.kill()
        process.communicate()
        process = start(tmp_path, "--resume", "run", "--quiet")
    _, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr
    same_run(tmp_path / "run", whole)


def test_only_one_process_trains_in_a_directory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    process = start(tmp_path, "--epochs", 50, "--run-dir", "run", "--quiet")
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        time.sleep(0.01)
    try:
        assert train.main(["--resume", "run"]) == 2
        line = "error: run directory run: another process is training there; wait for its end\n"
        assert capsys.readouterr() == ("", line)
    finally:
        process.kill()
        process.communicate()
    assert train.main(["--resume", "run", "--epochs", "1", "--quiet"]) == 0, "the lock went with the process"
    assert capsys.readouterr() == ("run\n", "")


@pytest.mark.parametrize("engine", ["autograd", "fused"])
def test_a_line_every_so_many_batches_has_the_means_since_the_last(engine, small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    args = ["--recipe", "small_momentum", "--backprop", engine, "--batch-size", "140", "--run-dir", "run"]
    assert train.main([*args, "--epochs", "2", "--log-every", "6"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if re.match("epoch", line)]
    results = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for epoch, result in enumerate(results, 1):
        own = [line for line in lines if line.startswith(f"epoch {epoch}, ")]
        line = rf"epoch {epoch}, batch (\d+)/36, loss (\d\.\d{{4}}), train acc (\d\.\d{{3}})"
        logged = np.array([[float(number) for number in re.fullmatch(line, text).groups()] for text in own[:-1]])
        assert logged[:, 0].tolist() == [6, 12, 18, 24, 30, 36]
        sizes = np.array([6 * 140] * 5 + [5 * 140 + 100]) / 5000  # the last batch is smaller
        assert sizes @ logged[:, 1] == pytest.approx(result["train_loss"], abs=1e-4)
        assert sizes @ logged[:, 2] == pytest.approx(result["train_acc"], abs=1e-3)
        assert own[-1].startswith(f"epoch {epoch}, loss {result['train_loss']:.4f}, train acc")
    assert len(lines) == 14


@pytest.mark.filterwarnings("ignore:.*use of forkpty:DeprecationWarning")  # pexpect's; the child only starts Python
def test_a_terminal_sees_a_bar_that_goes_away(tmp_path):
    child = pexpect.spawn(
        sys.executable,
        ["-m", "gluon_lenet.train", "--epochs", "1000", "--run-dir", "run"],
        cwd=str(tmp_path),
        env=module_env(TERM="xterm"),
        dimensions=(24, 100),
        encoding="utf-8",
        timeout=60,
    )
    child.expect(r"epoch 1/1000: +\d+%.*images/s")
    child.expect("epoch 1, loss")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    # the bar's line is cleared before the last message
    assert re.search(r"\r *\r.*interrupted; continue with --resume run\r\n$", child.before, re.DOTALL)


def test_main_can_be_called_from_python_and_another_seed_gives_another_run(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train.main(["--epochs", "1", "--quiet", "--run-dir", "here"]) == 0
    assert capsys.readouterr().out == "here\n"
    losses = [
        json.loads((run / "metrics.jsonl").read_text().splitlines()[0])["train_loss"]
        for run in (finished[1], tmp_path / "here")
    ]
    assert losses[0] != pytest.approx(losses[1], rel=1e-5)
    # MXNet is loaded by now: another number of threads is impossible, and is not silently ignored
    assert train.main(["--epochs", "1", "--threads", str(THREADS + 1)]) == 2
    assert "threads" in capsys.readouterr().err


def test_the_best_weights_are_those_of_the_best_validation_accuracy(small, tmp_path, monkeypatch, capsys):
    """A recipe that holds out images scores them each epoch, and saves the weights of the best epoch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(RECIPES, "small_tanh", replace(RECIPES["tanh_adam_mnist"], num_validation=1000))
    assert train.main(["--recipe", "small_tanh", "--epochs", "3", "--batch-size", "50", "--run-dir", "run"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"train acc 0\.\d{3}, val loss \d\.\d{4}, val acc 0\.\d{3}, test acc", out)
    results = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    best = max(results, key=lambda result: result["val_acc"])
    assert f"best val acc {best['val_acc']:.3f} after epoch {best['epoch']}, kept in best.safetensors" in out
    header = checkpoint.read_header(tmp_path / "run" / "best.safetensors")
    assert header.progress.epoch == best["epoch"] + 1
    assert 0.9 < best["val_acc"] < 1
