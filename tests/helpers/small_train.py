"""gluon_lenet.train's arguments -> its run, on the first 6,000 training and 1,000 test images, and three more recipes.

`python tests/helpers/small_train.py ARGS` is `python -m gluon_lenet.train ARGS` with these; `shrink` puts them into the
calling process. The images, the loop, the kernels and the files are the real ones; only the epochs are shorter.
"""

import sys
from contextlib import ExitStack
from dataclasses import replace
from unittest import mock

from gluon_lenet import train
from gluon_lenet.data.augment import HANDWRITING
from gluon_lenet.data.datasets import load_dataset
from gluon_lenet.nets.zoo import NETS, nn  # nn from here, since NumPy must be patched before MXNet is imported
from gluon_lenet.training import recipes, setup

SMALL = {  # the first two hold out 1,000 images and have an optimizer with a state
    "small_momentum": replace(
        recipes.RECIPES["sgd_step_mnist"], lr=0.01, num_epochs=12, num_validation=1000, augment=HANDWRITING
    ),
    "small_dropout": replace(
        recipes.RECIPES["relu_adam_mnist"], net="lenet_dropout", num_epochs=12, num_validation=1000
    ),
    "small_clothes": replace(recipes.RECIPES["relu_adam_mnist"], dataset="fashion_mnist", lr=0.004, num_epochs=2),
}


def lenet_dropout(classes=10):
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(channels=4, kernel_size=5, strides=2, activation="relu"),  # (b, 1, 28, 28) -> (b, 4, 12, 12)
        nn.Dropout(0.5),
        nn.Dense(32, activation="relu"),  # -> (b, 32)
        nn.Dropout(0.5),
        nn.Dense(classes),  # -> (b, classes)
    )
    return net


def small_dataset(name, data_dir=None):
    data = load_dataset(name, data_dir)
    return replace(
        data,
        train_images=data.train_images[:6000],
        train_labels=data.train_labels[:6000],
        test_images=data.test_images[:1000],
        test_labels=data.test_labels[:1000],
    )


def shrink(set_item, set_attribute):
    """Put the small recipes, the net and the small data in place."""
    set_item(NETS, "lenet_dropout", lenet_dropout)
    for name, recipe in SMALL.items():
        set_item(recipes.RECIPES, name, recipe)
    set_attribute(setup, "load_dataset", small_dataset)


def train_small(path, *args):
    """The run of `train.main(args)` with these in place, in this process, in the folder `path`."""
    with ExitStack() as stack:
        shrink(
            lambda table, name, value: stack.enter_context(mock.patch.dict(table, {name: value})),
            lambda module, name, value: stack.enter_context(mock.patch.object(module, name, value)),
        )
        assert train.main([*args, "--quiet", "--run-dir", str(path)]) == 0
    return path


if __name__ == "__main__":
    shrink(lambda table, name, value: table.__setitem__(name, value), setattr)
    sys.exit(train.main())
