"""recipes.py and settings.py: every recipe names existing nets and data, and builds MXNet's objects as its row says."""

import mxnet as mx
import pytest

import gluon_lenet
from gluon_lenet.data.catalogue import DATASETS
from gluon_lenet.errors import InputError
from gluon_lenet.nets.layers import LeCun1998
from gluon_lenet.nets.losses import MAPLoss
from gluon_lenet.training import settings
from gluon_lenet.training.recipes import DEFAULT_RECIPE, RECIPES, get_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_builds_what_its_row_says(name):
    recipe = get_recipe(name)
    assert recipe.net in gluon_lenet.NETS
    assert recipe.dataset in DATASETS
    net = gluon_lenet.get_net(recipe.net)
    net.initialize(recipe.init.build())
    trainer = recipe.build_trainer(net, num_batches=100)
    assert type(trainer._optimizer).__name__.lower() == recipe.optimizer
    assert trainer.learning_rate == recipe.lr
    assert trainer._optimizer.wd == recipe.wd
    assert getattr(trainer._optimizer, "momentum", 0) == (recipe.momentum or 0)


def test_only_the_chapters_recipe_is_the_default_and_steps_as_the_book_does():
    assert DEFAULT_RECIPE == "d2l_v1_fashion"
    assert [name for name, recipe in RECIPES.items() if not recipe.last_batch_in_full] == [DEFAULT_RECIPE]


def test_an_unknown_recipe_is_named():
    with pytest.raises(InputError, match="unknown recipe 'lent'; choose from d2l_v1_fashion, "):
        get_recipe("lent")


def test_a_step_schedule():
    schedule = settings.Step(num_epochs=2, factor=0.5).build(0.8, num_batches=10, num_epochs=5)
    assert [schedule(update) for update in (1, 20, 21, 40, 41, 50)] == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2, 0.2])


def test_a_cosine_schedule_ends_at_0():
    schedule = settings.Cosine().build(0.8, num_batches=10, num_epochs=5)
    assert [schedule(update) for update in (0, 25, 50)] == pytest.approx([0.8, 0.4, 0], abs=1e-9)


def test_objects_are_of_mxnet_or_of_nets():
    assert isinstance(settings.Xavier().build(), mx.init.Xavier)
    assert isinstance(settings.LeCun1998().build(), LeCun1998)
    assert isinstance(settings.CrossEntropy().build(), mx.gluon.loss.SoftmaxCrossEntropyLoss)
    loss = settings.MAP(j=0.3).build()
    assert isinstance(loss, MAPLoss)
    assert loss.j == 0.3
