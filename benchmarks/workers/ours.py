"""gluon_lenet itself: its loop, its batches, its gradients by the fused kernels or by autograd."""

import gluon_lenet  # isort: skip  # first: it patches NumPy for MXNet

import mxnet as mx
import numpy as np
from mxnet import init, nd
from protocol import Contender, main

from gluon_lenet.engines.choice import choose
from gluon_lenet.nets.zoo import get_net
from gluon_lenet.training.loop import Data, Loop
from gluon_lenet.training.recipes import get_recipe


class Ours(Contender):
    """Trains like `python -m gluon_lenet.train`, but holds out no training images; modes: fused, autograd, augmented.

    "augmented" is fused, and the training images are distorted as the recipe says; the others leave them as they are.
    """

    def build(self):
        recipe = get_recipe(self.job["recipe"])
        transform = recipe.transform
        batches = {}
        for part in ("train", "test"):
            images, labels = self.arrays(part, raw=True)
            images.flags.writeable = False  # read-only, so that they are resized only once
            size = min(self.batch_size, len(images))
            is_train = part == "train"
            augment = recipe.augment if is_train and self.mode == "augmented" else None
            batches[part] = gluon_lenet.Batches(
                images, labels, size, shuffle=is_train, seed=self.job["seed"], transform=transform, augment=augment
            )
        mx.random.seed(self.job["seed"])
        self.net = get_net(recipe.net)
        self.net.initialize(init.Xavier())
        self.net(nd.zeros((1, *batches["train"].image_shape)))
        self.net.hybridize(static_alloc=True, static_shape=True)
        trainer = recipe.build_trainer(self.net, len(batches["train"]))
        self.is_fused = self.mode != "autograd"
        backprop = "fused" if self.is_fused else "autograd"
        engine = choose(self.net, [mx.cpu()], batches["train"], backprop, recipe.loss.build())
        self.epochs = Loop(trainer, engine).epochs(Data(batches["train"], batches["test"]), num_epochs=1000)
        if self.is_fused:
            self.fused, self.transform, self.test_images = engine.fused, transform, next(batches["test"].parts()).images
        else:
            self.test_images = nd.array(self.floats("test")[0])

    def run_epoch(self):
        result = next(self.epochs)
        return {
            "train_seconds": result.train_seconds,
            "seconds": result.train_seconds + result.eval_seconds,
            "loss": result.train_loss,
            "test_acc": result.test_acc,
        }

    def logits(self, first, last):
        if self.is_fused:
            return self.fused.forward(self.test_images, np.arange(first, last), self.transform)
        return self.net(self.test_images[first:last]).asnumpy()

    def versions(self):
        return {"gluon_lenet": gluon_lenet.__version__, "mxnet": mx.__version__}


if __name__ == "__main__":
    main(Ours)
