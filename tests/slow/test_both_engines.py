"""Two epochs on the real data, gradients by the fused kernels and by autograd: the same run. `make test-slow`"""

import json

import pytest

from gluon_lenet import train
from gluon_lenet.training.recipes import RECIPES

ONE_OF_EACH_NET = {recipe.net: name for name, recipe in reversed(RECIPES.items())}.values()


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_OF_EACH_NET)
def test_two_epochs_by_both_engines(name, tmp_path):
    results = {}
    for mode in ("fused", "autograd"):
        args = ["--recipe", name, "--epochs", "2", "--seed", "0", "--backprop", mode, "--quiet"]
        assert train.main([*args, "--run-dir", str(tmp_path / mode)]) == 0
        results[mode] = [json.loads(line) for line in (tmp_path / mode / "metrics.jsonl").read_text().splitlines()]
    for fused, autograd in zip(results["fused"], results["autograd"], strict=True):
        assert fused["train_loss"] == pytest.approx(autograd["train_loss"], rel=0.03)
    assert fused["test_acc"] == pytest.approx(autograd["test_acc"], abs=0.003)
