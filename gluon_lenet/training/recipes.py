"""A recipe's name -> everything that decides a result: source, net, data, optimization, and what was published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

import msgspec

from gluon_lenet.data.augment import CLOTHING, HANDWRITING, LECUN_1998, Augmentation
from gluon_lenet.data.transforms import Transform
from gluon_lenet.errors import InputError
from gluon_lenet.fields import Count, Natural, NotNegative, Positive, Share, Text
from gluon_lenet.training.settings import MAP, MSRA, Cosine, CrossEntropy, LeCun1998, Normal, Step, Variant, Xavier

if TYPE_CHECKING:  # the command line reads recipes before MXNet is loaded
    from mxnet import gluon
    from mxnet.gluon import nn

VARIANT = "lenet_variant"


@dataclass(frozen=True)
class Recipe:
    """One write-up's training run; recipes read like rows of a table."""

    source: Text
    published: Text  # the result of the source or of a reference run
    net: Text  # a name in nets.zoo.NETS, or VARIANT
    dataset: Text  # a name in data.catalogue.DATASETS
    optimizer: Literal["sgd", "adam"]  # MXNet's name
    lr: Positive  # for the gradient averaged over the batch
    batch_size: Natural
    num_epochs: Natural
    last_batch_in_full: bool = True  # False divides its gradient by batch_size too, as the book's train_ch5
    momentum: Share | None = None  # of sgd
    wd: NotNegative = 0.0  # weight decay: wd * weight is added to the gradient
    schedule: Step | Cosine | None = None  # of lr; None keeps it constant
    init: Xavier | LeCun1998 | Normal | MSRA = Xavier()  # of the weights
    loss: CrossEntropy | MAP = CrossEntropy()
    transform: Transform = Transform()  # preprocessing of the net's input
    augment: Augmentation | None = None  # random changes of training images
    num_validation: Count = 0  # training images held out to select the best weights
    num_train: Natural | None = None  # how many of the other training images are used; None for all
    variant: Variant | None = None  # the net, if its name is VARIANT

    def build_net(self, classes: int) -> nn.HybridSequential:
        """The net, uninitialized; raises InputError as `nets.zoo.get_net` does."""
        from gluon_lenet.nets.zoo import get_net

        if (self.net == VARIANT) != (self.variant is not None):
            raise InputError(f"net {self.net!r} and variant {self.variant} do not fit: {VARIANT} has one, others none")
        return get_net(self.net, classes) if self.variant is None else self.variant.build(classes)

    def build_trainer(
        self, net: gluon.Block, num_batches: int, make: Callable[..., gluon.Trainer] | None = None
    ) -> gluon.Trainer:
        """The trainer of an initialized net, for epochs of `num_batches` batches; `make` may be another kind's."""
        from mxnet import gluon

        settings = {"learning_rate": self.lr, "wd": self.wd}
        if self.momentum is not None:
            settings["momentum"] = self.momentum
        if self.schedule is not None:
            settings["lr_scheduler"] = self.schedule.build(self.lr, num_batches, self.num_epochs)
        return (make or gluon.Trainer)(net.collect_params(), self.optimizer, settings, update_on_kvstore=False)

    def fitted(self, num_train: int) -> Recipe:
        """The recipe for another data set, of `num_train` training images, which may be few.

        At most a sixth is held out to select the best weights, and an epoch has at least twenty batches: in the few
        batches of the recipe's own size, the net would hardly learn.
        """
        num_validation = min(self.num_validation, num_train // 6)
        batch_size = min(self.batch_size, max(1, (num_train - num_validation) // 20))
        return replace(self, num_validation=num_validation, batch_size=batch_size)


def settings_of(recipe: Recipe) -> dict:
    """The settings that determine the results, as JSON has them.

    Defaults are left out, so that a new field of Recipe changes nothing.
    """
    recipe = msgspec.convert(msgspec.to_builtins(recipe), Recipe)  # 12 is 12.0 where a float is meant
    return {
        field.name: msgspec.json.decode(msgspec.json.encode(getattr(recipe, field.name)))
        for field in fields(recipe)
        if field.name not in ("source", "published")
        and (field.default is MISSING or getattr(recipe, field.name) != field.default)
    }


RECIPES = {
    "d2l_v1_fashion": Recipe(
        source="d2l-zh v1, chapter LeNet (write-up 001)",
        published="0.757-0.769 test accuracy in published runs",
        net="lenet5_sigmoid_maxpool",
        dataset="fashion_mnist",
        optimizer="sgd",
        lr=0.9,
        batch_size=256,
        num_epochs=5,
        last_batch_in_full=False,
    ),
    "d2l_v2_fashion": Recipe(
        source="d2l course, lesson 21 (write-up 004)",
        published="0.763-0.817 test accuracy in five reference runs",
        net="lenet5_sigmoid_avgpool",
        dataset="fashion_mnist",
        optimizer="sgd",
        lr=0.9,
        batch_size=256,
        num_epochs=10,
    ),
    "relu_adam_mnist": Recipe(
        source="a book's section 4.4 (write-up 000), fed 0-1 pixels; there 0-255 to a net trained on 0-1",
        published="0.9812 test accuracy",
        net="lenet5_relu_maxpool",
        dataset="mnist",
        optimizer="adam",
        lr=0.001,
        batch_size=64,
        num_epochs=3,
    ),
    "sgd_step_mnist": Recipe(
        source="a tutorial (write-up 002), its schedule stepped, its best weights selected on held-out training data",
        published="none; 0.944-0.959 test accuracy in three reference runs",
        net="lenet5_sigmoid_avgpool_c5",
        dataset="mnist",
        optimizer="sgd",
        lr=0.001,
        batch_size=16,
        num_epochs=10,
        momentum=0.9,
        schedule=Step(num_epochs=10, factor=0.1),
        num_validation=5000,
    ),
    "tanh_adam_mnist": Recipe(
        source="a report (write-up 003)",
        published="0.9880 test accuracy",
        net="lenet5_tanh_avgpool",
        dataset="mnist",
        optimizer="adam",
        lr=0.001,
        batch_size=64,
        num_epochs=30,
        transform=Transform(resize=32, mean=0.1307, std=0.3081),
        num_validation=5000,
    ),
    "lecun1998_mnist": Recipe(
        source="LeCun, Bottou, Bengio, Haffner 1998, section III; its second-order steps replaced by momentum and wd",
        published="0.95 % test error in the paper, 0.98 % in a reference run",
        net="lenet5_1998",
        dataset="mnist",
        optimizer="sgd",
        lr=0.002,
        batch_size=32,
        num_epochs=20,
        momentum=0.9,
        wd=0.002,
        schedule=Cosine(),
        init=LeCun1998(),
        loss=MAP(),
        transform=Transform(pad=2, mean=0.1 / 1.275, std=1 / 1.275),  # paper -0.1, ink 1.175: x * 1.275 - 0.1
    ),
    "lecun1998_distorted": Recipe(
        source="the same, trained on distorted digits as in section III.B, redrawn every epoch",
        published="0.80 % test error in the paper",
        net="lenet5_1998",
        dataset="mnist",
        optimizer="sgd",
        lr=0.002,
        batch_size=32,
        num_epochs=20,
        momentum=0.9,
        schedule=Cosine(),
        init=LeCun1998(),
        loss=MAP(),
        transform=Transform(pad=2, mean=0.1 / 1.275, std=1 / 1.275),
        augment=LECUN_1998,
    ),
    "augmented_mnist": Recipe(
        source="write-up 003's weakness, rotated and stretched digits, remedied by augmentation",
        published="none; 0.9947 test accuracy in a reference run",
        net="lenet5_relu_maxpool",
        dataset="mnist",
        optimizer="adam",
        lr=0.002,
        batch_size=128,
        num_epochs=40,
        schedule=Cosine(),
        augment=HANDWRITING,
    ),
    "speedrun_mnist": Recipe(
        source="99 % of MNIST's test images in as few seconds as can be; settings chosen on held-out training images",
        published="none on a CPU; on a GPU 0.9904 in 0.76 s",
        net="lenet5_relu_maxpool",
        dataset="mnist",
        optimizer="adam",
        lr=0.006,
        batch_size=64,
        num_epochs=3,
        schedule=Cosine(),
        loss=CrossEntropy(smoothing=0.05),
        transform=Transform(mean=0.1307, std=0.3081),
    ),
    "best_mnist": Recipe(
        source="the most from at most 61,706 parameters; net and settings chosen on held-out training images",
        published="about 0.995 test accuracy for nets of this size",
        net="lenet5_relu_maxpool_deep",
        dataset="mnist",
        optimizer="adam",
        lr=0.002,
        batch_size=128,
        num_epochs=40,
        schedule=Cosine(),
        init=MSRA(),
        transform=Transform(mean=0.1307, std=0.3081),
        augment=replace(HANDWRITING, rotation=12, shift=1.5),
    ),
    "better_fashion": Recipe(
        source="the exercise at the end of write-up 001: a better LeNet for Fashion-MNIST",
        published="none; 0.9176 test accuracy in a reference run",
        net="lenet5_relu_maxpool_wide",
        dataset="fashion_mnist",
        optimizer="adam",
        lr=0.002,
        batch_size=128,
        num_epochs=24,
        schedule=Cosine(),
        augment=CLOTHING,
    ),
    "best_fashion": Recipe(
        source="the most from at most 200,000 parameters; net and settings chosen on held-out training images",
        published="0.925 test accuracy below 100,000 parameters",
        net="lenet5_relu_maxpool_wide_c5",
        dataset="fashion_mnist",
        optimizer="adam",
        lr=0.002,
        batch_size=128,
        num_epochs=50,
        wd=2e-4,
        schedule=Cosine(),
        loss=CrossEntropy(smoothing=0.05),
        transform=Transform(mean=0.286, std=0.353),
        augment=CLOTHING,
    ),
}

DEFAULT_RECIPE = "d2l_v1_fashion"
FOLDER_RECIPE = "augmented_mnist"  # the default for a folder of pictures, usually of few: it makes the most of each


def get_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        InputError: no recipe has that name; the message lists the names.
    """
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}; choose from {', '.join(RECIPES)}")
    return RECIPES[name]
