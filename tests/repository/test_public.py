"""The public names, the plots behind them, and the package as pip installs it."""

import subprocess
import sys

import matplotlib
import pytest

import gluon_lenet
from conftest import ROOT, module_env
from gluon_lenet.training.metrics import EpochResult
from gluon_lenet.viz.figures import curves

matplotlib.use("Agg")


def test_every_public_name_is_there():
    for name in gluon_lenet.__all__:
        assert getattr(gluon_lenet, name) is not None
        assert name in dir(gluon_lenet)
    with pytest.raises(AttributeError, match="has no attribute 'lent'"):
        _ = gluon_lenet.lent


def test_importing_the_package_loads_neither_mxnet_nor_matplotlib():
    code = (
        "import sys, gluon_lenet; print([m for m in ('mxnet', 'matplotlib', 'IPython', 'd2lzh') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=module_env(), check=True)
    assert done.stdout == "[]\n"


def test_labels_are_the_books_words():
    assert gluon_lenet.get_fashion_mnist_labels([0, 9, 3.0]) == ["t-shirt", "ankle boot", "dress"]


def test_show_fashion_mnist_draws_a_row(fashion):
    from matplotlib import pyplot as plt

    _, test_iter = gluon_lenet.load_data_fashion_mnist(5)
    X, y = next(iter(test_iter))
    gluon_lenet.show_fashion_mnist(X, gluon_lenet.get_fashion_mnist_labels(y.asnumpy()))
    axes = plt.gcf().axes
    assert [axis.get_title() for axis in axes] == ["ankle boot", "pullover", "trouser", "trouser", "shirt"]
    assert (axes[0].images[0].get_array() * 255).round().astype(int).tolist() == fashion.test_images[0].tolist()
    plt.close("all")


def test_curves_hold_the_history():
    history = [EpochResult(n, 2.0 / n, 0.1 * n, 0.11 * n, 1.0, 0.1) for n in (1, 2, 3)]
    loss_axis, acc_axis = curves(history, "title").axes
    assert loss_axis.lines[0].get_ydata() == pytest.approx([2.0, 1.0, 2 / 3])
    assert acc_axis.lines[1].get_ydata() == pytest.approx([0.11, 0.22, 0.33])
    assert loss_axis.lines[0].get_xdata() == pytest.approx([1, 2, 3])


def test_an_installed_package_runs_from_anywhere(tmp_path):
    """`pip install .`, without fetching anything: every module is in the wheel, and the command line starts."""
    checkout, site, elsewhere = tmp_path / "checkout", tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["git", "-C", ROOT, "checkout-index", "-a", f"--prefix={checkout}/"], check=True)
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", site, checkout], check=True)
    installed, packaged = (
        {
            str(path.relative_to(folder))
            for path in (folder / "gluon_lenet").rglob("*")
            if path.suffix in (".py", ".otf", ".safetensors", ".json", ".md", ".js", ".css", ".html", ".png")
        }
        for folder in (site, checkout)
    )
    assert installed == packaged
    for module in ("train", "data"):
        done = subprocess.run(
            [sys.executable, "-m", f"gluon_lenet.{module}", "--help"],
            cwd=elsewhere,
            env=module_env(PYTHONPATH=str(site)),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert f"gluon_lenet.{module}" in done.stdout
