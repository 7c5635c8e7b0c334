"""PyTorch: the same net from its list of layers; all images in memory as floats."""

import torch
from protocol import Contender, main
from torch import nn

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
POOLINGS = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}


def make_layer(kind: str, *sizes: int) -> nn.Module:
    """The PyTorch layer for one row of the job's `layers`."""
    if kind == "conv":
        channels_in, channels_out, kernel, padding = sizes
        return nn.Conv2d(channels_in, channels_out, kernel, padding=padding)
    if kind == "dense":
        return nn.Linear(*sizes)
    if kind == "flatten":
        return nn.Flatten()
    return POOLINGS[kind](*sizes) if kind in POOLINGS else ACTIVATIONS[kind]()


class PyTorch(Contender):
    """Modes: eager, channels_last, compile."""

    def build(self):
        torch.set_num_threads(self.threads)
        torch.manual_seed(self.job["seed"])
        self.layout = torch.channels_last if self.mode == "channels_last" else torch.contiguous_format
        self.X, self.y = map(torch.from_numpy, self.floats("train"))
        self.test_X, self.test_y = map(torch.from_numpy, self.floats("test"))
        net = nn.Sequential(*(make_layer(*layer) for layer in self.job["layers"])).to(memory_format=self.layout)
        for layer in net:
            if hasattr(layer, "weight"):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        parameters, lr = net.parameters(), self.job["lr"]
        if self.job["optimizer"] == "adam":
            self.optimizer = torch.optim.Adam(parameters, lr=lr, fused=True)
        else:
            self.optimizer = torch.optim.SGD(parameters, lr=lr, momentum=self.job["momentum"] or 0, fused=True)
        steps = -(-self.job["num_train"] // self.batch_size) * (self.job["cosine"] or 0)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, steps) if steps else None
        # one graph for full batches and one for the last, smaller one: faster than one for any size
        self.net = torch.compile(net, dynamic=False) if self.mode == "compile" else net
        self.loss = nn.CrossEntropyLoss(label_smoothing=self.job["smoothing"])

    def train(self, order):
        order, loss_sum = torch.from_numpy(order), torch.zeros(())
        for rows in order.split(self.batch_size):
            X, y = self.X[rows].to(memory_format=self.layout), self.y[rows]
            self.optimizer.zero_grad()
            loss = self.loss(self.net(X), y)
            loss.backward()
            self.optimizer.step()
            if self.schedule:
                self.schedule.step()
            loss_sum += loss.detach() * len(rows)
        return loss_sum / len(order)

    @torch.inference_mode()
    def count_correct(self):
        batches = zip(self.test_X.split(1000), self.test_y.split(1000), strict=True)
        return sum((self.net(X.to(memory_format=self.layout)).argmax(1) == y).sum() for X, y in batches)

    @torch.inference_mode()
    def logits(self, first, last):
        return self.net(self.test_X[first:last].to(memory_format=self.layout)).numpy()

    def multiply(self, a, b):
        a, b = torch.from_numpy(a), torch.from_numpy(b)
        return lambda: a @ b

    def versions(self):
        return {"torch": torch.__version__}


if __name__ == "__main__":
    main(PyTorch)
