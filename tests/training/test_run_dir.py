"""run_dir.py: what is written is read again, and what cannot be a run directory is named."""

import json

import pytest

from gluon_lenet.errors import InputError
from gluon_lenet.training import run_dir
from gluon_lenet.training.config import VERSION, RunConfig
from gluon_lenet.training.metrics import EpochResult
from gluon_lenet.training.recipes import RECIPES
from gluon_lenet.training.run_dir import RunDir


def test_a_run_directory(tmp_path):
    config = RunConfig(
        version=VERSION,
        recipe="说明",
        settings=RECIPES["d2l_v1_fashion"],
        seed=0,
        ctx=["cpu(0)"],
        threads=1,
        backprop="fused",
        data_dir=None,
    )
    results = [EpochResult(n, 2.0 / n, 0.5, 0.6, 1.0, 0.1) for n in (1, 2)]
    with RunDir.create(tmp_path / "a" / "b", "recipe") as directory:
        directory.write_config(config)
        for result in results:
            directory.append_metrics(result)
    lines = (tmp_path / "a" / "b" / "metrics.jsonl").read_text().splitlines()
    assert [EpochResult(**json.loads(line)) for line in lines] == results
    assert json.loads((tmp_path / "a" / "b" / "config.json").read_text(encoding="utf-8"))["recipe"] == "说明"
    assert directory.read_config() == config
    with (
        pytest.raises(InputError, match="already holds a run"),
        RunDir.create(tmp_path / "a" / "b", "recipe"),
    ):
        pass


def created(path):
    with RunDir.create(path, "r") as directory:
        return directory.path


def test_default_run_directories_never_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_dir.time, "strftime", lambda form: "20261122-010203")
    paths = [str(created(None)) for _ in range(3)]
    assert paths == ["runs/r-20261122-010203", "runs/r-20261122-010203-2", "runs/r-20261122-010203-3"]


def test_run_directories_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=f"run directory {path}.* is a file"):
            created(path)
    with pytest.raises(InputError, match="run directory /proc/nowhere cannot be written to"):
        created("/proc/nowhere")
    assert (tmp_path / "file").read_text() == "mine"
