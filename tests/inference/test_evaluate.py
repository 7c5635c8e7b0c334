"""evaluate.py and trained.py: a run gets the same score as in training; damaged runs give one line of error."""

import json
import re
import shutil
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

import gluon_lenet
from conftest import ROOT, fails_as_bad_input, module_env, new_directory, one_error_line
from gluon_lenet import evaluate, predict, train
from gluon_lenet.engines.fused.engine import Fused
from gluon_lenet.inference.trained import WORTH_LOADING, Trained, probabilities
from gluon_lenet.training import checkpoint
from gluon_lenet.training.recipes import RECIPES
from gluon_lenet.training.run import Run
from gluon_lenet.training.setup import Setup


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run of the default recipe, two epochs, in a folder with a Chinese name."""
    path = tmp_path_factory.mktemp("runs") / "时装"
    assert train.main(["--epochs", "2", "--seed", "1", "--quiet", "--run-dir", str(path)]) == 0
    return path


@pytest.fixture
def copy(run_dir, tmp_path):
    """A copy of the run, to damage."""
    return shutil.copytree(run_dir, tmp_path / "copy")


def trained_accuracy(run_dir):
    return json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])["test_acc"]


def report(args, capsys):
    assert evaluate.main([*map(str, args), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_report(run_dir, fashion, capsys):
    before = sorted(run_dir.iterdir())
    assert evaluate.main(["--run", str(run_dir), "--show", "3"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    for i, line in enumerate(lines[:3]):
        actual = ["ankle boot", "pullover", "trouser"][i]
        assert re.fullmatch(rf"test image {i}: predicted [a-z -]+, actual {actual}", line)
    accuracy, num_correct = re.fullmatch(
        r"test accuracy (0\.\d{4}): ([\d,]+) of 10,000 images of fashion_mnist right, by the last weights of "
        "d2l_v1_fashion",
        lines[3],
    ).groups()
    assert float(accuracy) == pytest.approx(trained_accuracy(run_dir), abs=3e-4)
    assert float(accuracy) == pytest.approx(int(num_correct.replace(",", "")) / 10_000, abs=1e-9)
    assert re.fullmatch(r"class +images +correct +accuracy", lines[5])
    by_class = [re.split(r"\s{2,}", line) for line in lines[6:16]]
    assert [row[0] for row in by_class] == list(fashion.classes)
    assert all(row[1] == "1,000" and float(row[3]) == int(row[2].replace(",", "")) / 1000 for row in by_class)
    assert lines[17].split() == ["actual", "\\", "predicted", *"0123456789"]
    square = np.array([list(map(int, line.split()[-10:])) for line in lines[18:28]])
    assert square.sum(axis=1).tolist() == [1000] * 10
    assert square.diagonal().tolist() == [int(row[2].replace(",", "")) for row in by_class]
    assert len(lines) == 28
    assert sorted(run_dir.iterdir()) == before, "nothing is written unless asked for"


def test_a_reader_that_has_seen_enough(run_dir):
    command = f"{sys.executable} -m gluon_lenet.evaluate --run {run_dir} --show 50 | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=module_env(), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_json_has_the_same_numbers(run_dir, capsys, fashion):
    found = report(["--run", run_dir, "--show", 4], capsys)
    confusion = np.array(found["confusion"])
    assert confusion.shape == (10, 10)
    assert found["num_examples"] == confusion.sum() == 10_000
    assert found["num_correct"] == confusion.trace() == round(found["accuracy"] * 10_000)
    assert [row["num_correct"] for row in found["by_class"]] == confusion.diagonal().tolist()
    assert [row["class"] for row in found["by_class"]] == list(fashion.classes)
    assert (found["recipe"], found["weights"], found["dataset"]) == ("d2l_v1_fashion", "last", "fashion_mnist")
    assert (found["rotate"], found["invert"]) == (0, False)
    assert [row["actual"] for row in found["shown"]] == ["ankle boot", "pullover", "trouser", "trouser"]
    assert [row["test_image"] for row in found["shown"]] == [0, 1, 2, 3]
    assert found["run"] == str(run_dir)


def test_the_net_scores_what_the_run_scored(run_dir, fashion):
    """Predictions are computed by MXNet's operators; in training the fused kernels may have computed them."""
    trained = Trained(run_dir)
    probabilities = trained.probabilities(fashion.test_images[:300])
    assert probabilities.shape == (300, 10)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(300), abs=1e-5)
    assert trained.probabilities(fashion.test_images[:300], batch_size=7) == pytest.approx(probabilities, abs=1e-6)
    assert trained.probabilities(fashion.test_images[:0]).shape == (0, 10)
    _, scores = trained.score(fashion.test_images, fashion.test_labels)
    assert scores.accuracy == pytest.approx(trained_accuracy(run_dir), abs=3e-4)


def test_batches_may_lie_on_another_device_than_the_net():
    net = gluon_lenet.lenet()
    net.initialize(ctx=mx.cpu(1))
    shares = probabilities(net, [mx.nd.zeros((2, 1, 28, 28)), mx.nd.ones((1, 1, 28, 28), ctx=mx.cpu(1))])
    assert shares.shape == (3, 10)
    assert shares.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-5)


def test_many_images_take_the_fused_kernels_and_come_out_the_same(run_dir, fashion, monkeypatch):
    trained, images, calls = Trained(run_dir, ctx="cpu"), fashion.test_images[:WORTH_LOADING], []
    by_mxnet = np.concatenate([trained.probabilities(part) for part in np.array_split(images, 2)])
    logits = Fused.logits
    monkeypatch.setattr(
        Fused, "logits", lambda self, data_iter: calls.append(len(data_iter)) or logits(self, data_iter)
    )
    assert trained.probabilities(images, batch_size=250) == pytest.approx(by_mxnet, abs=1e-6)
    assert calls == [4]


def test_pictures(run_dir, tmp_path, capsys):
    for options in (["--grid", "图.png"], ["--grid", "7.png", "--seed", "7"], ["--grid", "3.jpg", "--show", "3"]):
        options[1] = str(tmp_path / options[1])
        assert evaluate.main(["--run", str(run_dir), *options]) == 0
    assert evaluate.main(["--run", str(run_dir), "--confusion", str(tmp_path / "混淆.png")]) == 0
    assert capsys.readouterr().err == ""
    sizes = {}
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            image.load()
            sizes[path.name] = image.size
            assert image.format == {".png": "PNG", ".jpg": "JPEG"}[path.suffix]
    assert sizes.keys() == {"图.png", "7.png", "3.jpg", "混淆.png"}
    assert 2000 < sizes["图.png"][0] < 2600
    assert 1200 < sizes["图.png"][1] < 2000
    assert 200 < sizes["3.jpg"][1] < sizes["图.png"][1] / 2, "one row of three, not five of ten"
    assert min(sizes["混淆.png"]) > 1200
    assert (tmp_path / "图.png").read_bytes() != (tmp_path / "7.png").read_bytes(), "another seed selects other images"


def test_the_grid_marks_what_is_wrong(fashion):
    from gluon_lenet.viz import figures

    labels = [fashion.classes[k] for k in fashion.test_labels[:12]]
    predictions = ["bag", *labels[1:]]
    figure = figures.prediction_grid(fashion.test_images[:12], predictions, labels, "title")
    titles = [(axis.get_title(), axis.title.get_color()) for axis in figure.axes[:12]]
    assert titles[0] == ("bag\n(ankle boot)", "red")
    assert [title for title, _ in titles[1:]] == labels[1:]
    assert "red" not in [color for _, color in titles[1:]]
    assert (figure.axes[3].images[0].get_array() == fashion.test_images[3]).all()
    assert len(figure.axes) == 20, "two rows of ten"


def test_the_best_weights_are_taken_where_there_are_any(copy, capsys):
    trained = Trained(copy)
    for param in trained.net.collect_params().values():
        param.set_data(param.data() * 0)
    header = checkpoint.read_header(copy / "last.safetensors")
    checkpoint.save(copy / "best.safetensors", trained.net, None, header)
    assert report(["--run", copy], capsys)["accuracy"] == 0.1, "all images are of class 0"
    assert report(["--run", copy], capsys)["weights"] == "best"
    last = report(["--run", copy, "--weights", "last"], capsys)
    assert last["accuracy"] == pytest.approx(trained_accuracy(copy), abs=3e-4)


def spoil(copy, kind):
    file = copy / "last.safetensors"
    data = bytearray(file.read_bytes())
    if kind == "empty":
        data = b""
    elif kind == "cut":
        data = data[: len(data) // 2]
    elif kind == "flipped bit":
        data[-1000] ^= 1
    elif kind == "random":
        data = np.random.default_rng(0).bytes(5000)
    elif kind == "pickle":
        data = b"\x80\x04K\x01."
    file.write_bytes(data)


def fails_to_load(run_dir, capsys, *says):
    """Evaluating, predicting and resuming give one line of error each, and the files are unchanged."""
    before = {file.name: file.read_bytes() for file in run_dir.iterdir()}
    for main, args in (
        (evaluate.main, ["--run", run_dir]),
        (predict.main, ["--run", run_dir, "--first", 5]),
        (train.main, ["--resume", run_dir]),
    ):
        fails_as_bad_input(main, args, capsys, *says)
    assert {file.name: file.read_bytes() for file in run_dir.iterdir()} == before


@pytest.mark.parametrize("kind", ["empty", "cut", "flipped bit", "random", "pickle"])
def test_damaged_weights(kind, copy, capsys):
    spoil(copy, kind)
    fails_to_load(copy, capsys, str(copy / "last.safetensors"))


def test_damaged_weights_in_a_process_of_its_own(copy, run_module):
    spoil(copy, "flipped bit")
    one_error_line(run_module("evaluate", "--run", copy), "last.safetensors is damaged")


def rewrite_settings(run_dir, **settings):
    config = json.loads((run_dir / "config.json").read_text())
    config["settings"].update(settings)
    (run_dir / "config.json").write_text(json.dumps(config))


def test_weights_of_another_net(copy, capsys):
    rewrite_settings(copy, net="lenet5_sigmoid_avgpool")
    fails_to_load(copy, capsys, "trained with net 'lenet5_sigmoid_maxpool', the run's is 'lenet5_sigmoid_avgpool'")
    rewrite_settings(copy, net="lenet5_1998", dataset="mnist", transform={"pad": 2})
    fails_as_bad_input(
        evaluate.main, ["--run", copy], capsys, "last.safetensors was trained with net 'lenet5_sigmoid_maxpool'"
    )


def test_weights_of_a_net_that_differs_only_in_what_has_no_weights(tmp_path, capsys):
    setup = Setup("d2l_v2_fashion", RECIPES["d2l_v2_fashion"], [mx.cpu()], seed=0)
    Run.create(setup, new_directory(tmp_path / "run"))
    rewrite_settings(tmp_path / "run", net="lenet5_relu_maxpool")
    fails_to_load(
        tmp_path / "run", capsys, "trained with net 'lenet5_sigmoid_avgpool', the run's is 'lenet5_relu_maxpool'"
    )


BAD = [
    (["--run", "nowhere"], "nowhere holds no run: config.json"),
    (["--run", "empty"], "empty holds no run: config.json"),
    (["--run", "file"], "file holds no run"),
    (["--run", "list"], "list/config.json: expected object, got array"),
    (["--run", "binary"], "binary/config.json is not JSON"),
    (["--run", "bare"], "bare has no last.safetensors; it has no weights"),
    (["--run", "RUN", "--weights", "best"], "has no best.safetensors; it has last weights"),
    (["--run", "RUN", "--weights", "good"], "invalid choice: 'good'"),
    (["--run", "RUN", "--ctx", "tpu"], "unknown context 'tpu'"),
    (["--run", "RUN", "--ctx", "cpu(0),cpu(1)"], "names 2 devices"),
    (["--run", "RUN", "--data-dir", "empty"], "empty"),
    (["--run", "RUN", "--show", "10001"], "--show 10001: there are 10000 test images"),
    (["--run", "RUN", "--show", "1001", "--grid", "a.png"], "--grid draws at most 1000 images"),
    (["--run", "RUN", "--show", "0"], "'0' is not a whole number from 1 to 2147483647"),
    (["--run", "RUN", "--seed", "-1"], "'-1' is not a whole number"),
    (["--run", "RUN", "--grid", "picture.gif"], "picture picture.gif: end its name in one of .png, .jpg, .pdf, .svg"),
    (["--run", "RUN", "--confusion", "no/folder.png"], "no folder no"),
    (["--run", "RUN", "--confusion", "empty.png"], "it is a folder"),
    ([], "--run"),
]


@pytest.mark.parametrize(("args", "says"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_bad_input_is_one_line_and_writes_nothing(args, says, run_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "list", "binary", "bare", "empty.png"):
        (tmp_path / folder).mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "list" / "config.json").write_text("[1]")
    (tmp_path / "binary" / "config.json").write_bytes(b"\xff\xfe\x00")
    shutil.copy(run_dir / "config.json", tmp_path / "bare")
    before = sorted(map(str, tmp_path.rglob("*")))
    fails_as_bad_input(evaluate.main, [run_dir if arg == "RUN" else arg for arg in args], capsys, says)
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_an_unknown_data_set_in_the_configuration(copy, capsys):
    rewrite_settings(copy, dataset="cifar10")
    fails_as_bad_input(
        evaluate.main,
        ["--run", copy],
        capsys,
        "config.json: unknown data set 'cifar10'; choose from fashion_mnist, mnist",
    )


def test_rotated_and_inverted_test_images(run_dir, capsys, fashion):
    plain, negative = (report(["--run", run_dir, *args], capsys) for args in ([], ["--invert"]))
    assert abs(negative["accuracy"] - plain["accuracy"]) <= 0.001
    rotated = [report(["--run", run_dir, "--rotate", 45, "--seed", seed], capsys) for seed in (0, 0, 1)]
    assert rotated[0] == rotated[1]
    assert rotated[0]["confusion"] != rotated[2]["confusion"]
    assert rotated[0]["accuracy"] < plain["accuracy"] - 0.1
    slightly = report(["--run", run_dir, "--rotate", 0.01], capsys)
    assert abs(slightly["accuracy"] - plain["accuracy"]) <= 0.001
    assert evaluate.main(["--run", str(run_dir), "--rotate", "30", "--invert"]) == 0
    assert "rotated by up to 30 degrees, inverted and read as pictures right" in capsys.readouterr().out
