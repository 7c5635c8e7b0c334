"""A recipe's name -> everything that decides a result: source, net, data, optimization, and what was published."""

from dataclasses import dataclass

from gluon_lenet.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """One write-up's training run; two recipes read side by side like rows of a table."""

    source: str
    net: str  # a name in nets.NETS
    dataset: str  # a name in data.datasets
    optimizer: str  # a name of mx.optimizer
    lr: float  # on the gradient averaged over the batch
    batch_size: int
    num_epochs: int
    published: str  # test accuracy, and where it was read


RECIPES = {
    "d2l_v1_fashion": Recipe(
        source="d2l-zh v1, chapter LeNet (write-up 001)",
        net="lenet5_sigmoid_maxpool",
        dataset="fashion_mnist",
        optimizer="sgd",
        lr=0.9,
        batch_size=256,
        num_epochs=5,
        published="0.757-0.769 test accuracy in published runs",
    ),
}

DEFAULT_RECIPE = "d2l_v1_fashion"


def get_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        InputError: no recipe has that name; the message lists those there are.
    """
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}; choose from {', '.join(RECIPES)}")
    return RECIPES[name]
