"""A loop as the chapter teaches to write it, over the batches that `%load_ext gluon_lenet` gives d2lzh."""

import gluon_lenet  # isort: skip  # first: it patches NumPy for MXNet

import time

import mxnet as mx
from mxnet import autograd, gluon, init, nd
from protocol import Contender, main


class ReadersLoop(Contender):
    """Waits for each batch's loss and accuracy, as the chapter does; modes: accelerate, mxnet."""

    def build(self):
        gluon_lenet.accelerate(self.mode == "accelerate", strict=self.mode == "accelerate")
        data = {part: self.arrays(part) for part in ("train", "test")}
        self.train_iter = gluon_lenet.Batches(*data["train"], self.batch_size, shuffle=True, seed=self.job["seed"])
        self.test_iter = gluon_lenet.Batches(*data["test"], self.batch_size)
        mx.random.seed(self.job["seed"])
        self.net = gluon_lenet.get_net(self.job["net"])
        self.net.initialize(init.Xavier())
        self.loss = gluon.loss.SoftmaxCrossEntropyLoss()
        self.trainer = gluon.Trainer(self.net.collect_params(), "sgd", {"learning_rate": self.job["lr"]})
        self.test_X = nd.array(self.floats("test")[0])

    def run_epoch(self):
        start = time.perf_counter()
        loss_sum = num_examples = 0
        for X, y in self.train_iter:
            with autograd.record():
                y_hat = self.net(X)
                loss = self.loss(y_hat, y).sum()
            loss.backward()
            self.trainer.step(self.batch_size)
            loss_sum += loss.asscalar()
            (y_hat.argmax(axis=1) == y.astype("float32")).sum().asscalar()  # the training accuracy, which it prints
            num_examples += y.size
        trained = time.perf_counter()
        num_correct = nd.zeros(1)
        for X, y in self.test_iter:
            num_correct += (self.net(X).argmax(axis=1) == y.astype("float32")).sum()
        test_acc = num_correct.asscalar() / self.job["num_test"]
        end = time.perf_counter()
        return {
            "train_seconds": trained - start,
            "seconds": end - start,
            "loss": float(loss_sum / num_examples),
            "test_acc": float(test_acc),
        }

    def logits(self, first, last):
        return self.net(self.test_X[first:last]).asnumpy()

    def versions(self):
        return {"mxnet": mx.__version__}


if __name__ == "__main__":
    main(ReadersLoop)
