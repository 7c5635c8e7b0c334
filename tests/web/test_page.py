"""The page without a browser: its size, its texts, what it refuses, the command."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import ROOT, fails_as_bad_input
from gluon_lenet import demo
from gluon_lenet.data.catalogue import DATASETS
from gluon_lenet.data.datasets import load_dataset
from gluon_lenet.data.transforms import Transform
from gluon_lenet.errors import InputError
from gluon_lenet.nets.layers import PrintLayer, Reshape
from gluon_lenet.nets.zoo import NETS, get_net, nn
from gluon_lenet.training.config import VERSION
from gluon_lenet.training.recipes import RECIPES
from gluon_lenet.web import files, samples, sources
from gluon_lenet.web.describe import describe_net
from gluon_lenet.web.page import Shown, page

BLANK = np.zeros((1, 28, 28), np.uint8)
LARGE = "lenet5_relu_maxpool_wide"  # 184,606 weights take 492,284 bytes in half precision and base64


def shown(recipe: str, label: str = "") -> Shown:
    """The net of a recipe, untrained."""
    settings = RECIPES[recipe]
    net = get_net(settings.net)
    net.initialize(settings.init.build())
    net(settings.transform(BLANK))
    return Shown(net, settings.net, recipe, settings.transform, DATASETS[settings.dataset], label)


@pytest.fixture(scope="module")
def seven() -> list[Shown]:
    return [shown(recipe) for recipe in files.RECIPES]


def sequence(*layers) -> nn.HybridSequential:
    net = nn.HybridSequential()
    net.add(*layers)
    net.initialize()
    net(Transform()(BLANK))
    return net


def test_the_seven_recipes_are_of_all_nets_but_the_records():
    """Whose weights would make the page half as long again; `--run pretrained:best_mnist` shows one."""
    records = {RECIPES[recipe].net for recipe in ("best_mnist", "best_fashion")}
    assert {RECIPES[recipe].net for recipe in files.RECIPES} == set(NETS) - records


def test_sizes(seven):
    assert len(page(seven).encode()) < 2_000_000
    for one in seven:
        size = len(page([one]).encode())
        assert size < (700_000 if one.name == LARGE else 400_000), one.name


def test_the_page_loads_and_sends_nothing(seven):
    """A browser proves it in test_in_browser.py; here, that no text asks for it."""
    html = page(seven)
    without_data = html[: html.index('id="data">')] + html[html.index("</script>", html.index('id="data">')) :]
    assert not re.search(r"https?:|fetch\(|XMLHttpRequest|WebSocket|sendBeacon|import\(|@import|url\(", without_data)
    assert re.findall(r'(?:src|href)="([^"]*)"', without_data) == ["data:,", "#pad"]
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)[1]
    assert policy.startswith("default-src 'none'; img-src data: blob:;")
    assert "unsafe" not in policy


def test_weights_come_through_in_half_precision(seven):
    described = seven[0].describe()
    weights = np.frombuffer(base64.b64decode(described["weights"]), "<f2")
    expected = np.concatenate([p.data().asnumpy().ravel() for p in seven[0].net.collect_params().values()])
    np.testing.assert_array_equal(weights, expected.astype(np.float16))
    assert described["parameters"] == len(weights) == 61_706


def test_a_name_cannot_leave_its_text():
    html = page([shown("d2l_v1_fashion", label="</script><script>alert(1)</script>")])
    assert html.count("</script>") == 2  # the data's and the page's own
    data = json.loads(html[html.index('id="data">') + 10 :].split("</script>")[0])
    assert data["nets"][0]["label"] == ["</script><script>alert(1)</script>"]


def test_samples_are_the_first_test_image_of_each_class():
    for name in samples.DATASETS:
        data = load_dataset(name)
        first = [int(np.argmax(data.test_labels == label)) for label in range(10)]
        np.testing.assert_array_equal(samples.sample_images(name), data.test_images[first])


# Texts and sources


def test_every_language_has_every_text():
    english, chinese = sources.texts()["en"], sources.texts()["zh"]
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", chinese[key])), key
        assert text.strip()
        assert chinese[key].strip()


def test_every_text_is_used_and_every_used_text_is_there():
    code = "".join(path.read_text(encoding="utf-8") for path in sources.CLIENT.iterdir())
    keys = sources.texts()["en"].keys()
    used = set(re.findall(r'\bt\("([\w.]+)"', code)) | set(re.findall(r'data-t="(\w+)"', code))
    assert used <= keys
    loose = {key for key in keys - used if "." not in key and not re.search(rf'"{key}"', code)}
    assert not loose - {"turn", "right", "down", "scribble", "invert"}  # the sliders', by their names
    assert {f"net.{name}" for name in NETS} <= keys
    assert {f"act.{name}" for name in ("sigmoid", "tanh", "relu", "softrelu", "softsign", "scaled_tanh")} <= keys


def test_modules_are_joined_in_the_order_of_their_imports():
    script = sources.script("page")
    names = re.findall(r"^const (\w+)_js = \(\(\) => \{$", script, re.MULTILINE)
    assert names[-1] == "page"
    assert len(names) == len(set(names))
    modules = {path.stem for path in sources.CLIENT.glob("*.js")}
    assert set(names) == modules - {"widget"}
    for name in names:
        text = (sources.CLIENT / f"{name}.js").read_text(encoding="utf-8")
        assert text.startswith("// "), f"{name}.js does not say what comes in and what goes out"
        for other in re.findall(r'from "\./(\w+)\.js"', text):
            assert names.index(other) < names.index(name), f"{name}.js and {other}.js import each other"
    assert "import " not in re.sub(r"//.*|/\*.*?\*/", "", script, flags=re.DOTALL)


# What is refused


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            lambda: [nn.Conv2D(4, 5), nn.BatchNorm(), nn.Dense(10)],
            "cannot compute the layer BatchNorm; it knows Activation, AvgPool2D",
        ),
        (lambda: [nn.Dense(8), nn.LeakyReLU(0.1), nn.Dense(10)], "LeakyReLU"),
        (lambda: [nn.MaxPool2D(3, ceil_mode=True), nn.Dense(10)], "MaxPool2D 3x3, stride 3 with ceil_mode"),
        (lambda: [nn.Conv2D(4, 3, dilation=2), nn.Dense(10)], "with dilation or groups"),
        (lambda: [nn.GlobalAvgPool2D(), nn.Dense(10)], "GlobalAvgPool2D"),
        (lambda: [nn.Activation("tanh"), nn.Dense(10)], "follows no layer of weights"),
        (lambda: [nn.Dense(4, flatten=False), nn.Dense(10)], "flatten=False"),
    ],
)
def test_a_layer_that_the_page_lacks_is_named(layers, message):
    with pytest.raises(InputError, match=re.escape(message)):
        describe_net(sequence(*layers()), (1, 28, 28))


@pytest.mark.parametrize("net", [nn.Dense(10), nn.HybridSequential()])
def test_only_sequential_nets_with_weights(net):
    with pytest.raises(InputError, match="the page shows sequential nets with weights"):
        describe_net(net, (1, 28, 28))


@pytest.mark.parametrize(("value", "message"), [(np.nan, "NaN or infinite"), (7e4, "half precision ends at 65,504")])
def test_weights_that_cannot_be_written(value, message):
    net = sequence(nn.Dense(10))
    net[0].bias.set_data(net[0].bias.data() + value)
    with pytest.raises(InputError, match=message):
        describe_net(net, (1, 28, 28))


def test_layers_that_change_nothing_are_left_out():
    net = sequence(Reshape(), PrintLayer(), nn.Dropout(0.5), nn.Flatten(), nn.Dense(10, use_bias=False))
    (layer,) = describe_net(net, (1, 28, 28))["layers"]
    assert (layer["kind"], layer["name"], layer["in"], layer["out"]) == ("dense", "OUT", [1, 28, 28], [10, 1, 1])
    assert layer["arrays"] == {"weight": 7840}


def test_outputs_must_be_the_classes():
    one = shown("d2l_v1_fashion", label="mine")
    with pytest.raises(InputError, match=r"mine: lenet5_sigmoid_maxpool: .* \[10, 1, 1\], and two has 2 classes"):
        page([replace(one, entry=replace(one.entry, name="two", classes=("a", "b"), classes_zh=("a", "b")))])


# The command


@pytest.fixture
def trained(monkeypatch):
    """`Trained` without a run: the net of the recipe that the path names."""
    from gluon_lenet.inference import trained

    def read(run, ctx):
        recipe = run.split(":")[-1].split("/")[-1].split("-")[0]
        one = shown(recipe)
        settings = RECIPES[recipe]
        return SimpleNamespace(net=one.net, recipe=settings, name=recipe, transform=settings.transform, entry=one.entry)

    monkeypatch.setattr(trained, "Trained", read)


def test_the_command_writes_the_pretrained_nets(tmp_path, capsys, trained):
    path = tmp_path / "page.html"
    assert demo.main(["--output", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: {path.stat().st_size:,} bytes\n"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_without_output_it_writes_and_opens_and_replaces_its_own_page_only(tmp_path, capsys, trained, monkeypatch):
    opened = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files.webbrowser, "open", lambda address: opened.append(address) or True)
    monkeypatch.setenv("DISPLAY", ":0")
    run = ["--run", "runs/d2l_v1_fashion-1", "runs/d2l_v1_fashion-2"]
    for _ in range(2):
        assert demo.main(run) == 0
    assert opened == 2 * [(tmp_path / "lenet.html").as_uri()]
    text = (tmp_path / "lenet.html").read_text(encoding="utf-8")
    assert '"label":["d2l_v1_fashion-1"]' in text
    assert '"label":["d2l_v1_fashion-2"]' in text
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("BROWSER", raising=False)
    assert demo.main(run) == 0
    assert "open lenet.html in a browser" in capsys.readouterr().out
    (tmp_path / "lenet.html").write_text("mine")
    fails_as_bad_input(demo.main, run, capsys, "lenet.html exists and is not a page of this command")
    assert (tmp_path / "lenet.html").read_text() == "mine"


def test_bad_arguments_are_one_line(tmp_path, capsys):
    old = tmp_path / "old"
    old.mkdir()
    config = json.loads((ROOT / "tests" / "samples" / "configs" / "format_2.json").read_text())
    (old / "config.json").write_text(json.dumps({**config, "version": VERSION + 1}))
    (old / "last.safetensors").write_bytes(b"")
    output = ["--output", tmp_path / "page.html"]
    fails_as_bad_input(demo.main, ["--run", tmp_path / "none", *output], capsys, "none", "holds no run")
    fails_as_bad_input(demo.main, ["--run", old, *output], capsys, "config.json", "format")
    fails_as_bad_input(demo.main, ["--output", tmp_path], capsys, "is a folder; name a file")
    fails_as_bad_input(demo.main, ["--output", tmp_path / "no" / "page.html"], capsys, "there is no folder")
    fails_as_bad_input(demo.main, ["--run"], capsys, "--run")
    fails_as_bad_input(demo.main, ["--output", ""], capsys, "output is empty")
    assert not (tmp_path / "page.html").exists()
