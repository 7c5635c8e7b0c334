"""train.py and runs.py: the command line as a user meets it, in processes of its own, on the real data."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import mxnet as mx
import numpy as np
import pexpect
import pytest
from PIL import Image
from safetensors.numpy import load_file

import gluon_lenet
from conftest import module_env, one_error_line
from gluon_lenet import train
from gluon_lenet.checkpoint import load_weights
from gluon_lenet.recipes import RECIPES

FILES = ["config.json", "curves.png", "metrics.jsonl", "last.safetensors"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run of the default recipe, two epochs, with what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    process = subprocess.run(
        [sys.executable, "-m", "gluon_lenet.train", "--epochs", "2", "--seed", "7", "--threads", "2"],
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
    assert re.fullmatch(r"training on cpu\(0\) .*2 CPU threads.*", out[10])
    line = r"epoch {}, loss \d\.\d{{4}}, train acc 0\.\d{{3}}, test acc 0\.\d{{3}}, time \d+\.\d sec"
    assert re.fullmatch(line.format(1), out[11])
    assert re.fullmatch(line.format(2), out[12])
    assert re.fullmatch(rf"[\d,]+ examples/s in training; results are in runs/{run_dir.name}", out[13])
    assert len(out) == 14
    assert process.stderr == "", "a progress bar is for terminals only"


def test_what_is_kept(finished, fashion):
    _, run_dir = finished
    assert sorted(os.listdir(run_dir)) == FILES
    assert re.fullmatch(r"d2l_v1_fashion-\d{8}-\d{6}", run_dir.name)

    config = json.loads((run_dir / "config.json").read_text())
    assert config["recipe"] == "d2l_v1_fashion"
    assert config["settings"]["num_epochs"] == 2
    assert config["settings"]["lr"] == 0.9
    assert (config["seed"], config["threads"], config["ctx"]) == (7, 2, ["cpu(0)"])
    assert config["data_sha256"] == fashion.sha256
    assert config["versions"]["mxnet"] == mx.__version__
    assert config["versions"]["numpy"] == np.__version__
    assert config["command"][1:] == ["-m", "gluon_lenet.train", "--epochs", "2", "--seed", "7", "--threads", "2"]

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
    load_weights(run_dir / "last.safetensors", net)
    _, test_iter = gluon_lenet.load_data_fashion_mnist(256)
    last = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    assert gluon_lenet.evaluate_accuracy(test_iter, net) == pytest.approx(last["test_acc"], abs=2e-4)


def test_same_seed_and_threads_give_the_same_bits(finished, run_module, tmp_path):
    """Also without the table and in another folder; another seed gives other weights."""
    _, run_dir = finished
    again = run_module(
        "train", "--num-epochs", 2, "--seed", 7, "--threads", 2, "--ctx", "cpu", "--quiet", "--run-dir", "again"
    )
    assert (again.stdout, again.stderr) == ("again\n", "")
    assert (tmp_path / "again/last.safetensors").read_bytes() == (run_dir / "weights.safetensors").read_bytes()
    for line, other in zip(
        (tmp_path / "again/metrics.jsonl").read_text().splitlines(),
        (run_dir / "metrics.jsonl").read_text().splitlines(),
        strict=True,
    ):
        measured = [{k: v for k, v in json.loads(text).items() if "seconds" not in k} for text in (line, other)]
        assert measured[0] == measured[1]
    run_module("train", "--epochs", 1, "--seed", 8, "--threads", 2, "--quiet", "--run-dir", "other")
    assert (tmp_path / "other/last.safetensors").read_bytes() != (run_dir / "weights.safetensors").read_bytes()


BAD = [
    (["--recipe", "lent"], "unknown recipe 'lent'; choose from d2l_v1_fashion"),
    (["--ctx", "tpu"], "unknown context 'tpu'; choose from auto, cpu, gpu"),
    (["--ctx", "cpu,cpu"], "names a device twice"),
    (["--ctx", "cpu", "--num-gpus", "1"], "--ctx and --num-gpus"),
    (["--epochs", "0"], "--epochs/--num-epochs: '0' is not a whole number of at least 1"),
    (["--epochs", "-3"], "'-3' is not a whole number of at least 1"),
    (["--epochs", "many"], "'many' is not a whole number of at least 1"),
    (["--batch-size", "0"], "--batch-size: '0' is not a whole number of at least 1"),
    (["--batch-size", "60001"], "batch size 60001 must be between 1 and the number of images, 60000"),
    (["--batch-size", "59999", "--ctx", "cpu(0),cpu(1)"], "batch of 1 of the 60000 images for 2 devices"),
    (["--lr", "0"], "--lr: '0' is not a number above 0"),
    (["--lr", "-0.1"], "'-0.1' is not a number above 0"),
    (["--lr", "nan"], "'nan' is not a number above 0"),
    (["--lr", "inf"], "'inf' is not a number above 0"),
    (["--seed", "-1"], "'-1' is not a whole number from 0 to 2147483647"),
    (["--threads", "0"], "--threads: '0' is not a whole number of at least 1"),
    (["--data-dir", "nowhere"], "nowhere"),
    (["--data-dir", "empty"], "empty"),
    (["--data-dir", "file"], "file"),
    (["--run-dir", "file"], "run directory file: it, or a folder above it, is a file"),
    (["--run-dir", "file/below"], "run directory file/below: it, or a folder above it, is a file"),
    (["--run-dir", "taken"], "run directory taken already holds a run (config.json)"),
    (["--run-dir", "/proc/nowhere"], "run directory /proc/nowhere cannot be written to"),
    (["--epoch"], "expected one argument"),
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
    try:
        status = train.main(args)
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    assert says in lines[0]
    assert sorted(map(str, tmp_path.rglob("*"))) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_bad_input_in_a_process_of_its_own(run_module, tmp_path):
    one_error_line(run_module("train", "--recipe", "lent"), "'lent'", "d2l_v1_fashion")
    one_error_line(run_module("train", "--lr", "nan"), "'nan'")
    assert os.listdir(tmp_path) == []


def test_a_gpu_that_is_not_there_is_an_error_that_says_which(run_module, tmp_path):
    if gluon_lenet.try_gpu().device_type == "gpu":
        process = run_module("train", "--ctx", "gpu(99)")
        one_error_line(process, "gpu(99) cannot be used: this machine has")
    else:
        for args in (["--ctx", "gpu"], ["--num-gpus", "1"]):
            process = run_module("train", *args)
            one_error_line(process, "gpu(0) cannot be used: ")
            assert re.search("CPU wheel|no NVIDIA driver|newer than the wheel", process.stderr)
    assert os.listdir(tmp_path) == []


def test_num_gpus_is_another_way_to_say_ctx():
    assert train.parse(["--num-gpus", "2"]).ctx == "gpu(0),gpu(1)"
    assert train.parse(["--num-gpus", "0"]).ctx == "cpu"
    assert train.parse([]).ctx == "auto"


def test_divergence_stops_with_epoch_and_batch_and_keeps_the_last_good_weights(run_module, tmp_path):
    process = run_module("train", "--lr", "1e38", "--run-dir", "run")
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert re.match(r"error: epoch 1, batch \d+: (the loss|a weight) is ", line)
    assert "run" in line
    assert sorted(os.listdir(tmp_path / "run")) == ["config.json", "last.safetensors"]
    for array in load_file(tmp_path / "run" / "last.safetensors").values():
        assert np.isfinite(array).all()


def test_ctrl_c_keeps_the_finished_epochs(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "gluon_lenet.train", "--epochs", "1000", "--run-dir", "run"],
        cwd=tmp_path,
        env=module_env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("epoch 1,"):
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "interrupted\n"
    assert sorted(os.listdir(tmp_path / "run")) == FILES
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    assert load_file(tmp_path / "run" / "last.safetensors")["0.weight"].shape == (6, 1, 5, 5)


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
    # the bar's line is wiped before the last word
    assert re.search(r"\r *\r.*interrupted\r\n$", child.before, re.DOTALL)


def test_main_can_be_called_from_python(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train.main(["--epochs", "1", "--quiet", "--run-dir", "here"]) == 0
    assert capsys.readouterr().out == "here\n"
    # MXNet is loaded by now: another number of threads cannot be had, and is not silently ignored
    from gluon_lenet import compat

    assert train.main(["--epochs", "1", "--threads", str(compat.num_threads() + 1)]) == 2
    assert "threads" in capsys.readouterr().err


def test_every_recipe_names_a_net_and_a_data_set():
    for name, recipe in RECIPES.items():
        assert recipe.net in gluon_lenet.NETS, name
        assert recipe.dataset in ("fashion_mnist", "mnist"), name
        assert recipe.lr > 0
        assert recipe.batch_size > 0
        assert recipe.num_epochs > 0
