"""d2lzh_patch.py: cells like the book's, which import d2lzh, run in a real kernel and train on the real data."""

import re
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

import gluon_lenet
from conftest import ROOT

CELLS = [
    "%load_ext gluon_lenet",
    "import d2lzh as d2l\nfrom mxnet import gluon, init, nd\nfrom mxnet.gluon import nn",
    "train_iter, test_iter = d2l.load_data_fashion_mnist(batch_size=256)\nlen(train_iter), len(test_iter)",
    "ctx = d2l.try_gpu()\nctx, d2l.try_all_gpus()",
    "net = nn.Sequential()\n"
    "net.add(nn.Conv2D(6, kernel_size=5, activation='sigmoid'), nn.MaxPool2D(2, 2), nn.Dense(10))\n"
    "net.initialize(init.Xavier(), ctx=ctx)\n"
    "trainer = gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': 0.9})",
    "few = [batch for _, batch in zip(range(8), train_iter)]\n"
    "d2l.train_ch5(net, few, few[:2], 256, trainer, ctx, num_epochs=1)",
    "X, y = next(iter(test_iter))\nd2l.show_fashion_mnist(X[:9], d2l.get_fashion_mnist_labels(y[:9].asnumpy()))",
]


def test_cells_that_import_d2lzh_run_after_load_ext(fashion, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    _, _, data, devices, _, train, images = [cell.outputs for cell in notebook.cells]
    assert data[0]["data"]["text/plain"] == "(235, 40)"  # 60,000 and 10,000 images by 256
    assert devices[0]["data"]["text/plain"] in ("(cpu(0), [cpu(0)])", "(gpu(0), [gpu(0)])")
    assert "epoch 1, loss" in "".join(output["text"] for output in train)
    assert "image/svg+xml" in images[0]["data"]


@pytest.mark.parametrize("order", ["import d2lzh; patch_d2lzh()", "patch_d2lzh(); import d2lzh"])
def test_only_what_cannot_work_is_replaced(order):
    code = (
        "from gluon_lenet import patch_d2lzh\n"
        f"{order}; patch_d2lzh()\n"
        "import d2lzh\n"
        "for module in (d2lzh, d2lzh.utils):\n"
        "    print(*sorted(n for n, f in vars(module).items() if 'gluon_lenet' in getattr(f, '__module__', '')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == 2 * ["load_data_fashion_mnist", "try_all_gpus", "try_gpu"], done.stderr


@pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0:DeprecationWarning")
@pytest.mark.parametrize("page", ["docs/platforms.md", "docs/platforms.zh-CN.md"])
def test_lines_that_print_an_array_run_but_where_the_page_says_so(page, capsys):
    from mxnet import nd

    text = (ROOT / page).read_text(encoding="utf-8")
    lines = re.findall(r"^\| `(print\(.*\))` \| `(.*)` \|$", text, re.MULTILINE)
    assert len(lines) == 2
    for line, instead in lines:
        names = {"epoch": 1, "l": nd.array([1.0, 2.0]), "train_l": nd.array([1.0, 2.0])}
        if sys.version_info < (3, 15):
            exec(line, names)
        else:
            with pytest.raises(TypeError, match=r"requires a real number, not numpy.ndarray"):
                exec(line, names)
        exec(line.replace(instead.replace("asscalar", "asnumpy"), instead), names)
    assert capsys.readouterr().out.count("1.500000") == (4 if sys.version_info < (3, 15) else 2)


def test_patching_imports_nothing():
    code = "import sys, gluon_lenet; gluon_lenet.patch_d2lzh(); print({'d2lzh', 'mxnet', 'IPython'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr


def test_a_folder_the_caller_names_is_used(tmp_path):
    gluon_lenet.patch_d2lzh()
    import d2lzh as d2l

    with pytest.raises(gluon_lenet.errors.InputError, match=str(tmp_path)):
        d2l.load_data_fashion_mnist(256, root=str(tmp_path))
