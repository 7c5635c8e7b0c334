"""float32 batches -> float32 batches: the layers of LeNet-5 (1998) that stock Gluon lacks, and the write-ups' blocks.

"The paper" is LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 86
(11), 1998. `ScaledTanh`, `Subsampling`, `TableConv2D`, `RBFOutput` and the initializer `LeCun1998` are from it;
`PrintLayer` and `WithLoss` come from write-up 000, `Reshape` from write-up 004.
"""

from __future__ import annotations

from math import prod, tanh

import mxnet as mx
import numpy as np
from mxnet.gluon import Block, HybridBlock
from mxnet.gluon.loss import SoftmaxCrossEntropyLoss

A, S = 1.7159, 2 / 3  # amplitude and slope of the paper's squashing function (equation 6 and appendix A)

assert abs(A * tanh(S) - 1) < 1e-4  # f(1) = 1 and f(-1) = -1: the bitmaps' values are well inside its range

# The paper's table I: column o has an X in row i if map o of C3 sees map i of S2.
TABLE_I = """
    X . . . X X X . . X X X X . X X
    X X . . . X X X . . X X X X . X
    X X X . . . X X X . . X . X X X
    . X X X . . X X X X . . X . X X
    . . X X X . . X X X X . X X . X
    . . . X X X . . X X X X . X X X
"""
# For each of C3's 16 maps, the maps of S2 it sees: 6 x 3 contiguous, 6 x 4 contiguous, 3 x 4 discontinuous, 1 x all 6.
C3_CONNECTIONS = tuple(
    tuple(i for i, cross in enumerate(column) if cross == "X")
    for column in zip(*(row.split() for row in TABLE_I.strip().splitlines()), strict=True)
)

assert [len(seen) for seen in C3_CONNECTIONS] == 6 * [3] + 9 * [4] + [6]
assert 6 * 3 + 6 * 4 + 3 * 4 + 1 * 6 == 60  # connected pairs of maps
assert 60 * 25 + 16 == 1516  # C3's trainable parameters

# The ten digits on 7 x 12 pixels, for the RBF units. The paper shows its bitmaps only as a picture (figure 3); the one
# transcription in circulation could not be checked against it, so these are our own drawings in the same style:
# upright digits, strokes two pixels wide. Any two differ in at least 14 of the 84 pixels (a test counts them).
DIGITS = """
    ..###.. ...##.. .#####. .#####. ....##. ####### ..####. ####### .#####. .#####.
    .#####. ..###.. ####### ####### ...###. ####### .#####. ####### ####### #######
    ##...## .####.. ##...## ##...## ...###. ##..... ##..... .....## ##...## ##...##
    ##...## ...##.. .....## .....## ..####. ##..... ##..... .....## ##...## ##...##
    ##...## ...##.. ....##. .....## ..#.##. ######. ##..... ....##. .#####. ##...##
    ##...## ...##.. ...##.. ..####. .##.##. ####### ######. ....##. .#####. #######
    ##...## ...##.. ..##... ..####. .#..##. .....## ####### ...##.. ##...## .######
    ##...## ...##.. .##.... .....## ##..##. .....## ##...## ...##.. ##...## .....##
    ##...## ...##.. ##..... .....## ####### .....## ##...## ..##... ##...## .....##
    ##...## ...##.. ##..... ##...## ####### ##...## ##...## ..##... ##...## .....##
    .#####. .###### ####### ####### ....##. ####### ####### .##.... ####### .#####.
    ..###.. .###### ####### .#####. ....##. .#####. .#####. .##.... .#####. .####..
"""


def digit_bitmaps() -> np.ndarray:
    """The RBF units' fixed parameters: float32 (10, 84), row d the 7 x 12 picture of digit d, ink +1, paper -1."""
    rows = [row.split() for row in DIGITS.strip().splitlines()]  # 12 rows of 10 pieces of 7 pixels
    pixels = np.array([[[1 if pixel == "#" else -1 for pixel in piece] for piece in row] for row in rows], np.float32)
    return pixels.transpose(1, 0, 2).reshape(10, 84)  # (12, 10, 7) -> (10, 12, 7) -> (10, 84)


class ScaledTanh(HybridBlock):
    """f(a) = 1.7159 tanh(2/3 a), the squashing function of every layer up to F6 (paper, section II.B, equations 5-6).

    Any shape -> the same shape, values within -1.7159 and 1.7159.
    """

    def hybrid_forward(self, F, a):
        """A tanh(S a); `Activation` runs in oneDNN, on a CPU some 25 times as fast as `F.tanh`."""
        return F.Activation(a * S, act_type="tanh") * A


class Subsampling(HybridBlock):
    """S2 and S4: the sum of each 2 x 2 square, times the map's coefficient, plus its bias (section II.B).

    (b, c, 2h, 2w) -> (b, c, h, w), before the squashing function. Two trainable parameters per map.

    It is the paper's sum, not the mean: with coefficients that start at 1, the signal is four times that of average
    pooling, which keeps the units of C3 and C5 away from zero with weights as small as those of `LeCun1998`.

    Args:
        channels: c, the number of maps.
    """

    def __init__(self, channels: int, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.coefficient = self.params.get("coefficient", shape=(channels, 1, 1, 1), init="ones")
            self.bias = self.params.get("bias", shape=(channels,), init="zeros")
        self._channels = channels

    def hybrid_forward(self, F, X, coefficient, bias):
        """4 x mean x coefficient + bias; coefficient and bias as a 1 x 1 depthwise convolution.

        It runs in oneDNN; its backward is several times faster than broadcasting. The factor of 4 is exact.
        """
        mean = F.Pooling(X, kernel=(2, 2), stride=(2, 2), pool_type="avg")
        return F.Convolution(
            mean, coefficient * 4, bias, kernel=(1, 1), num_filter=self._channels, num_group=self._channels
        )


class TableConv2D(HybridBlock):
    """A convolution in which each output map sees only some input maps; C3 with the paper's table I (section II.B).

    (b, c, h, w) -> (b, maps, h - k + 1, w - k + 1), before the squashing function.

    Only connections have weights, in one parameter per fan-in: in C3 `weight3` of shape (6, 3, 5, 5) for the six maps
    that see three, `weight4` (9, 4, 5, 5), `weight6` (1, 6, 5, 5). The forward pass scatters them into the kernel of
    one dense convolution, zeros elsewhere: that copies 2,400 numbers and saves 16 small convolutions.

    Args:
        connections: for each output map, the input maps it sees, in the order of its weights.
        in_channels: c.
        kernel_size: k.
    """

    def __init__(
        self,
        connections: tuple[tuple[int, ...], ...] = C3_CONNECTIONS,
        in_channels: int = 6,
        kernel_size: int = 5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.kernel_shape = (len(connections), in_channels, kernel_size, kernel_size)  # of the dense kernel
        self.pairs = {  # fan-in -> the connected (map, input map), in the order of the weights
            n: [(o, i) for o, seen in enumerate(connections) if len(seen) == n for i in seen]
            for n in sorted({len(seen) for seen in connections})
        }
        pairs = [pair for group in self.pairs.values() for pair in group]
        rows = np.full(
            (len(connections), in_channels), len(pairs)
        )  # the row of k x k weights; len(pairs) is the row of zeros
        rows[tuple(zip(*pairs, strict=True))] = range(len(pairs))
        with self.name_scope():
            for n, group in self.pairs.items():
                shape = (len(group) // n, n, kernel_size, kernel_size)
                setattr(self, f"weight{n}", self.params.get(f"in{n}_weight", shape=shape))
            self.bias = self.params.get("bias", shape=(len(connections),), init="zeros")
            self.rows = self.params.get_constant("rows", rows)

    def hybrid_forward(self, F, X, bias, rows, **weights):
        """Scatter the weights into a dense kernel (maps, c, k, k); one convolution with it."""
        maps, _, k, _ = self.kernel_shape
        connected = [F.reshape(weights[f"weight{n}"], shape=(-1, k * k)) for n in self.pairs]  # 18, 36, 6 rows
        zeros = F.zeros_like(F.slice_axis(connected[0], axis=0, begin=0, end=1))
        kernel = F.reshape(F.take(F.concat(*connected, zeros, dim=0), rows), shape=self.kernel_shape)
        return F.Convolution(X, kernel, bias, kernel=(k, k), num_filter=maps)


class RBFOutput(HybridBlock):
    """Euclidean radial basis functions with fixed centres (section II.B, equation 7), negated to serve as logits.

    (b, n) -> (b, classes): -y_i = -sum_j (x_j - w_ij)^2. The paper's y_i are penalties, the smallest of which is the
    answer; their negatives are logits, as argmax and `MAPLoss` expect. No trainable parameters.

    Args:
        centres: w, (classes, n).
    """

    def __init__(self, centres: np.ndarray, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.centres = self.params.get_constant("centres", centres)
        self._classes = len(centres)

    def hybrid_forward(self, F, X, centres):
        """2 x.w - |x|^2 - |w|^2: one matrix product, 3 times as fast as summing (b, classes, n) squared differences."""
        products = F.FullyConnected(X, centres, no_bias=True, num_hidden=self._classes)  # (b, classes)
        lengths = F.sum(F.square(X), axis=1, keepdims=True)  # (b, 1)
        centre_lengths = F.expand_dims(F.sum(F.square(centres), axis=1), axis=0)  # (1, classes)
        return F.broadcast_sub(F.broadcast_sub(products * 2, lengths), centre_lengths)


class LeCun1998(mx.init.Initializer):
    """Weights uniform within +-2.4 / fan-in, biases 0 (appendix A of the paper).

    The fan-in of a unit is the number of its inputs: 25 in C1, 75 to 150 in C3, 400 in C5, 120 in F6. The paper does
    not specify initial biases. Subsampling coefficients start at 1 with any initializer (`Subsampling`).
    """

    def _init_weight(self, name, arr):
        bound = 2.4 / prod(arr.shape[1:])
        mx.random.uniform(-bound, bound, out=arr)


class PrintLayer(HybridBlock):
    """Prints the shape of its input and returns it unchanged: put it between two layers (write-up 000).

    Any shape -> the same. A hybridized net runs as a compiled graph, which prints nothing: a message says so once.

    Args:
        label: printed before the shape.
        values: whether to print the values too.
    """

    def __init__(self, label: str = "", values: bool = False, **kwargs):
        super().__init__(**kwargs)
        self._label = label
        self._values = values

    def hybrid_forward(self, F, X):
        """X itself."""
        label = f"{self._label} " if self._label else ""
        if not isinstance(X, mx.nd.NDArray):
            print(f"{label}PrintLayer prints nothing in a hybridized net; call net.hybridize(False)")
            return F.identity(X)
        print(f"{label}{X.shape}")
        if self._values:
            print(X.asnumpy())
        return X


class Reshape(HybridBlock):
    """Reshapes flat images, as the first layer of a net (write-up 004): (b, 784) -> (b, 1, 28, 28).

    MXNet's own `reshape` does not check sizes (1,000 values read as 28 x 28 cause a crash, or pixels that belong to no
    image), so this block does.

    Args:
        shape: (c, h, w) of one image.

    Raises:
        MXNetError: an image does not have c * h * w values.
    """

    def __init__(self, shape: tuple[int, ...] = (1, 28, 28), **kwargs):
        super().__init__(**kwargs)
        self._shape = shape

    def hybrid_forward(self, F, X):
        """X with the shape (b, c, h, w). The addition only checks that the sizes are equal."""
        flat = F.broadcast_add(F.flatten(X), F.zeros((1, prod(self._shape))))
        return F.reshape(flat, shape=(-1, *self._shape))


class WithLoss(Block):
    """A net that also returns its loss if labels are given (write-up 000).

    `model(X)` -> logits (b, classes); `model(X, y)` -> (loss, logits), the loss averaged over the batch, shape (1,).
    Since the loss is an average, its step is `loss.backward(); trainer.step(1)`. The parameters are the net's.

    Args:
        net: maps X to logits.
        loss: maps (logits, y) to one loss per image; softmax cross-entropy by default.
    """

    def __init__(self, net: Block, loss: Block | None = None, **kwargs):
        super().__init__(**kwargs)
        self.net = net
        self.loss = loss or SoftmaxCrossEntropyLoss()

    def forward(self, X, y=None):
        """Logits without labels, (loss, logits) with them."""
        logits = self.net(X)
        return logits if y is None else (self.loss(logits, y).mean(), logits)
