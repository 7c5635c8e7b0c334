"""What the compiled functions read: the table of a net's layers, and the task; who works on what, and where it is.

The life of a block, which is LANES images, one per lane of a vector. A thread takes its blocks one after the other, so
that everything about a block is in the cache when it is needed:

    images, bytes (n, h, w)
       |  images.read          gathers and transposes LANES images, (pixel / 255 - mean) / std
    input of layer 0 (channels, h, w, LANES), padded
       |  blocks.forward       layer by layer; each writes into the middle of the next one's padded input,
       |                       max pooling also writes which pixel it chose
    logits (classes, LANES)
       |  loss                 loss sum, number of correct answers, gradient of the logits
    gradient of the logits
       |  blocks.backward      layer by layer, last first: adds to the sums of the parameters' gradients, and
       |                       writes the gradient of its input, which is that of the layer before's output
    sums of the gradients      of this thread; after the last block all threads add up theirs, in the same order
                               each time, and write `param.grad()`

The memory of a thread, one row of `RUN_TASK.memory`, in floats; `program.py` gives everything its place:

    0               sums_size   kept                                                                  size
    | sums of       | scratch | inputs, maps and | gradients of the  | images | logits,     | packed    |
    | the gradients |         | choices of layer | inputs of layer   |        | transposed  | weights   |
    |               |         | 0, 1, 2, ...     | 1, 2, ...         |        | vectors     |           |
    | cleared for   |         |           written anew by each block                     | copied once |
    | every batch   |         | what backward    |                                       | per batch   |
    |               |         | needs of forward |                                       |             |

Behind the packed weights, the first layers have inputs and maps once more, for the receptive fields of a single image
(`receptive.py`).

Where the gradient of the logits comes later, from autograd (`function.py`), the `kept` part of each block is copied out
of the way after the forward pass, and copied back for the backward pass.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import from_dtype, njit

from gluon_lenet.engines.fused.sizes import LANES
from gluon_lenet.engines.fused.vectors import Address, Int

NOWHERE = -1  # the place of what a layer does not have

# --- layers -----------------------------------------------------------------------------------------------------------

CONVOLUTION, DENSE, DISTANCES = range(3)
NO_POOLING, MAX_POOLING, SUM_POOLING = range(3)

# A layer is a convolution, a dense layer or distances to fixed centres, with the pooling and the activations that
# follow. Its kinds and sizes, in elements:
SIZES = [
    "kind",  # CONVOLUTION, DENSE or DISTANCES
    "map_activation",  # before SUM_POOLING: a number in `activations.ACTIVATIONS`
    "pooling",  # NO_POOLING, MAX_POOLING or SUM_POOLING (times a coefficient, plus a bias), of 2x2
    "activation",  # after pooling
    "dropout",  # after the activation: the probability times `dropout.CHANCES`
    "number",  # of the layer, from 0
    "inputs",  # channels of a convolution, neurons of another layer
    "outputs",
    # of a convolution: its window is cut into patches of kernel x kernel
    "kernel",  # one of KERNELS
    "patches",  # of all input channels: how many such kernels an output has
    "patches_down",  # of one input channel
    "patches_across",
    "height",  # of the convolution's output, as far as pooling uses it
    "width",
    "pooled_height",  # of what the next layer sees
    "pooled_width",
    # distances in memory, in floats, between two rows and between two channels
    "input_row",
    "input_plane",
    "input_size",  # floats of the padded input
    "output_row",
    "output_plane",
    "map_row",
    "map_plane",
    "sums_row",  # of `weight_sums`
]
# Offsets in a thread's memory, in floats; NOWHERE for what a layer does not have:
PLACES = [
    "input",  # padded: (inputs, rows, columns, LANES)
    "input_gradient",  # the first layer has none
    "output",  # inside the next layer's padded input
    "output_gradient",
    "map",  # the convolution's own output before SUM_POOLING; in the backward pass its gradient
    "choices",  # the pixels max pooling chose: bytes (outputs, pooled_height, pooled_width, LANES)
    "transposed_input",  # dense: (LANES, columns rounded up to LANES)
    "transposed_gradient",
    # the sums of the gradients over images
    "weight_sums",  # the shape depends on the kind
    "bias_sums",  # (outputs, LANES), as the next three
    "coefficient_sums",
    "pool_bias_sums",
    "output_bias_sums",  # bias_sums or pool_bias_sums: where the gradient before `activation` is added up
    # each thread's copies of the parameters
    "packed_weight",  # convolution: (groups of OUTPUTS[0] or the rest, patches, k, k, outputs of the group)
    "tables",  # max pooling: (outputs, patches, k + 1, 16), see maxpool.input_gradient
    "packed_bias",  # zeros without a bias
    "packed_coefficient",  # SUM_POOLING: (outputs,), 1/4 each for average pooling
    "packed_pool_bias",
]
# Addresses of MXNet's arrays; 0 for what a layer does not have:
ADDRESSES = [
    "weight",  # of DISTANCES: the centres
    "bias",
    "coefficient",
    "pool_bias",
    "weight_gradient",
    "bias_gradient",
    "coefficient_gradient",
    "pool_bias_gradient",
    "connected",  # of uint8 (outputs, inputs): 0 for pairs of maps without weights; 0 itself if all pairs have them
]
LAYER = np.dtype([(name, np.int64) for name in SIZES + PLACES + ADDRESSES])
LAYERS = from_dtype(LAYER)


def empty_layers(count: int) -> np.ndarray:
    """A table of layers that have nothing yet."""
    layers = np.zeros(count, LAYER)
    for name in PLACES:
        layers[name] = NOWHERE
    return layers


# --- parameters of tiles ----------------------------------------------------------------------------------------------


class Map(NamedTuple):
    """Where a pixel of a feature map is, and how far it is from there to the next row and to the next channel."""

    at: Int
    row: Int
    plane: Int


class Size(NamedTuple):
    """Height and width of a map, in pixels."""

    height: Int
    width: Int


class Rows(NamedTuple):
    """Where a matrix is, and how far it is from one of its rows to the next."""

    at: Int
    row: Int


class Matrix(NamedTuple):
    """A dense layer's weights (outputs, inputs): their address, the number of inputs, and the first one of interest."""

    address: Address
    inputs: Int
    first: Int


@njit
def moved(start, channel, y, x):
    """A `Map` from another of its pixels on."""
    return Map(start.at + channel * start.plane + y * start.row + x * LANES, start.row, start.plane)


@njit
def patch_of(start, layer, patch):
    """A `Map` from where the first window's part in a patch begins; `start` is the layer's padded input."""
    channel, rest = divmod(patch, layer.patches_down * layer.patches_across)
    down, across = divmod(rest, layer.patches_across)
    return moved(start, channel, down * layer.kernel, across * layer.kernel)


@njit
def input_map(layer):
    """The layer's padded input."""
    return Map(layer.input, layer.input_row, layer.input_plane)


@njit
def input_gradient_map(layer):
    """The gradient of the layer's padded input."""
    return Map(layer.input_gradient, layer.input_row, layer.input_plane)


@njit
def convolved(layer):
    """What a convolution writes: its own output if it has SUM_POOLING, else the layer's."""
    if layer.pooling == SUM_POOLING:
        return Map(layer.map, layer.map_row, layer.map_plane)
    return Map(layer.output, layer.output_row, layer.output_plane)


@njit
def convolved_gradient(layer):
    """The gradient of what a convolution writes."""
    if layer.pooling == SUM_POOLING:
        return Map(layer.map, layer.map_row, layer.map_plane)
    return Map(layer.output_gradient, layer.output_row, layer.output_plane)


# --- tasks ------------------------------------------------------------------------------------------------------------

RUN, UPDATE = range(2)
TAKEN, DONE, WRITTEN = range(3)  # shares that threads have begun, that are done, and whose gradients are being written
COUNTERS = 3
LOSS, CORRECT, BAD_LABELS, BAD_ROWS, BAD_WEIGHTS = range(5)  # columns of `totals`
TOTALS = 5


def _task(integers: list[str], floats: list[str]) -> np.dtype:
    return np.dtype([(name, np.int64) for name in _EVERY_TASK + integers] + [(name, np.float64) for name in floats])


_EVERY_TASK = [
    "kind",  # RUN or UPDATE
    "counters",  # address of int64 (COUNTERS,), zeros
    "shares",  # in how many shares the work is divided
    "totals",  # address of float64 (shares, TOTALS), to be written
]
ANY_TASK = _task([], [])
RUN_TASK = _task(  # a batch of images through a net
    [
        "memory",  # address of float32 (shares, size)
        "size",
        "sums_size",  # floats at the start of a share's memory that are sums of gradients
        "scratch",  # place of three vectors
        "layers",  # address of the table of layers
        "num_layers",
        "fields",  # address of the table of the first layers for receptive fields of a single image, see `receptive.py`
        "num_fields",
        "images",  # address of the first image
        "is_float",  # 1: float32 images, as the net is fed; 0: uint8, which become (pixel / 255 - mean) / std
        "num_images",
        "channels",  # of an image
        "height",
        "width",
        "pad",  # pixels of background to put around it
        "staging",  # where a block's images are put first: the first layer's input, if they fill it
        "first_pixel",  # of the images, with the background around them, in the first layer's input
        "image_row",  # there
        "image_plane",
        "rows",  # address of int64 (batch,): the numbers of the batch's images
        "batch",
        "labels",  # address of int32 (num_images,); 0 if there are none, so nothing is counted
        "logits",  # address of float32 (batch, classes), to be written; or 0
        "gradient",  # address of float32 (batch, classes), the gradient of the logits; 0: that of the labels' loss
        "kept",  # place of what the backward pass needs of the forward pass
        "kept_size",  # floats
        "store",  # address of float32 (blocks, kept_size), for it; or 0
        "is_second",  # 1: the forward pass has been done, and `store` has what it left
        "image_gradient",  # address of float32 (batch, channels, height, width), to be written; or 0
        "starts",  # address of int64 (shares, LANES), room
        "train",  # 1: gradients too
        "drops",  # 1: dropout drops
        "seed",  # of its random numbers
    ],
    [
        "mean",
        "std",
        "rubbish",  # logit of the loss's extra class
        "smoothing",  # of the labels, see `losses.SmoothedCrossEntropy`
    ],
)
UPDATE_TASK = _task(  # an optimizer's step
    [
        "rule",  # SGD, MOMENTUM or ADAM
        "parameters",  # address of a table `PARAMETER`
        "num_parameters",
    ],
    [
        "rescale",  # what the gradients are multiplied by
        "momentum",
        "beta1",
        "beta2",
        "epsilon",
    ],
)
# A parameter of an UPDATE_TASK: addresses of float32 arrays of `size` numbers, and what its step depends on.
PARAMETER = np.dtype(
    [
        (name, np.int64)
        for name in (
            "weight",
            "gradient",
            "first",  # MOMENTUM: the momentum; ADAM: the gradients' mean
            "second",  # ADAM: the mean of their squares
            "size",
        )
    ]
    + [(name, np.float64) for name in ("lr", "wd")]
)
