"""The book's own package: d2lzh.train_ch5 and d2lzh.load_data_fashion_mnist, as the chapter calls them."""

import gluon_lenet  # isort: skip  # first: it patches NumPy for MXNet

import contextlib
import io
import re
import time

import d2lzh
import mxnet as mx
from mxnet import gluon, init, nd
from mxnet.gluon.data import vision
from protocol import Contender, main


class D2lzh(Contender):
    """The chapter's cells. As in the book's printed time, an epoch includes the test pass."""

    def build(self):
        contender = self

        class FashionMNIST(vision.FashionMNIST):
            """Gluon's data set over verified files: the SHA-1s it requires are of files withdrawn in 2017."""

            def _get_data(self):
                images, labels = contender.arrays("train" if self._train else "test")
                self._data, self._label = nd.array(images[..., None], dtype="uint8"), labels.astype("int32")

        vision.FashionMNIST = FashionMNIST
        self.train_iter, self.test_iter = d2lzh.load_data_fashion_mnist(self.batch_size)
        self.net = gluon_lenet.lenet()
        mx.random.seed(self.job["seed"])
        self.net.initialize(init.Xavier())
        self.trainer = gluon.Trainer(self.net.collect_params(), "sgd", {"learning_rate": self.job["lr"]})
        self.test_X = nd.array(self.floats("test")[0])

    def run_epoch(self):
        printed, start = io.StringIO(), time.perf_counter()
        with contextlib.redirect_stdout(printed):
            d2lzh.train_ch5(self.net, self.train_iter, self.test_iter, self.batch_size, self.trainer, mx.cpu(), 1)
        seconds = time.perf_counter() - start
        loss, test_acc = re.search(r"loss ([\d.]+), train acc [\d.]+, test acc ([\d.]+)", printed.getvalue()).groups()
        return {"train_seconds": None, "seconds": seconds, "loss": float(loss), "test_acc": float(test_acc)}

    def logits(self, first, last):
        return self.net(self.test_X[first:last]).asnumpy()

    def versions(self):
        return {"d2lzh": d2lzh.__version__, "mxnet": mx.__version__}


if __name__ == "__main__":
    main(D2lzh)
