"""A net's name -> the net, uninitialized; each net is one function, its shapes beside its layers.

Shapes are (batch, channels, height, width), for the input of the net's source. A net outputs logits: the softmax that
write-up 003 puts at the end belongs to the loss and to prediction.
"""

import mxnet as mx
from mxnet.gluon import nn

from gluon_lenet.data.catalogue import get_entry
from gluon_lenet.errors import InputError
from gluon_lenet.nets.layers import RBFOutput, ScaledTanh, Subsampling, TableConv2D, digit_bitmaps
from gluon_lenet.nets.pretrained import find, load


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


def lenet5_sigmoid_avgpool(classes: int = 10) -> nn.HybridSequential:
    """The LeNet of d2l's course, lesson 21 (write-up 004): padding, sigmoid, average pooling; 61,706 parameters.

    The lesson's net starts with a `Reshape`; for flat images put `layers.Reshape()` in front of this one.
    """
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(channels=6, kernel_size=5, padding=2, activation="sigmoid"),  # (b, 1, 28, 28) -> (b, 6, 28, 28)
        nn.AvgPool2D(pool_size=2, strides=2),  # -> (b, 6, 14, 14)
        nn.Conv2D(channels=16, kernel_size=5, activation="sigmoid"),  # -> (b, 16, 10, 10)
        nn.AvgPool2D(pool_size=2, strides=2),  # -> (b, 16, 5, 5)
        nn.Dense(120, activation="sigmoid"),  # -> (b, 120), after flattening to (b, 400)
        nn.Dense(84, activation="sigmoid"),  # -> (b, 84)
        nn.Dense(classes),  # -> (b, classes)
    )
    return net


assert 156 + 2416 + 48120 + 10164 + 850 == 61_706  # likewise for the other three nets of 61,706


def lenet5_relu_maxpool(classes: int = 10) -> nn.HybridSequential:
    """The LeNet5 of write-up 000: padding, ReLU, max pooling; 61,706 parameters, 61,470 without biases (table 4-1)."""
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(channels=6, kernel_size=5, padding=2, activation="relu"),  # (b, 1, 28, 28) -> (b, 6, 28, 28)
        nn.MaxPool2D(pool_size=2, strides=2),  # -> (b, 6, 14, 14)
        nn.Conv2D(channels=16, kernel_size=5, activation="relu"),  # -> (b, 16, 10, 10)
        nn.MaxPool2D(pool_size=2, strides=2),  # -> (b, 16, 5, 5)
        nn.Dense(120, activation="relu"),  # -> (b, 120), after flattening to (b, 400)
        nn.Dense(84, activation="relu"),  # -> (b, 84)
        nn.Dense(classes),  # -> (b, classes)
    )
    return net


assert 150 + 2400 + 48000 + 10080 + 840 == 61_470 == 61_706 - (6 + 16 + 120 + 84 + 10)


def lenet5_relu_maxpool_wide(classes: int = 10) -> nn.HybridSequential:
    """`lenet5_relu_maxpool` with 24 and 48 maps, an answer to the chapter's exercise; 184,606 parameters.

    Four times as many maps in the first convolution, three times in the second; nothing else changes, so the gain comes
    from the width, and from the recipe's augmentation.
    """
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(channels=24, kernel_size=5, padding=2, activation="relu"),  # (b, 1, 28, 28) -> (b, 24, 28, 28)
        nn.MaxPool2D(pool_size=2, strides=2),  # -> (b, 24, 14, 14)
        nn.Conv2D(channels=48, kernel_size=5, activation="relu"),  # -> (b, 48, 10, 10)
        nn.MaxPool2D(pool_size=2, strides=2),  # -> (b, 48, 5, 5)
        nn.Dense(120, activation="relu"),  # -> (b, 120), after flattening to (b, 1200)
        nn.Dense(84, activation="relu"),  # -> (b, 84)
        nn.Dense(classes),  # -> (b, classes)
    )
    return net


assert 624 + 28848 + 144120 + 10164 + 850 == 184_606


def lenet5_relu_maxpool_wide_c5(classes: int = 10) -> nn.HybridSequential:
    """`lenet5_relu_maxpool_wide` with C5 a convolution and dropout after it; 183,050 parameters.

    C5 keeps 3 x 3 pixels of 96 maps, where 120 neurons keep no places; F6 has 128 neurons.
    """
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(channels=24, kernel_size=5, padding=2, activation="relu"),  # (b, 1, 28, 28) -> (b, 24, 28, 28)
        nn.MaxPool2D(pool_size=2, strides=2),  # -> (b, 24, 14, 14)
        nn.Conv2D(channels=48, kernel_size=5, activation="relu"),  # -> (b, 48, 10, 10)
        nn.MaxPool2D(pool_size=2, strides=2),  # -> (b, 48, 5, 5)
        nn.Conv2D(channels=96, kernel_size=3, activation="relu"),  # -> (b, 96, 3, 3)
        nn.Dropout(0.3),  # -> (b, 96, 3, 3)
        nn.Dense(128, activation="relu"),  # -> (b, 128), after flattening to (b, 864)
        nn.Dense(classes),  # -> (b, classes)
    )
    return net


assert 624 + 28848 + 41568 + 110720 + 1290 == 183_050


def lenet5_relu_maxpool_deep(classes: int = 10) -> nn.HybridSequential:
    """LeNet's stages with two convolutions in the second and dropout in place of dense layers; 49,530 parameters.

    Most weights of `lenet5_relu_maxpool` are those of 120 neurons that each see all of S4. Here they are spent on small
    windows that slide, and on more maps.
    """
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(channels=16, kernel_size=5, padding=2, activation="relu"),  # (b, 1, 28, 28) -> (b, 16, 28, 28)
        nn.MaxPool2D(pool_size=2, strides=2),  # -> (b, 16, 14, 14)
        nn.Conv2D(channels=40, kernel_size=3, padding=1, activation="relu"),  # -> (b, 40, 14, 14)
        nn.Conv2D(channels=40, kernel_size=3, padding=1, activation="relu"),  # -> (b, 40, 14, 14)
        nn.MaxPool2D(pool_size=2, strides=2),  # -> (b, 40, 7, 7)
        nn.Conv2D(channels=64, kernel_size=3, padding=1, activation="relu"),  # -> (b, 64, 7, 7)
        nn.MaxPool2D(pool_size=2, strides=2),  # -> (b, 64, 3, 3), without the last row and column
        nn.Dropout(0.3),  # -> (b, 64, 3, 3)
        nn.Dense(classes),  # -> (b, classes), after flattening to (b, 576)
    )
    return net


assert 416 + 5800 + 14440 + 23104 + 5770 == 49_530


def lenet5_sigmoid_avgpool_c5(classes: int = 10) -> nn.HybridSequential:
    """The LeNet of write-up 002: C1 S2 C3 S4 C5 F6, C5 a convolution; no activation after C5 and F6; 61,706 parameters.

    C5, F6 and the output are thus one linear map of S4, as in the write-up.
    """
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(channels=6, kernel_size=5, padding=2, activation="sigmoid"),  # C1 (b, 1, 28, 28) -> (b, 6, 28, 28)
        nn.AvgPool2D(pool_size=2, strides=2),  # S2 -> (b, 6, 14, 14)
        nn.Conv2D(channels=16, kernel_size=5, activation="sigmoid"),  # C3 -> (b, 16, 10, 10)
        nn.AvgPool2D(pool_size=2, strides=2),  # S4 -> (b, 16, 5, 5)
        nn.Conv2D(channels=120, kernel_size=5),  # C5 -> (b, 120, 1, 1)
        nn.Flatten(),  # -> (b, 120)
        nn.Dense(84),  # F6 -> (b, 84)
        nn.Dense(classes),  # -> (b, classes)
    )
    return net


def lenet5_tanh_avgpool(classes: int = 10) -> nn.HybridSequential:
    """The LeNet5 of write-up 003: 32 x 32 input, tanh, average pooling, C5 a convolution; 61,706 parameters."""
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(channels=6, kernel_size=5, activation="tanh"),  # (b, 1, 32, 32) -> (b, 6, 28, 28)
        nn.AvgPool2D(pool_size=2, strides=2),  # -> (b, 6, 14, 14)
        nn.Conv2D(channels=16, kernel_size=5, activation="tanh"),  # -> (b, 16, 10, 10)
        nn.AvgPool2D(pool_size=2, strides=2),  # -> (b, 16, 5, 5)
        nn.Conv2D(channels=120, kernel_size=5, activation="tanh"),  # -> (b, 120, 1, 1)
        nn.Flatten(),  # -> (b, 120)
        nn.Dense(84, activation="tanh"),  # -> (b, 84)
        nn.Dense(classes),  # -> (b, classes)
    )
    return net


def lenet5_1998(classes: int = 10) -> nn.HybridSequential:
    """LeNet-5 as LeCun et al. (1998) describe it in section II.B; 60,000 trainable parameters.

    Input: 28 x 28 digits with 2 pixels of paper around them, paper -0.1 and ink 1.175. Initializer: `LeCun1998`. Loss:
    `losses.MAPLoss` (equation 9). Output: minus the penalties of the RBF units, so that the answer is the argmax.
    Each squashing function is a separate layer.

    Raises:
        InputError: `classes` is not 10: the output units are fixed pictures of the ten digits.
    """
    if classes != 10:
        raise InputError(
            f"lenet5_1998 cannot have {classes} classes: its outputs are distances to pictures of the ten digits; "
            "for other classes choose another net"
        )
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(channels=6, kernel_size=5),  # C1 (b, 1, 32, 32) -> (b, 6, 28, 28), 156 parameters
        ScaledTanh(),  # -> (b, 6, 28, 28)
        Subsampling(channels=6),  # S2 -> (b, 6, 14, 14), 12 parameters
        ScaledTanh(),  # -> (b, 6, 14, 14)
        TableConv2D(),  # C3 -> (b, 16, 10, 10), 1,516 parameters
        ScaledTanh(),  # -> (b, 16, 10, 10)
        Subsampling(channels=16),  # S4 -> (b, 16, 5, 5), 32 parameters
        ScaledTanh(),  # -> (b, 16, 5, 5)
        nn.Conv2D(channels=120, kernel_size=5),  # C5 -> (b, 120, 1, 1), 48,120 parameters
        ScaledTanh(),  # -> (b, 120, 1, 1)
        nn.Dense(84),  # F6 -> (b, 84), 10,164 parameters
        ScaledTanh(),  # -> (b, 84)
        RBFOutput(digit_bitmaps()),  # -> (b, 10)
    )
    return net


assert 156 + 12 + 1516 + 32 + 48120 + 10164 == 60_000
assert 122_304 + 5_880 + 151_600 + 2_000 + 48_120 + 10_164 + 840 == 340_908  # connections, as the paper counts them


def lenet_variant(
    kernel_size: int = 5,
    channels: tuple[int, int] = (6, 16),
    activation: str = "sigmoid",
    units: tuple[int, ...] = (120, 84),
    classes: int = 10,
) -> nn.HybridSequential:
    """The chapter's net with the settings that its exercise varies; by default, `lenet5_sigmoid_maxpool`.

    For 28 x 28 images `kernel_size` may be at most 9: the second convolution's input is then 10 x 10.

    Args:
        kernel_size: side of both convolutions' windows.
        channels: outputs of the two convolutions.
        activation: after every convolution and every dense layer but the last: sigmoid, tanh, relu, softrelu, softsign.
        units: outputs of the dense layers before the last.
        classes: number of outputs.
    """
    net = nn.HybridSequential()
    for size in channels:
        net.add(nn.Conv2D(size, kernel_size, activation=activation), nn.MaxPool2D(pool_size=2, strides=2))
    for size in units:
        net.add(nn.Dense(size, activation=activation))
    net.add(nn.Dense(classes))
    return net


NETS = {
    "lenet5_sigmoid_maxpool": lenet5_sigmoid_maxpool,
    "lenet5_sigmoid_avgpool": lenet5_sigmoid_avgpool,
    "lenet5_relu_maxpool": lenet5_relu_maxpool,
    "lenet5_relu_maxpool_wide": lenet5_relu_maxpool_wide,
    "lenet5_relu_maxpool_wide_c5": lenet5_relu_maxpool_wide_c5,
    "lenet5_relu_maxpool_deep": lenet5_relu_maxpool_deep,
    "lenet5_sigmoid_avgpool_c5": lenet5_sigmoid_avgpool_c5,
    "lenet5_tanh_avgpool": lenet5_tanh_avgpool,
    "lenet5_1998": lenet5_1998,
}

# (c, h, w) of one image, for uses without data: tables of layers, exports.
INPUT_SHAPES = {name: (1, 28, 28) for name in NETS} | {"lenet5_tanh_avgpool": (1, 32, 32), "lenet5_1998": (1, 32, 32)}


def get_net(name: str, classes: int = 10, pretrained: bool | str = False) -> nn.HybridSequential:
    """The net called `name`, hybridizable, with `classes` outputs; uninitialized, or with trained weights.

    Args:
        name: one of NETS.
        classes: number of outputs; that of the data set for pretrained weights.
        pretrained: weights that come with the package: the name of a recipe that trains this net, such as
            "augmented_mnist" for lenet5_relu_maxpool; True for the recipe of the net's source (`pretrained.DEFAULTS`).
            The net is then on the CPU; its input must be transformed as the recipe does.

    Raises:
        InputError: no net has that name, or there are no such weights (the message lists the names), or the net cannot
            have so many classes.
    """
    if name not in NETS:
        raise InputError(f"unknown net {name!r}; choose from {', '.join(NETS)}")
    net = NETS[name](classes)
    if pretrained in (False, None):
        return net
    card = find(name, pretrained)
    if classes != (known := len(get_entry(card.dataset).classes)):
        raise InputError(f"the pretrained weights {card.recipe} are of {known} classes, not {classes}")
    net.initialize(mx.init.Zero())  # unlike the default, it draws no random numbers
    net(mx.nd.zeros((1, *INPUT_SHAPES[name])))  # infers the layers' shapes
    load(card, net)
    return net


def lenet() -> nn.Sequential:
    """The chapter's net, as the book builds it: an `nn.Sequential` of seven layers, uninitialized."""
    return lenet5_sigmoid_maxpool(container=nn.Sequential)
