"""Stock Gluon at its best: the hybridized net, all images in memory as floats, no waiting for batches."""

import gluon_lenet  # isort: skip  # first: it patches NumPy for MXNet

import mxnet as mx
from mxnet import autograd, gluon, init, nd
from protocol import Contender, main


class Gluon(Contender):
    """The chapter's net, hybridized, under `autograd` and `gluon.Trainer`."""

    def build(self):
        self.X, self.y = map(nd.array, self.floats("train"))
        self.test_X, self.test_y = map(nd.array, self.floats("test"))
        mx.random.seed(self.job["seed"])
        self.net = gluon_lenet.get_net(self.job["net"])
        self.net.initialize(init.Xavier())
        self.loss = gluon.loss.SoftmaxCrossEntropyLoss()
        for block in (self.net, self.loss):
            block.hybridize(static_alloc=True, static_shape=True)
        settings = {"learning_rate": self.job["lr"]}
        self.trainer = gluon.Trainer(self.net.collect_params(), self.job["optimizer"], settings, kvstore=None)

    def train(self, order):
        order, loss_sum = nd.array(order, dtype="int32"), nd.zeros(1)
        for first in range(0, len(order), self.batch_size):
            rows = order[first : first + self.batch_size]
            X, y = nd.take(self.X, rows), nd.take(self.y, rows)
            with autograd.record():
                loss = self.loss(self.net(X), y)
            loss.backward()
            self.trainer.step(len(rows))
            loss_sum += loss.sum()
        return loss_sum.asscalar() / len(order)

    def count_correct(self):
        num_correct = nd.zeros(1)
        for first in range(0, len(self.test_X), 1000):
            y_hat = self.net(self.test_X[first : first + 1000])
            num_correct += (y_hat.argmax(axis=1) == self.test_y[first : first + 1000]).sum()
        return num_correct.asscalar()

    def logits(self, first, last):
        return self.net(self.test_X[first:last]).asnumpy()

    def versions(self):
        return {"mxnet": mx.__version__}


if __name__ == "__main__":
    main(Gluon)
