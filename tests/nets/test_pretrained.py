"""The weights in the package: each recipe has them, as its card says; how they are loaded; what is refused."""

import hashlib
import json
import shutil

import mxnet as mx
import numpy as np
import pytest
from safetensors.numpy import load_file

import gluon_lenet
import reproduce
from conftest import fails_as_bad_input
from gluon_lenet import evaluate, export, predict
from gluon_lenet.errors import InputError
from gluon_lenet.inference.trained import Trained
from gluon_lenet.nets import pretrained
from gluon_lenet.nets.zoo import NETS, get_net
from gluon_lenet.training.recipes import RECIPES


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_recipe_has_weights_with_its_accuracy(name, capsys):
    """A failure after a new recipe, or a change of one: run `make reproduce ARGS=NAME`."""
    assert reproduce.has_weights(name), "none, or of other settings than the recipe's"
    card = pretrained.read_card(name)
    assert (card.recipe, card.net, card.dataset) == (name, RECIPES[name].net, RECIPES[name].dataset)
    data = (pretrained.FOLDER / f"{name}.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == card.sha256
    assert (pretrained.FOLDER / f"{name}.md").read_text(encoding="utf-8") == card.to_markdown()
    assert {array.dtype.name for array in load_file(pretrained.FOLDER / f"{name}.safetensors").values()} == {"float32"}

    assert evaluate.main(["--run", f"pretrained:{name}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["recipe"], found["weights"], found["num_examples"]) == (name, "pretrained", card.num_examples)
    # sums are rounded in another order on a processor with other vectors, which may change the label of an image or two
    assert abs(found["num_correct"] - card.num_correct) <= 2


@pytest.mark.parametrize("name", list(RECIPES))
def test_get_net_gives_the_trained_net(name, fashion):
    trained = Trained(f"pretrained:{name}", ctx="cpu")
    mx.random.seed(5)
    expected = mx.nd.random.uniform(shape=(3,)).asnumpy()
    mx.random.seed(5)
    net = get_net(trained.recipe.net, pretrained=name)
    assert mx.nd.random.uniform(shape=(3,)).asnumpy().tolist() == expected.tolist(), "it drew random numbers"
    X = trained.transform(fashion.test_images[:20])
    assert net(X).asnumpy().tobytes() == trained.net(X).asnumpy().tobytes()


@pytest.mark.parametrize("name", sorted(NETS))
def test_every_net_has_a_default(name):
    net = gluon_lenet.get_net(name, pretrained=True)
    weights = net._collect_params_with_prefix()
    stored = load_file(pretrained.FOLDER / f"{pretrained.DEFAULTS[name]}.safetensors")
    assert weights.keys() == stored.keys()
    for key, param in weights.items():
        assert np.array_equal(param.data().asnumpy(), stored[key]), key


def test_a_net_of_one_recipe_needs_no_default(monkeypatch):
    monkeypatch.setattr(pretrained, "DEFAULTS", {})
    assert pretrained.find("lenet5_tanh_avgpool", True).recipe == "tanh_adam_mnist"
    with pytest.raises(
        InputError, match="no pretrained weights True for the net 'lenet5_1998'; choose from lecun1998_"
    ):
        pretrained.find("lenet5_1998", True)


def test_a_user_predicts_and_exports_without_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert predict.main(["--run", "pretrained:lecun1998_distorted", "--first", "2"]) == 0
    assert capsys.readouterr().out.startswith("test image 0: 7 (100.0%), actual 7\ntest image 1: 2 (")
    assert export.main(["--run", "pretrained:lecun1998_distorted", "--format", "onnx"]) == 0
    assert capsys.readouterr().out == "lecun1998_distorted.onnx\n"


def test_what_there_is_not_is_one_line(capsys):
    fails_as_bad_input(
        evaluate.main,
        ["--run", "pretrained:lent"],
        capsys,
        f"no pretrained weights 'lent'; choose from {', '.join(pretrained.recipes())}",
    )
    fails_as_bad_input(
        evaluate.main, ["--run", "pretrained:lecun1998_distorted", "--weights", "best"], capsys, "one set of weights"
    )
    for args, says in (
        (
            ("lenet5_1998", 10, "augmented_mnist"),
            r"no pretrained weights 'augmented_mnist' for the net 'lenet5_1998'; ",
        ),
        (("lenet5_relu_maxpool", 3, True), "relu_adam_mnist are of 10 classes, not 3"),
        (("lent", 10, True), "unknown net 'lent'"),
    ):
        with pytest.raises(InputError, match=says):
            get_net(*args)


def test_damaged_files_are_one_line(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "pretrained"
    shutil.copytree(pretrained.FOLDER, folder)
    monkeypatch.setattr(pretrained, "FOLDER", folder)
    args = ["--run", "pretrained:relu_adam_mnist"]
    file, card = folder / "relu_adam_mnist.safetensors", folder / "relu_adam_mnist.json"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    fails_as_bad_input(evaluate.main, args, capsys, f"{file} is damaged: its SHA-256 is not")
    file.unlink()
    fails_as_bad_input(evaluate.main, args, capsys, f"{file} cannot be read: No such file")
    for raw, says in (
        (b"{", "is not JSON"),
        (card.read_bytes().replace(b'"adam"', b'"adamant"'), "settings: optimizer must be one of sgd, adam"),
    ):
        card.write_bytes(raw)
        fails_as_bad_input(evaluate.main, args, capsys, str(card), says)
