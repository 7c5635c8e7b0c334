"""checkpoint.py and run_dir.py: round trips of the training state, damaged files, run directories."""

import os
import pickle
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest

import gluon_lenet
from conftest import module_env
from gluon_lenet.atomic import write_atomically
from gluon_lenet.errors import InputError
from gluon_lenet.training import checkpoint
from gluon_lenet.training.config import Header
from gluon_lenet.training.metrics import Progress

HEADER = Header(recipe="none", net="any", seed=0, progress=Progress(epoch=3), rng={})
X = mx.nd.random.uniform(shape=(3, 1, 28, 28))


def new_net(seed, ctx=None):
    mx.random.seed(seed)
    net = gluon_lenet.get_net("lenet5_sigmoid_maxpool")
    net.initialize(mx.init.Xavier(), ctx=ctx)
    return net


def test_weights_there_and_back(tmp_path):
    net, other = new_net(seed=1), new_net(seed=2)
    want = net(X).asnumpy()
    checkpoint.save(tmp_path / "w.safetensors", net, None, HEADER)
    checkpoint.load(tmp_path / "w.safetensors", other)  # has seen no data yet: its shapes come from the file
    assert (other(X).asnumpy() == want).all()
    third = new_net(seed=3)
    third(X)
    checkpoint.load(tmp_path / "w.safetensors", third)
    assert (third(X).asnumpy() == want).all()


def test_the_books_sequential_and_the_hybrid_share_weights(tmp_path):
    net, books = new_net(seed=1), gluon_lenet.lenet()
    books.initialize()
    want = net(X).asnumpy()
    checkpoint.save(tmp_path / "w.safetensors", net, None, HEADER)
    checkpoint.load(tmp_path / "w.safetensors", books)
    np.testing.assert_allclose(books(X).asnumpy(), want, atol=1e-6)


OPTIMIZERS = {
    "sgd": {"learning_rate": 0.1, "wd": 0.01},
    "sgd with momentum": {"learning_rate": 0.1, "momentum": 0.9},
    "adam": {"learning_rate": 0.01},
    "adagrad": {"learning_rate": 0.01},
}


@pytest.mark.parametrize("contexts", [[mx.cpu()], [mx.cpu(0), mx.cpu(1)]], ids=["one", "two"])
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_training_goes_on_to_the_bit(tmp_path, name, contexts):
    """Weights, the optimizer's states, its update counts and its schedule, after a round trip through a file."""

    def fresh():
        net = new_net(seed=1, ctx=contexts)
        net(X)
        schedule = mx.lr_scheduler.MultiFactorScheduler(step=[3, 5], factor=0.5)
        settings = {**OPTIMIZERS[name], "lr_scheduler": schedule}
        optimizer = name.split()[0]
        return net, mx.gluon.Trainer(net.collect_params(), optimizer, settings, update_on_kvstore=False)

    def step(net, trainer, steps, seed):
        mx.random.seed(seed)
        for _ in range(steps):
            batch = mx.nd.random.uniform(shape=(4, 1, 28, 28))
            with mx.autograd.record():
                losses = [(net(batch.as_in_context(ctx)) ** 2).sum() for ctx in contexts]
            mx.autograd.backward(losses)
            trainer.step(4)

    net, trainer = fresh()
    step(net, trainer, 4, seed=2)
    checkpoint.save(tmp_path / "f", net, trainer, HEADER)
    step(net, trainer, 3, seed=3)

    resumed, its_trainer = fresh()
    step(resumed, its_trainer, 1, seed=9)  # to be overwritten
    assert checkpoint.load(tmp_path / "f", resumed, its_trainer).progress == HEADER.progress
    step(resumed, its_trainer, 3, seed=3)
    for ctx in contexts:
        assert (resumed(X.as_in_context(ctx)).asnumpy() == net(X.as_in_context(ctx)).asnumpy()).all()
    assert its_trainer.learning_rate == trainer.learning_rate


DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "random bytes": lambda data: np.random.default_rng(0).bytes(1000),
    "a pickle": lambda data: pickle.dumps({"weights": np.zeros(3)}),
    "text": lambda data: "权重".encode(),
    **{
        f"bit flipped at {share:.0%}": (lambda data, share=share: flip(data, share))
        for share in np.linspace(0, 0.999, 8)
    },
    **{f"bit flipped at byte {at}": (lambda data, at=at: flip(data, at / len(data))) for at in range(0, 500, 23)},
}


def flip(data, share):
    at = int(len(data) * share)
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_damaged_files_are_named_and_change_nothing(tmp_path, damage):
    net, other, path = new_net(seed=1), new_net(seed=2), tmp_path / "w.safetensors"
    want = net(X).asnumpy()
    other(X)
    checkpoint.save(path, other, None, HEADER)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(InputError, match=str(path)):
        checkpoint.load(path, net)
    assert (net(X).asnumpy() == want).all()


def test_what_is_no_file_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=str(path)):
            checkpoint.load(path, new_net(seed=1))


def test_states_of_another_optimizer_are_refused(tmp_path):
    net = new_net(seed=1)
    net(X)
    adam, sgd = (mx.gluon.Trainer(net.collect_params(), name) for name in ("adam", "sgd"))
    checkpoint.save(tmp_path / "f", net, adam, HEADER)
    with pytest.raises(InputError, match="holds no states of the optimizer SGD"):
        checkpoint.load(tmp_path / "f", net, sgd)


def test_weights_of_another_net_are_refused(tmp_path):
    net, wider = new_net(seed=1), gluon_lenet.get_net("lenet5_sigmoid_maxpool", classes=11)
    wider.initialize()
    wider(X)
    want = net(X).asnumpy()
    checkpoint.save(tmp_path / "w", wider, None, HEADER)
    with pytest.raises(InputError, match=r"6.bias is float32 \(11,\), the net's is float32 \(10,\)"):
        checkpoint.load(tmp_path / "w", net)
    small = mx.gluon.nn.HybridSequential()
    small.add(mx.gluon.nn.Dense(3))
    small.initialize()
    small(X)
    checkpoint.save(tmp_path / "s", small, None, HEADER)
    with pytest.raises(InputError, match="holds other parameters than the net"):
        checkpoint.load(tmp_path / "s", net)
    assert (net(X).asnumpy() == want).all()


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_atomically(path, None)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_kill_in_the_middle_of_writing_leaves_a_whole_file(tmp_path):
    """A process keeps rewriting one file with other bytes; when it is killed, the file is one of the versions."""
    code = (
        "import sys; from pathlib import Path; from gluon_lenet.atomic import write_atomically\n"
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
