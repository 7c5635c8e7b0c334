"""export.py: the logits of exported nets are Gluon's, by ONNX Runtime and by SymbolBlock; what cannot be exported."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import onnx
import pytest
from mxnet.gluon import SymbolBlock, nn

from conftest import ROOT, fails_as_bad_input, module_env
from gluon_lenet import export, train
from gluon_lenet.data.catalogue import get_entry
from gluon_lenet.data.datasets import load_dataset
from gluon_lenet.data.transforms import Transform
from gluon_lenet.errors import InputError
from gluon_lenet.inference import onnx_nodes
from gluon_lenet.inference.onnx_file import OPSET, write_onnx
from gluon_lenet.inference.symbol_file import write_symbol
from gluon_lenet.inference.trained import Trained
from gluon_lenet.nets.layers import PrintLayer, Reshape, ScaledTanh
from gluon_lenet.nets.zoo import INPUT_SHAPES, NETS, get_net, lenet_variant
from gluon_lenet.training.recipes import RECIPES
from run_onnx import HAS_RUNTIME, run_onnx

PAGE = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
TOLERANCE = 1e-5  # of the largest logit


def trained(net, shape=(1, 28, 28), transform=None):
    """What is written of a run, with an untrained net."""
    mx.random.seed(1)
    net.initialize(mx.init.Xavier(magnitude=4))
    net(mx.nd.zeros((1, *shape)))
    for name, param in net.collect_params().items():  # biases, and a normalization's averages, that are not 0 or 1
        if param.grad_req != "null" and name.endswith(("bias", "beta", "gamma")):
            param.set_data(mx.nd.random.uniform(0.5, 1.5, param.shape))
        if name.endswith(("running_mean", "running_var")):
            param.set_data(mx.nd.random.uniform(0.5, 1.5, param.shape))
    return SimpleNamespace(
        net=net,
        input_shape=shape,
        transform=transform or Transform(),
        classes=tuple("0123456789"),
        name="untrained",
        weights="last",
        recipe=SimpleNamespace(net="a net", dataset="mnist"),
        entry=get_entry("mnist"),
    )


def assert_same(path, run, X):
    expected, found = run.net(mx.nd.array(X)).asnumpy(), run_onnx(path, X)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()


@pytest.mark.parametrize("name", sorted(NETS))
def test_every_net_as_onnx(name, tmp_path, fashion):
    run = trained(get_net(name), INPUT_SHAPES[name], Transform(resize=INPUT_SHAPES[name][1]))
    assert write_onnx(tmp_path / "net.onnx", run) == [tmp_path / "net.onnx"]
    X = run.transform(fashion.test_images[:500]).asnumpy()
    assert_same(tmp_path / "net.onnx", run, X)
    assert_same(tmp_path / "net.onnx", run, X[:1])
    model = onnx.load(str(tmp_path / "net.onnx"))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(RECIPES))
def test_every_trained_net_as_onnx_on_all_test_images(name, tmp_path):
    run = Trained(f"pretrained:{name}", ctx="cpu")
    write_onnx(tmp_path / "net.onnx", run)
    images = load_dataset(run.recipe.dataset).test_images
    assert len(images) == 10_000
    assert_same(tmp_path / "net.onnx", run, run.transform(images).asnumpy())


def sequential(*layers):
    net = nn.HybridSequential()
    net.add(*layers)
    return net


@pytest.mark.parametrize("activation", sorted(onnx_nodes.ACTIVATIONS))
@pytest.mark.parametrize(
    "settings", [{"kernel_size": 3, "channels": (2, 5), "units": ()}, {"units": (7, 6, 5)}], ids=str
)
def test_variants_of_the_exercise(activation, settings, tmp_path):
    run = trained(lenet_variant(activation=activation, **settings))
    write_onnx(tmp_path / "net.onnx", run)
    assert_same(tmp_path / "net.onnx", run, np.random.default_rng(0).random((20, 1, 28, 28), np.float32))


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2D(4, (5, 3), strides=(2, 1), padding=(1, 2), dilation=(1, 2), use_bias=False), nn.Activation("relu")],
        [nn.Conv2D(4, 3), nn.Conv2D(8, 3, groups=2, activation="softsign"), nn.MaxPool2D(3, strides=2, padding=1)],
        [nn.AvgPool2D((2, 3), strides=(1, 2), padding=(1, 1)), PrintLayer()],
        [nn.AvgPool2D(3, strides=2, padding=1, count_include_pad=False), nn.Dropout(0.5)],
        [nn.Conv2D(6, 5), nn.GlobalMaxPool2D()],
        [nn.Conv2D(6, 5), nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(5, flatten=False, use_bias=False)],
        [nn.Conv2D(4, 5), nn.BatchNorm(epsilon=0.01), nn.Activation("sigmoid"), nn.BatchNorm(scale=False)],
        [nn.Flatten(), nn.Dense(49), Reshape((1, 7, 7)), nn.Conv2D(3, 2), nn.Dropout(0.2), ScaledTanh(), ScaledTanh()],
    ],
    ids=lambda layers: " ".join(type(layer).__name__ for layer in layers),
)
def test_every_layer_and_its_options(layers, tmp_path, capsys):
    run = trained(sequential(sequential(*layers), nn.Dense(10), nn.Dropout(0.5)))
    write_onnx(tmp_path / "net.onnx", run)
    assert_same(tmp_path / "net.onnx", run, np.random.default_rng(0).random((20, 1, 28, 28), np.float32))


class Doubled(nn.Dense):
    def hybrid_forward(self, F, X, weight, bias=None):
        return 2 * super().hybrid_forward(F, X, weight, bias)


def hooked():
    layer = nn.Dense(10)
    layer.register_forward_hook(lambda block, inputs, output: None)
    return layer


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        (
            [nn.LeakyReLU(0.1), nn.Dense(10)],
            r"layer 0 \(LeakyReLU\) is not among the layers .* to ONNX: Activation, Av",
        ),
        ([nn.Dense(10), nn.HybridLambda(lambda F, x: 2 * x)], r"layer 1 \(HybridLambda\) is not among"),
        ([nn.Dense(10), Doubled(10)], r"layer 1 \(Doubled\) is not among"),
        ([sequential(nn.Dense(10, activation="relu"), hooked())], r"layer 0.1 \(Dense\) may not compute .* hook"),
        ([nn.MaxPool2D(2, ceil_mode=True), nn.Dense(10)], r"layer 0 \(MaxPool2D 2x2, stride 2\) has ceil_mode"),
        ([nn.BatchNorm(axis=2), nn.Dense(10)], r"layer 0 \(BatchNorm\) normalizes axis 2"),
        ([nn.Conv2D(10, 28)], r"the net's outputs have the shape \(1, 10, 1, 1\)"),
    ],
)
def test_other_layers_are_refused_by_name(layers, says, tmp_path):
    with pytest.raises(InputError, match=says):
        write_onnx(tmp_path / "net.onnx", trained(sequential(*layers)))
    assert not list(tmp_path.iterdir())


def test_another_precision_is_refused(tmp_path):
    run = trained(sequential(nn.Dense(10)))
    run.net.cast("float16")
    with pytest.raises(InputError, match=r"dense\d+_weight is float16; a net is exported to ONNX with float32 weights"):
        write_onnx(tmp_path / "net.onnx", run)


# of SymbolBlock.imports, also with the files of net.export
mxnet_warns = pytest.mark.filterwarnings("ignore:Cannot decide type for the following arguments:UserWarning")


@mxnet_warns
@pytest.mark.parametrize("name", sorted(NETS))
def test_every_net_as_symbol(name, tmp_path):
    """The files of Gluon's own export, which stock Gluon loads: the same logits, bit for bit."""
    run = trained(get_net(name), INPUT_SHAPES[name])
    assert write_symbol(tmp_path / "net-symbol.json", run) == [
        tmp_path / "net-symbol.json",
        tmp_path / "net-0000.params",
    ]
    run.net.hybridize()
    X = mx.nd.random.uniform(shape=(30, *INPUT_SHAPES[name]))
    expected = run.net(X).asnumpy()
    run.net.export(str(tmp_path / "stock"))
    assert (tmp_path / "net-0000.params").read_bytes() == (tmp_path / "stock-0000.params").read_bytes()
    loaded = SymbolBlock.imports(str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params"))
    assert loaded(X).asnumpy().tobytes() == expected.tobytes()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run of the chapter's recipe, one epoch."""
    path = tmp_path_factory.mktemp("runs") / "run"
    assert train.main(["--epochs", "1", "--quiet", "--run-dir", str(path)]) == 0
    return path


def test_a_run_is_exported_and_read_as_the_readme_says(run_dir, run_module, tmp_path, fashion):
    """The documented command and cell, in a process without MXNet and this package."""
    process = run_module("export", "--run", run_dir, "--format", "onnx", "--output", "net.onnx")
    assert (process.returncode, process.stdout, process.stderr) == (0, "net.onnx\n", "")
    np.save(tmp_path / "images.npy", fashion.test_images[:1000])
    (cell,) = re.findall(r"```python\n(import numpy as np\nimport onnxruntime\n.*?)```", PAGE, re.DOTALL)
    assert "np.zeros((2, 28, 28), np.uint8)" in cell
    code = cell.replace("np.zeros((2, 28, 28), np.uint8)", "np.load('images.npy')")
    code += "import json, sys\nprint(json.dumps(logits.argmax(axis=1).tolist()))"
    code += "\nassert not {'mxnet', 'gluon_lenet'} & set(sys.modules)"
    if not HAS_RUNTIME:  # the same calls, of another class
        code = code.replace("import onnxruntime", "from onnx.reference import ReferenceEvaluator")
        code = code.replace("onnxruntime.InferenceSession", "ReferenceEvaluator")
        code = re.sub(r"print\(session.*", "print('divided by 255')", code)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    said, predictions = done.stdout.splitlines()
    assert said.endswith("divided by 255")
    expected = Trained(run_dir).probabilities(fashion.test_images[:1000]).argmax(axis=1)
    assert json.loads(predictions) == expected.tolist()


def test_the_metadata_tell_input_and_classes(run_dir, tmp_path):
    write_onnx(tmp_path / "net.onnx", Trained(run_dir, ctx="cpu"))
    meta = {entry.key: entry.value for entry in onnx.load(str(tmp_path / "net.onnx")).metadata_props}
    assert meta["input"] == (
        "images: float32 (batch, 1, 28, 28), of grey images uint8 (batch, 28, 28) with background 0 and ink up to 255: "
        "divided by 255"
    )
    assert json.loads(meta["classes"])[9] == "ankle boot"
    assert json.loads(meta["preprocessing"]) == {"resize": None, "pad": 0, "mean": 0.0, "std": 1.0}
    assert meta["recipe"] == "d2l_v1_fashion"


@mxnet_warns
def test_the_other_formats(run_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    net = Trained(run_dir, ctx="cpu").net
    net.save_parameters("stock.params")
    assert export.main(["--run", str(run_dir), "--format", "params"]) == 0
    assert export.main(["--run", str(run_dir), "--format", "symbol", "--output", "my-symbol.json"]) == 0
    assert capsys.readouterr().out == "d2l_v1_fashion.params\nmy-symbol.json\nmy-0000.params\n"
    assert (tmp_path / "d2l_v1_fashion.params").read_bytes() == (tmp_path / "stock.params").read_bytes()
    X = mx.nd.random.uniform(shape=(5, 1, 28, 28))
    loaded = SymbolBlock.imports("my-symbol.json", ["data"], "my-0000.params")
    assert loaded(X).asnumpy().tobytes() == net(X).asnumpy().tobytes()


def test_standard_output_gets_the_file_alone(run_dir):
    command = [sys.executable, "-m", "gluon_lenet.export", "--run", run_dir, "--format", "onnx"]
    process = subprocess.run(
        [*command, "--output", "/dev/stdout"], env=module_env(), stdout=subprocess.PIPE, check=True
    )
    onnx.checker.check_model(process.stdout)


def test_the_metadata_tell_every_step():
    assert Transform(resize=32, pad=2, mean=0.1307, std=0.3081).describe() == (
        "resized to 32 x 32 pixels (bilinear), then 2 pixels of background added on each side, then divided by 255, "
        "then minus 0.1307, divided by 0.3081"
    )


def test_bad_input_is_one_line_and_writes_nothing(run_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = ["--run", run_dir]
    for args, *says in (
        ([*run], "--format"),
        (["--format", "onnx"], "--run"),
        ([*run, "--format", "tflite"], "invalid choice: 'tflite'", "onnx"),
        (["--run", "nowhere", "--format", "onnx"], "nowhere holds no run"),
        ([*run, "--format", "onnx", "--output", "no/net.onnx"], "no/net.onnx cannot be written: there is no folder no"),
        ([*run, "--format", "html", "--output", "no/net.html"], "no/net.html cannot be written: there is no folder no"),
        ([*run, "--format", "onnx", "--output", 250 * "x"], "cannot be written: File name too long"),
        ([*run, "--format", "symbol", "--output", "net.json"], "net.json: end its name in -symbol.json"),
        ([*run, "--format", "symbol", "--output", "no/a-symbol.json"], "there is no folder no"),
        ([*run, "--format", "params", "--output", "."], "cannot be written: it is a folder"),
        ([*run, "--format", "onnx", "--weights", "best"], "has no best.safetensors"),
    ):
        fails_as_bad_input(export.main, args, capsys, *says)
    monkeypatch.setitem(sys.modules, "onnx", None)  # as if it were not installed
    fails_as_bad_input(export.main, [*run, "--format", "onnx"], capsys, "needs the package onnx", "pip install 'onnx")
    assert not list(tmp_path.iterdir())


def test_html_is_the_page_of_that_net(tmp_path, capsys):
    path = tmp_path / "one.html"
    assert export.main(["--run", "pretrained:relu_adam_mnist", "--format", "html", "--output", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    text = path.read_text(encoding="utf-8")
    assert "relu_adam_mnist" in text
    assert len(text.encode()) < 400_000
