"""(a net's name, its parameters, X) -> logits, in pure float64 NumPy: the reference for the nets' outputs.

Written from the write-ups and the paper, not from gluon_lenet/nets/zoo.py. Parameters come in the order of
the layers, weights before biases, dense weights as (outputs, inputs), convolution kernels as (maps, c, k, k).
"""

import numpy as np

# Table I of LeCun et al. 1998, read down its columns: the maps of S2 that each map of C3 is connected to.
MAPS_OF_3 = ["012", "123", "234", "345", "045", "015"]
MAPS_OF_4 = ["0123", "1234", "2345", "0345", "0145", "0125", "0134", "1245", "0235"]
TABLE_I = [*MAPS_OF_3, *MAPS_OF_4, "012345"]

# The ten digits of the RBF units, one a line: a row of 7 pixels is a number of 7 bits, the leftmost the highest.
DIGITS = """
    28 62 99 99 99 99 99 99 99 99 62 28
    12 28 60 12 12 12 12 12 12 12 63 63
    62 127 99 3 6 12 24 48 96 96 127 127
    62 127 99 3 3 30 30 3 3 99 127 62
    6 14 14 30 22 54 38 102 127 127 6 6
    127 127 96 96 126 127 3 3 3 99 127 62
    30 62 96 96 96 126 127 99 99 99 127 62
    127 127 3 3 6 6 12 12 24 24 48 48
    62 127 99 99 62 62 99 99 99 99 127 62
    62 127 99 99 99 127 63 3 3 3 62 60
"""


def logits(name, parameters, X):
    """float (b, classes) for X (b, 1, h, w)."""
    parameters = [np.asarray(values, np.float64) for values in parameters]
    return NETS[name](parameters, np.asarray(X, np.float64))


def sigmoid_maxpool(p, X):
    X = max_pool(sigmoid(convolve(X, p[0], p[1])))
    X = max_pool(sigmoid(convolve(X, p[2], p[3])))
    return dense(sigmoid(dense(sigmoid(dense(X, p[4], p[5])), p[6], p[7])), p[8], p[9])


def sigmoid_avgpool(p, X):
    X = mean_pool(sigmoid(convolve(pad(X), p[0], p[1])))
    X = mean_pool(sigmoid(convolve(X, p[2], p[3])))
    return dense(sigmoid(dense(sigmoid(dense(X, p[4], p[5])), p[6], p[7])), p[8], p[9])


def relu_maxpool(p, X):
    X = max_pool(relu(convolve(pad(X), p[0], p[1])))
    X = max_pool(relu(convolve(X, p[2], p[3])))
    return dense(relu(dense(relu(dense(X, p[4], p[5])), p[6], p[7])), p[8], p[9])


def relu_maxpool_wide_c5(p, X):
    X = max_pool(relu(convolve(pad(X), p[0], p[1])))
    X = max_pool(relu(convolve(X, p[2], p[3])))
    return dense(relu(dense(relu(convolve(X, p[4], p[5])), p[6], p[7])), p[8], p[9])


def relu_maxpool_deep(p, X):
    X = max_pool(relu(convolve(pad(X), p[0], p[1])))
    X = relu(convolve(pad(X, 1), p[2], p[3]))
    X = max_pool(relu(convolve(pad(X, 1), p[4], p[5])))
    X = relu(convolve(pad(X, 1), p[6], p[7]))  # (b, 64, 7, 7)
    return dense(max_pool(X[:, :, :6, :6]), p[8], p[9])


def sigmoid_avgpool_c5(p, X):
    X = mean_pool(sigmoid(convolve(pad(X), p[0], p[1])))
    X = mean_pool(sigmoid(convolve(X, p[2], p[3])))
    return dense(dense(convolve(X, p[4], p[5]), p[6], p[7]), p[8], p[9])


def tanh_avgpool(p, X):
    X = mean_pool(np.tanh(convolve(X, p[0], p[1])))
    X = mean_pool(np.tanh(convolve(X, p[2], p[3])))
    return dense(np.tanh(dense(np.tanh(convolve(X, p[4], p[5])), p[6], p[7])), p[8], p[9])


def lecun1998(p, X):
    """The parameters: C1, S2 (coefficient, bias), C3 (weights of maps that see 3, 4, 6 maps; bias), S4, C5, F6."""
    X = squash(convolve(X, p[0], p[1]))
    X = squash(subsample(X, p[2], p[3]))
    X = squash(convolve_by_table(X, p[4:7], p[7]))
    X = squash(subsample(X, p[8], p[9]))
    X = squash(convolve(X, p[10], p[11]))
    X = squash(dense(X, p[12], p[13]))  # (b, 84)
    return -((X[:, None, :] - digits()[None]) ** 2).sum(2)


NETS = {
    "lenet5_sigmoid_maxpool": sigmoid_maxpool,
    "lenet5_sigmoid_avgpool": sigmoid_avgpool,
    "lenet5_relu_maxpool": relu_maxpool,
    "lenet5_relu_maxpool_wide": relu_maxpool,
    "lenet5_relu_maxpool_wide_c5": relu_maxpool_wide_c5,
    "lenet5_relu_maxpool_deep": relu_maxpool_deep,
    "lenet5_sigmoid_avgpool_c5": sigmoid_avgpool_c5,
    "lenet5_tanh_avgpool": tanh_avgpool,
    "lenet5_1998": lecun1998,
}


def convolve(X, kernel, bias):
    """(b, c, h, w) -> (b, maps, h - k + 1, w - k + 1)."""
    windows = np.lib.stride_tricks.sliding_window_view(X, kernel.shape[2:], axis=(2, 3))  # (b, c, h', w', k, k)
    return np.einsum("bchwij,mcij->bmhw", windows, kernel, optimize=True) + bias.reshape(1, -1, 1, 1)


def convolve_by_table(X, groups, bias):
    """Each map of C3 separately, from the maps that the table connects to it."""
    kernels = {len(group[0]): iter(group) for group in groups}
    maps = []
    for seen, b in zip(TABLE_I, bias, strict=True):
        kernel = next(kernels[len(seen)])
        maps.append(convolve(X[:, [int(i) for i in seen]], kernel[None], b[None]))
    return np.concatenate(maps, axis=1)


def squares(X):
    """(b, c, 2h, 2w) -> (b, c, h, w, 4), the four values of each square."""
    b, c, h, w = X.shape
    return X.reshape(b, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(b, c, h // 2, w // 2, 4)


def max_pool(X):
    return squares(X).max(4)


def mean_pool(X):
    return squares(X).mean(4)


def subsample(X, coefficient, bias):
    return squares(X).sum(4) * coefficient.reshape(1, -1, 1, 1) + bias.reshape(1, -1, 1, 1)


def dense(X, weight, bias):
    return X.reshape(len(X), -1) @ weight.T + bias


def pad(X, by=2):
    return np.pad(X, ((0, 0), (0, 0), (by, by), (by, by)))


def sigmoid(X):
    return 1 / (1 + np.exp(-X))


def relu(X):
    return np.maximum(X, 0)


def squash(X):
    return 1.7159 * np.tanh(2 / 3 * X)


def digits():
    """(10, 84): ink +1, paper -1."""
    rows = np.array([line.split() for line in DIGITS.strip().splitlines()], np.uint8)  # (10, 12)
    return 2.0 * np.unpackbits(rows[..., None], axis=2)[..., 1:].reshape(10, 84) - 1


def map_loss(penalties, labels, j=0.1):
    """Equation 9 of LeCun et al. 1998, one value per image."""
    right = penalties[np.arange(len(labels)), labels]
    return right + np.log(np.exp(-j) + np.exp(-penalties).sum(1))


def map_loss_gradient(penalties, labels, j=0.1):
    """d loss / d penalties, (b, classes)."""
    exponentials = np.exp(-penalties)
    gradient = -exponentials / (np.exp(-j) + exponentials.sum(1, keepdims=True))
    gradient[np.arange(len(labels)), labels] += 1
    return gradient
