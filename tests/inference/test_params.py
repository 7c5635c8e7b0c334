"""params_file.py and params.py: round trips of Gluon's .params files, other parameter names, invalid files."""

import os
import pickle
import struct

import mxnet as mx
import numpy as np
import pytest

import gluon_lenet
from conftest import fails_as_bad_input
from gluon_lenet import evaluate, params, train
from gluon_lenet.errors import InputError
from gluon_lenet.inference.params_file import load_params, save_params
from gluon_lenet.nets.zoo import INPUT_SHAPES, NETS
from gluon_lenet.training import checkpoint


def new_net(name="lenet5_sigmoid_maxpool", seed=0):
    mx.random.seed(seed)
    net = gluon_lenet.get_net(name)
    net.initialize(mx.init.Xavier())
    net(images(name))
    return net


def images(name):
    return mx.nd.random.uniform(shape=(3, *INPUT_SHAPES[name]))


def weights(net):
    return {name: param.data().asnumpy() for name, param in net._collect_params_with_prefix().items()}


def same_weights(net, other):
    for ours, theirs in zip(weights(net).values(), weights(other).values(), strict=True):
        assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("name", sorted(NETS))
def test_stock_gluon_reads_what_we_write_and_we_what_it_writes(name, tmp_path):
    net = new_net(name, seed=1)
    save_params(tmp_path / "ours.params", net)
    net.save_parameters(str(tmp_path / "stock.params"))
    assert (tmp_path / "ours.params").read_bytes() == (tmp_path / "stock.params").read_bytes()
    stock, ours = new_net(name, seed=2), new_net(name, seed=3)
    stock.load_parameters(str(tmp_path / "ours.params"))
    load_params(tmp_path / "stock.params", ours)
    same_weights(stock, net)
    same_weights(ours, net)


@pytest.mark.parametrize("name", sorted(NETS))
def test_names_of_collect_params_and_of_export(name, tmp_path):
    """The counters in these names depend on the nets created before; here they have reached two digits."""
    for _ in range(4):
        net = new_net(name, seed=1)
    net.hybridize()
    net(images(name))
    net.export(str(tmp_path / "exported"))
    net.collect_params().save(str(tmp_path / "collected.params"))
    for file in ("exported-0000.params", "collected.params"):
        fresh = new_net(name, seed=2)
        load_params(tmp_path / file, fresh)
        same_weights(fresh, net)


def test_names_of_save_params_in_any_order(tmp_path):
    """`save_params` of 2017, in a name scope; older Pythons wrote the parameters in an arbitrary dict order."""
    nn = mx.gluon.nn
    scoped = nn.HybridSequential(prefix="lenet_")
    with scoped.name_scope():
        scoped.add(nn.Conv2D(6, 5, activation="sigmoid"), nn.MaxPool2D(), nn.Conv2D(16, 5, activation="sigmoid"))
        scoped.add(nn.MaxPool2D(), nn.Dense(120), nn.Dense(84), nn.Dense(10))
    scoped.initialize()
    scoped(images("lenet5_sigmoid_maxpool"))
    scoped.collect_params().save(str(tmp_path / "f"), strip_prefix=scoped.prefix)
    arrays = mx.nd.load(str(tmp_path / "f"))
    assert "conv0_weight" in arrays
    mx.nd.save(str(tmp_path / "shuffled"), dict(sorted(arrays.items(), key=lambda pair: pair[0][::-1])))
    for file in ("f", "shuffled"):
        net = new_net(seed=5)
        load_params(tmp_path / file, net)
        same_weights(net, scoped)


def test_a_layer_without_weights_in_front_shifts_nothing(tmp_path):
    """The course's net begins with a Reshape, so its first convolution is layer 1, not 0."""
    lesson = mx.gluon.nn.Sequential()
    lesson.add(gluon_lenet.Reshape(), *gluon_lenet.lenet())
    lesson.initialize()
    lesson(mx.nd.zeros((1, 784)))
    lesson.save_parameters(str(tmp_path / "f"))
    net = new_net(seed=5)
    load_params(tmp_path / "f", net)
    same_weights(net, lesson)


def with_array(**changes):
    """Gluon's own file of the net, with an array of another name, shape, dtype or content."""

    def change(net, path):
        arrays = {name: mx.nd.array(array) for name, array in weights(net).items()}
        for name, array in changes.items():
            arrays[name.replace("_", ".")] = array
        mx.nd.save(path, {name: array for name, array in arrays.items() if array is not None})

    return change


def with_bytes(change):
    def spoil(net, path):
        net.save_parameters(path)
        with open(path, "rb+") as file:
            data = change(file.read())
            file.seek(0)
            file.truncate()
            file.write(data)

    return spoil


def other_net(net, path):
    new_net("lenet5_sigmoid_avgpool").save_parameters(path)


def put(at, form, number):
    return lambda data: data[:at] + struct.pack(form, number) + data[at + struct.calcsize(form) :]


WRONG = {  # change of a file of the net -> message
    "empty": (with_bytes(lambda data: b""), "it is empty"),
    "cut": (with_bytes(lambda data: data[: len(data) // 2]), "it is truncated"),
    "one byte short": (with_bytes(lambda data: data[:-1]), "it is truncated"),
    "one byte long": (with_bytes(lambda data: data + b"\0"), "1 bytes follow its end"),
    "random bytes": (with_bytes(lambda data: np.random.default_rng(0).bytes(5000)), "its first bytes are wrong"),
    "random after the head": (with_bytes(lambda data: data[:24] + np.random.default_rng(0).bytes(5000)), "array 0"),
    "a pickle": (with_bytes(lambda data: pickle.dumps({"0.weight": [1.0]})), "its first bytes are wrong"),
    "2**63 arrays": (with_bytes(put(16, "<Q", 2**63)), "array 10"),
    "-1 dimensions, where MXNet crashes": (with_bytes(put(32, "<i", -1)), "array 0 has a form"),
    "2**50 rows": (with_bytes(put(36, "<q", 2**50)), "it is truncated"),
    "a negative size": (with_bytes(put(36, "<q", -6)), "array 0 has the shape (-6, 1, 5, 5)"),
    "an unknown dtype": (with_bytes(put(76, "<i", 99)), "the number 99 for its dtype"),
    "a bad name": (with_bytes(lambda data: data[:-1] + b"\xff"), "can't decode"),
    "another net": (other_net, "0.weight is float32 (6, 1, 5, 5)|4.weight is float32 (120, 400), the net's"),
    "a parameter too few": (with_array(**{"6_bias": None}), "6.bias of the net is not in the file"),
    "a parameter too many": (with_array(**{"7_bias": mx.nd.ones(3)}), "7.bias has no place in the net"),
    "another name": (with_array(**{"6_bias": None, "6_offset": mx.nd.zeros(10)}), "6.offset has no place"),
    "another shape": (with_array(**{"6_bias": mx.nd.zeros(11)}), "6.bias is float32 (11,), the net's is float32 (10,)"),
    "another dtype": (with_array(**{"6_bias": mx.nd.zeros(10, dtype="float16")}), "6.bias is float16 (10,)"),
    "a NaN": (with_array(**{"6_bias": mx.nd.array([np.nan] * 10)}), "6.bias has numbers that are NaN or infinite"),
    "a name of two lines": (
        with_array(**{"6_bias": None, "6_b\nias": mx.nd.zeros(10)}),
        "a name that cannot be printed",
    ),
    "no names": (lambda net, path: mx.nd.save(path, [mx.nd.ones(3)]), "it has 1 arrays and 0 names"),
}


@pytest.mark.parametrize("wrong", sorted(WRONG))
def test_what_does_not_fit_is_named_and_changes_nothing(wrong, tmp_path):
    spoil, says = WRONG[wrong]
    net, path = new_net(seed=1), tmp_path / "文件.params"
    spoil(net, str(path))
    before = weights(net)
    with pytest.raises(InputError) as error:
        load_params(path, net)
    assert str(path) in str(error.value)
    assert any(words in str(error.value) for words in says.split("|"))
    assert "\n" not in str(error.value)
    for name, array in weights(net).items():
        assert array.tobytes() == before[name].tobytes()


def test_every_flipped_bit_before_the_first_weight_is_read_or_refused(tmp_path):
    """MXNet crashes on some of them. A flipped bit in a weight cannot be detected: the file has no checksum."""
    net, path = new_net(seed=1), tmp_path / "f"
    net.save_parameters(str(path))
    data, refused = path.read_bytes(), 0
    for bit in range(80 * 8):
        path.write_bytes(data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :])
        try:
            load_params(path, net)
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017
            refused += 1
    assert refused == 80 * 8 - (64 + 64), "all but those of the reserved word and the device"


def test_constants_must_be_the_nets_own(tmp_path):
    net = new_net("lenet5_1998")
    arrays = {name: mx.nd.array(array) for name, array in weights(net).items()}
    arrays["12.centres"] = -arrays["12.centres"]
    mx.nd.save(str(tmp_path / "f"), arrays)
    with pytest.raises(InputError, match=r"12.centres, which is a constant, has other values than the net's"):
        load_params(tmp_path / "f", net)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run of the default recipe, one epoch."""
    path = tmp_path_factory.mktemp("runs") / "run"
    assert train.main(["--epochs", "1", "--seed", "1", "--quiet", "--run-dir", str(path)]) == 0
    return path


def test_a_run_goes_out_and_comes_back(run_dir, tmp_path, capsys, monkeypatch):
    """Export to a file that stock Gluon reads; import to a run that is evaluated and trained further."""
    monkeypatch.chdir(tmp_path)
    assert params.main(["export", "--run", str(run_dir), "out.params"]) == 0
    stock = new_net(seed=9)
    stock.load_parameters("out.params")
    assert params.main(["import", "out.params", "--recipe", "d2l_v1_fashion", "--run-dir", "back"]) == 0
    assert capsys.readouterr().out == "out.params\nback\n"
    back = new_net(seed=8)
    checkpoint.load("back/last.safetensors", back)
    same_weights(back, stock)
    scores = []
    for run in (run_dir, "back"):
        assert evaluate.main(["--run", str(run)]) == 0
        scores.append(capsys.readouterr().out)
    assert scores[0] == scores[1]
    assert train.main(["--resume", "back", "--epochs", "1"]) == 0
    assert "epoch 1, loss 1." in capsys.readouterr().out, "not 2.3, the loss of untrained weights"


def test_bad_input_is_one_line_and_writes_nothing(run_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    other_net(None, "other.params")
    (tmp_path / "pickle.params").write_bytes(pickle.dumps([1]))
    (tmp_path / "folder").mkdir()
    for args, *says in (
        (["import", "other.params", "--recipe", "d2l_v1_fashion"], "other.params: ", "the net's"),
        (["import", "pickle.params", "--recipe", "d2l_v1_fashion"], "pickle.params is not a .params file of Gluon"),
        (["import", "nowhere.params", "--recipe", "d2l_v1_fashion"], "nowhere.params cannot be read: No such file"),
        (["import", "folder", "--recipe", "d2l_v1_fashion"], "folder cannot be read: Is a directory"),
        (["import", "other.params", "--recipe", "lent"], "unknown recipe 'lent'"),
        (["import", "other.params"], "--recipe"),
        (["import", "other.params", "--recipe", "d2l_v2_fashion", "--run-dir", "other.params"], "is a file"),
        (["export", "--run", "folder", "new.params"], "folder holds no run"),
        (["export", "--run", run_dir, "folder"], "folder cannot be written: it is a folder"),
        (
            ["export", "--run", run_dir, "nowhere/new.params"],
            "nowhere/new.params cannot be written: there is no folder nowhere",
        ),
        (["export", "--run", run_dir, "--weights", "best", "new.params"], "has no best.safetensors"),
        (["exchange"], "invalid choice: 'exchange'"),
        ([], "required"),
    ):
        fails_as_bad_input(params.main, args, capsys, *says)
    assert sorted(os.listdir(tmp_path)) == ["folder", "other.params", "pickle.params"]
