"""Parameters and images -> logits, gradients and updates in float64 NumPy: what the hidden tests compare with.

Written from the textbook's formulas, without MXNet and apart from the package's kernels. Parameters are in Gluon's
order and layout: kernels (channels, c, k, k), dense weights (outputs, inputs), each followed by its bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


@dataclass(frozen=True)
class Net:
    """Convolutions, each with an activation and 2x2 pooling; then dense layers, all but the last with an activation."""

    activation: str
    paddings: tuple[int, ...] = ()  # of the convolutions
    poolings: tuple[str, ...] = ()  # "max" or "mean"


def corr2d(X, K, stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
    """X (h, w), K (kh, kw) -> their cross-correlation; of integers in integers."""
    X = np.pad(X, [(p, p) for p in padding])
    reach = [(k - 1) * d + 1 for k, d in zip(K.shape, dilation, strict=True)]
    windows = sliding_window_view(X, reach)[:: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    return (windows * K).sum(axis=(2, 3), dtype=np.result_type(X, K))


def pool2d(X, window, stride, mode):
    """X (h, w) -> the maximum or mean of each window."""
    windows = sliding_window_view(X, window)[:: stride[0], :: stride[1]]
    return windows.max(axis=(2, 3)) if mode == "max" else windows.mean(axis=(2, 3))


def activate(x, kind):
    """The activation, and its derivative as a function of its output."""
    if kind == "sigmoid":
        y = 1 / (1 + np.exp(-x))
        return y, y * (1 - y)
    if kind == "tanh":
        y = np.tanh(x)
        return y, 1 - y * y
    if kind == "softsign":
        y = x / (1 + abs(x))
        return y, (1 - abs(y)) ** 2
    return np.maximum(x, 0), (x > 0).astype(float)


def logits(net: Net, params, X, dtype=np.float64):
    """X (b, 1, h, w) -> (b, 10), in parts that fit into memory; in float32 it takes half the time."""
    parts = [X[start : start + 500] for start in range(0, len(X), 500)]
    return np.concatenate([_forward(net, params, part, dtype)[0] for part in parts])


def loss_and_gradients(net: Net, params, X, y):
    """The cross-entropy of each image (b,), and the gradients of their sum with respect to each parameter."""
    scores, steps = _forward(net, params, X)
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    loss, delta = -np.log(p[rows, y]), p
    delta[rows, y] -= 1
    gradients = []
    for back in reversed(steps):
        delta, *own = back(delta)
        gradients = [*own, *gradients]
    return loss, gradients


def _forward(net, params, X, dtype=np.float64):
    X, steps = np.asarray(X, dtype), []
    params = [np.asarray(values, dtype) for values in params]
    for number in range(len(net.paddings)):
        X = _step(steps, _convolve, X, params[2 * number], params[2 * number + 1], net.paddings[number])
        X = _step(steps, _activation, X, net.activation)
        X = _step(steps, _pool, X, net.poolings[number])
    X = _step(steps, _flatten, X)
    for number in range(len(net.paddings), len(params) // 2):
        X = _step(steps, _dense, X, params[2 * number], params[2 * number + 1])
        if number < len(params) // 2 - 1:
            X = _step(steps, _activation, X, net.activation)
    return X, steps


def _step(steps, layer, X, *args):
    """A layer's output; its backward pass, output's gradient -> input's and parameters', goes to `steps`."""
    Y, back = layer(X, *args)
    steps.append(back)
    return Y


def _convolve(X, K, b, padding):
    padded = np.pad(X, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    windows = sliding_window_view(padded, K.shape[2:], axis=(2, 3))  # (b, c, h, w, k, k)
    Y = np.tensordot(windows, K, axes=([1, 4, 5], [1, 2, 3])).transpose(0, 3, 1, 2) + b[:, None, None]

    def back(delta):
        dK = np.tensordot(delta, windows, axes=([0, 2, 3], [0, 2, 3]))
        k = K.shape[2]
        wide = sliding_window_view(np.pad(delta, [(0, 0), (0, 0), (k - 1, k - 1), (k - 1, k - 1)]), (k, k), axis=(2, 3))
        dX = np.tensordot(wide, K[:, :, ::-1, ::-1], axes=([1, 4, 5], [0, 2, 3])).transpose(0, 3, 1, 2)
        inner = slice(padding, -padding or None)
        return dX[:, :, inner, inner], dK, delta.sum(axis=(0, 2, 3))

    return Y, back


def _pool(X, mode):
    b, c, h, w = X.shape
    windows = X.reshape(b, c, h // 2, 2, w // 2, 2)
    if mode == "mean":
        return windows.mean(axis=(3, 5)), lambda delta: (np.repeat(np.repeat(delta, 2, 2), 2, 3) / 4,)
    flat = windows.transpose(0, 1, 2, 4, 3, 5).reshape(b, c, h // 2, w // 2, 4)
    best = flat.argmax(axis=4)

    def back(delta):
        chosen = np.zeros_like(flat)
        np.put_along_axis(chosen, best[..., None], delta[..., None], axis=4)
        return (chosen.reshape(b, c, h // 2, w // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(X.shape),)

    return flat.max(axis=4), back


def _activation(X, kind):
    Y, slope = activate(X, kind)
    return Y, lambda delta: (delta * slope,)


def _flatten(X):
    return X.reshape(len(X), -1), lambda delta: (delta.reshape(X.shape),)


def _dense(X, W, b):
    return X @ W.T + b, lambda delta: (delta @ W, delta.T @ X, delta.sum(axis=0))


class Updater:
    """MXNet's optimizers as its documentation defines them: new parameters from gradients, which are averaged."""

    def __init__(self, name: str, lr: float, **settings):
        self.update = {"sgd": self._sgd, "nag": self._nag, "adam": self._adam}[name]
        self.lr, self.settings, self.states, self.t = lr, settings, None, 0

    def step(self, params, gradients, batch_size):
        """The parameters after one step."""
        self.states = self.states or [(np.zeros_like(p, np.float64), np.zeros_like(p, np.float64)) for p in params]
        self.t += 1
        pairs = zip(params, gradients, self.states, strict=True)
        new = [self.update(p, g / batch_size, *state) for p, g, state in pairs]
        self.states = [state for _, state in new]
        return [p for p, _ in new]

    def _sgd(self, p, g, m, v):
        m = self.settings.get("momentum", 0) * m - self.lr * g
        return p + m, (m, v)

    def _nag(self, p, g, m, v):
        momentum = self.settings.get("momentum", 0)
        m = momentum * m - self.lr * g
        return p + momentum * m - self.lr * g, (m, v)

    def _adam(self, p, g, m, v):
        beta1, beta2 = self.settings.get("beta1", 0.9), self.settings.get("beta2", 0.999)
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        lr = self.lr * np.sqrt(1 - beta2**self.t) / (1 - beta1**self.t)
        return p - lr * m / (np.sqrt(v) + 1e-8), (m, v)


def train(net: Net, params, updater: Updater, batches, num_epochs=1):
    """The parameters after training on `batches`, pairs of X and y, and the mean loss of each epoch."""
    losses = []
    for _ in range(num_epochs):
        total = 0.0
        for X, y in batches:
            loss, gradients = loss_and_gradients(net, params, X, y)
            params = updater.step(params, gradients, len(y))
            total += loss.sum()
        losses.append(total / sum(len(y) for _, y in batches))
    return params, losses


def initial(shapes, rng):
    """Random parameters of these shapes, as Xavier's method draws them; biases small instead of 0."""
    params = []
    for shape in shapes:
        if len(shape) == 1:
            params.append(rng.uniform(-0.1, 0.1, shape).astype("float32"))
        else:
            field = int(np.prod(shape[2:]))
            bound = np.sqrt(6 / (field * (shape[0] + shape[1])))
            params.append(rng.uniform(-bound, bound, shape).astype("float32"))
    return params
