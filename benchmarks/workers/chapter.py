"""The chapter's script as a reader runs it, with gluon_lenet instead of d2lzh."""

import gluon_lenet as d2l  # isort: skip  # first: it patches NumPy for MXNet

from mxnet import gluon, init

batch_size, lr, num_epochs, ctx = 256, 0.9, 5, d2l.try_gpu()
train_iter, test_iter = d2l.load_data_fashion_mnist(batch_size)
net = d2l.lenet()
net.initialize(init.Xavier(), ctx=ctx)
trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": lr})
d2l.train_ch5(net, train_iter, test_iter, batch_size, trainer, ctx, num_epochs)
