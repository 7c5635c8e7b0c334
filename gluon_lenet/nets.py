"""A net's name -> the net, uninitialized; each net is one function, its shapes beside its layers.

Shapes are (batch, channels, height, width), for the input the source of the net uses.
"""

from gluon_lenet.errors import InputError

from mxnet.gluon import nn


def lenet5_sigmoid_maxpool(classes: int = 10, container: type = nn.HybridSequential):
    """The LeNet of d2l-zh v1 (write-up 001): sigmoid, max pooling, no padding; 44,426 parameters for 10 classes.

    Args:
        classes: number of outputs.
        container: `nn.HybridSequential`, or `nn.Sequential` as the book has it.
    """
    net = container()
    net.add(
        nn.Conv2D(channels=6, kernel_size=5, activation="sigmoid"),  # (b, 1, 28, 28) -> (b, 6, 24, 24)
        nn.MaxPool2D(pool_size=2, strides=2),  # -> (b, 6, 12, 12)
        nn.Conv2D(channels=16, kernel_size=5, activation="sigmoid"),  # -> (b, 16, 8, 8)
        nn.MaxPool2D(pool_size=2, strides=2),  # -> (b, 16, 4, 4)
        nn.Dense(120, activation="sigmoid"),  # -> (b, 120), after flattening to (b, 256)
        nn.Dense(84, activation="sigmoid"),  # -> (b, 84)
        nn.Dense(classes),  # -> (b, classes)
    )
    return net


assert 156 + 2416 + 30840 + 10164 + 850 == 44_426  # weights and biases, layer by layer


NETS = {
    "lenet5_sigmoid_maxpool": lenet5_sigmoid_maxpool,
}


def get_net(name: str, classes: int = 10) -> nn.HybridSequential:
    """The net called `name`, uninitialized and hybridizable, with `classes` outputs.

    Raises:
        InputError: no net has that name; the message lists those there are.
    """
    if name not in NETS:
        raise InputError(f"unknown net {name!r}; choose from {', '.join(NETS)}")
    return NETS[name](classes)


def lenet() -> nn.Sequential:
    """The chapter's net, as the book builds it: an `nn.Sequential` of seven layers, uninitialized."""
    return lenet5_sigmoid_maxpool(container=nn.Sequential)
