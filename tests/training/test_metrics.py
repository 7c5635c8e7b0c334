"""metrics.py and the Animator of viz/: the d2l course's helpers."""

import time

import mxnet as mx
import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

from conftest import ROOT
from gluon_lenet.training.metrics import Accumulator, EpochResult, Timer, accuracy
from gluon_lenet.viz.animator import Animator


def test_accumulator():
    metric = Accumulator(2)
    metric.add(1, 2.5)
    metric.add(mx.nd.array([3]).asscalar(), 0.5)
    assert (metric[0], metric[1]) == (4, 3)
    metric.reset()
    assert metric.data == [0, 0]
    with pytest.raises(ValueError, match="argument"):
        metric.add(1)


def test_timer_counts_laps_only():
    timer = Timer()
    time.sleep(0.02)
    first = timer.stop()
    time.sleep(0.05)  # between the laps
    timer.start()
    second = timer.stop()
    assert first >= 0.02
    assert timer.sum() == first + second
    assert timer.avg() == timer.sum() / 2
    assert timer.cumsum() == [first, first + second]
    assert second < 0.05


def test_accuracy_is_a_count():
    y_hat = mx.nd.array([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6]])
    assert accuracy(y_hat, mx.nd.array([1, 1, 1], dtype="int32")) == 2


def test_an_epochs_line_is_the_books():
    result = EpochResult(2, 0.98765, 0.5, 0.75, 1.24, 0.3)
    assert str(result) == "epoch 2, loss 0.9877, train acc 0.500, test acc 0.750, time 1.5 sec"


def test_animator_writes_a_file_outside_a_notebook(tmp_path):
    animator = Animator(xlabel="epoch", legend=["loss", "acc"], file=tmp_path / "a.png")
    animator.add(1, (2.0, None))
    animator.add(2, (1.0, 0.5))
    animator.save()
    assert [list(line.get_xdata()) for line in animator.axis.lines] == [[1, 2], [2]]
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 300


def test_animator_is_live_in_a_notebook(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    code = (
        "import gluon_lenet as d2l\n"
        "animator = d2l.Animator(legend=['a'])\n"
        "for i in range(5): animator.add(i, i * i)\n"
        "animator.save()"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    kernel = {"kernel_name": "python3", "timeout": 60}
    NotebookClient(notebook, **kernel, extra_arguments=["--IPKernelApp.log_level=ERROR"]).execute()
    (output,) = notebook.cells[0].outputs  # one picture that was updated, not five
    assert output.output_type == "display_data"
    assert len(output.data["image/png"]) > 5_000
