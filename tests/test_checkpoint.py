"""checkpoint.py: weights there and back, files whole or absent, run directories that are never overwritten."""

import json
import os
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest

import gluon_lenet
from conftest import module_env
from gluon_lenet import checkpoint
from gluon_lenet.checkpoint import RunDir, load_weights, save_weights, write_atomically
from gluon_lenet.errors import InputError
from gluon_lenet.training import EpochResult

X = mx.nd.random.uniform(shape=(3, 1, 28, 28))


def new_net(seed):
    mx.random.seed(seed)
    net = gluon_lenet.get_net("lenet5_sigmoid_maxpool")
    net.initialize(mx.init.Xavier())
    return net


def test_weights_there_and_back(tmp_path):
    net, other = new_net(seed=1), new_net(seed=2)
    want = net(X).asnumpy()
    save_weights(tmp_path / "w.safetensors", net, {"epoch": "3"})
    load_weights(tmp_path / "w.safetensors", other)  # has seen no data yet: its shapes come from the file
    assert (other(X).asnumpy() == want).all()
    third = new_net(seed=3)
    third(X)
    load_weights(tmp_path / "w.safetensors", third)
    assert (third(X).asnumpy() == want).all()


def test_the_books_sequential_and_the_hybrid_share_weights(tmp_path):
    net, books = new_net(seed=1), gluon_lenet.lenet()
    books.initialize()
    want = net(X).asnumpy()
    save_weights(tmp_path / "w.safetensors", net, {})
    load_weights(tmp_path / "w.safetensors", books)
    np.testing.assert_allclose(books(X).asnumpy(), want, atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"no tensors", None, "cut", "directory"])
def test_files_that_are_no_weights_change_nothing(tmp_path, content):
    net, path = new_net(seed=1), tmp_path / "w.safetensors"
    want = net(X).asnumpy()
    if content == "cut":
        other = new_net(seed=2)
        other(X)
        save_weights(path, other, {})
        path.write_bytes(path.read_bytes()[:-100])
    elif content == "directory":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)):
        load_weights(path, net)
    assert (net(X).asnumpy() == want).all()


def test_weights_of_another_net_are_refused(tmp_path):
    net, wider = new_net(seed=1), gluon_lenet.get_net("lenet5_sigmoid_maxpool", classes=11)
    wider.initialize()
    wider(X)
    want = net(X).asnumpy()
    save_weights(tmp_path / "w", wider, {})
    with pytest.raises(InputError, match=r"6.bias is float32 \(11,\), the net's is float32 \(10,\)"):
        load_weights(tmp_path / "w", net)
    small = mx.gluon.nn.HybridSequential()
    small.add(mx.gluon.nn.Dense(3))
    small.initialize()
    small(X)
    save_weights(tmp_path / "s", small, {})
    with pytest.raises(InputError, match="holds other parameters than the net"):
        load_weights(tmp_path / "s", net)
    assert (net(X).asnumpy() == want).all()


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_atomically(path, None)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_kill_in_the_middle_of_writing_leaves_a_whole_file(tmp_path):
    """A process rewrites one file with other bytes for ever; killed at any time, the file is one of the versions."""
    code = (
        "import sys; from pathlib import Path; from gluon_lenet.checkpoint import write_atomically\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1; write_atomically(Path(sys.argv[1]), bytes([n % 256]) * 300_000)\n"
        "    if n == 1: print('go', flush=True)\n"
    )
    for wait in (0.0, 0.01, 0.05):
        path = tmp_path / f"file{wait}"
        process = subprocess.Popen([sys.executable, "-c", code, path], env=module_env(), stdout=subprocess.PIPE)
        process.stdout.readline()
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        data = path.read_bytes()
        assert len(data) == 300_000
        assert len(set(data)) == 1


def test_a_run_directory(tmp_path):
    run_dir = RunDir.create(tmp_path / "a" / "b", "recipe")
    run_dir.write_config({"recipe": "说明", "seed": 0})
    results = [EpochResult(n, 2.0 / n, 0.5, 0.6, 1.0, 0.1) for n in (1, 2)]
    for result in results:
        run_dir.append_metrics(result)
    lines = (tmp_path / "a" / "b" / "metrics.jsonl").read_text().splitlines()
    assert [EpochResult(**json.loads(line)) for line in lines] == results
    assert json.loads((tmp_path / "a" / "b" / "config.json").read_text(encoding="utf-8"))["recipe"] == "说明"
    with pytest.raises(InputError, match="already holds a run"):
        RunDir.create(tmp_path / "a" / "b", "recipe")


def test_default_run_directories_never_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoint.time, "strftime", lambda form: "20261122-010203")
    paths = [str(RunDir.create(None, "r").path) for _ in range(3)]
    assert paths == ["runs/r-20261122-010203", "runs/r-20261122-010203-2", "runs/r-20261122-010203-3"]


def test_run_directories_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=f"run directory {path}.* is a file"):
            RunDir.create(path, "r")
    with pytest.raises(InputError, match="run directory /proc/nowhere cannot be written to"):
        RunDir.create("/proc/nowhere", "r")
    assert (tmp_path / "file").read_text() == "mine"
