"""Two epochs on the real data, gradients by the fused kernels and by autograd: the same run. `make test-slow`"""

from dataclasses import replace

import mxnet as mx
import pytest

from gluon_lenet.recipes import RECIPES
from gluon_lenet.runs import Run
from gluon_lenet.training import run_epochs

ONE_OF_EACH_NET = {recipe.net: name for name, recipe in reversed(RECIPES.items())}.values()


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_OF_EACH_NET)
def test_two_epochs_by_both_ends(name):
    results = {}
    for mode in ("fused", "autograd"):
        run = Run(name, replace(RECIPES[name], num_epochs=2), [mx.cpu()], seed=0, mode=mode)
        results[mode] = list(
            run_epochs(
                run.net, run.train_iter, run.test_iter, None, run.trainer, run.contexts, 2, run.engine, seed=run.seed
            )
        )
    for fused, autograd in zip(results["fused"], results["autograd"], strict=True):
        assert fused.train_loss == pytest.approx(autograd.train_loss, rel=0.03)
    assert fused.test_acc == pytest.approx(autograd.test_acc, abs=0.003)
