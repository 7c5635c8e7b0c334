"""JAX: the same net from its list of layers, a training step as one jitted function; all images in memory as floats."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from protocol import Contender, main

ACTIVATIONS = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}


def initialize(layers: list, key) -> list:
    """Xavier weights and zero biases, one pair per layer that has them."""
    xavier, parameters = jax.nn.initializers.glorot_uniform(), []
    for kind, *sizes in layers:
        key, drawn = jax.random.split(key)
        if kind == "conv":
            channels_in, channels_out, kernel, _ = sizes
            parameters.append((xavier(drawn, (kernel, kernel, channels_in, channels_out)), jnp.zeros(channels_out)))
        elif kind == "dense":
            parameters.append((xavier(drawn, tuple(sizes)), jnp.zeros(sizes[1])))
    return parameters


def forward(layers: tuple, parameters: list, X):
    """Images (b, h, w, 1) -> logits (b, classes)."""
    left = iter(parameters)
    for kind, *sizes in layers:
        if kind == "conv":
            weight, bias = next(left)
            padding = [(sizes[3], sizes[3])] * 2
            X = lax.conv_general_dilated(X, weight, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias
        elif kind == "dense":
            weight, bias = next(left)
            X = X @ weight + bias
        elif kind == "flatten":
            X = X.reshape(len(X), -1)
        elif kind in ("max", "avg"):  # windows as separate axes: faster than lax.reduce_window
            b, h, w, c = X.shape
            windows = X.reshape(b, h // 2, 2, w // 2, 2, c)
            X = windows.max((2, 4)) if kind == "max" else windows.mean((2, 4))
        else:
            X = ACTIVATIONS[kind](X)
    return X


class Jax(Contender):
    """The whole step, from gathering the batch to the update, is one compiled function."""

    def build(self):
        layers = tuple(map(tuple, self.job["layers"]))
        lr = self.job["lr"]
        self.X, self.y = self.channels_last("train")
        self.test_X, self.test_y = self.channels_last("test")
        self.parameters = initialize(layers, jax.random.key(self.job["seed"]))
        self.forward = jax.jit(functools.partial(forward, layers))

        def loss_of(parameters, X, y):
            return -jnp.take_along_axis(jax.nn.log_softmax(forward(layers, parameters, X)), y[:, None], 1).mean()

        @functools.partial(jax.jit, donate_argnums=0)
        def step(parameters, X, y, rows):
            loss, gradients = jax.value_and_grad(loss_of)(parameters, X[rows], y[rows])
            return jax.tree.map(lambda p, g: p - lr * g, parameters, gradients), loss * len(rows)

        self.step = step

    def channels_last(self, part):
        X, y = self.floats(part)
        return jnp.asarray(X.transpose(0, 2, 3, 1)), jnp.asarray(y.astype(np.int32))

    def train(self, order):
        order, loss_sum = order.astype(np.int32), 0.0
        for first in range(0, len(order), self.batch_size):
            self.parameters, loss = self.step(self.parameters, self.X, self.y, order[first : first + self.batch_size])
            loss_sum += loss
        return float(loss_sum) / len(order)

    def count_correct(self):
        correct = 0
        for first in range(0, len(self.test_y), 1000):
            y_hat = self.forward(self.parameters, self.test_X[first : first + 1000])
            correct += (y_hat.argmax(1) == self.test_y[first : first + 1000]).sum()
        return correct

    def logits(self, first, last):
        return np.asarray(self.forward(self.parameters, self.test_X[first:last]))

    def versions(self):
        return {"jax": jax.__version__}


if __name__ == "__main__":
    main(Jax)
