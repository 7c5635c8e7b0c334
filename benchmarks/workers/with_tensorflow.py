"""TensorFlow: the same net from its list of layers, channels last; all images in memory as floats."""

import numpy as np
import tensorflow as tf
from protocol import Contender, main

layers = tf.keras.layers


def make_layer(kind: str, *sizes: int) -> layers.Layer:
    """The Keras layer for one row of the job's `layers`; Keras initializes by Glorot's rule, which is Xavier's."""
    if kind == "conv":
        _, channels, kernel, padding = sizes
        return layers.Conv2D(channels, kernel, padding="same" if padding else "valid")
    if kind == "dense":
        return layers.Dense(sizes[1])
    if kind == "flatten":
        return layers.Flatten()
    poolings = {"max": layers.MaxPool2D, "avg": layers.AvgPool2D}
    return poolings[kind](*sizes) if kind in poolings else layers.Activation(kind)


class TensorFlow(Contender):
    """Modes: function (a training step as a `tf.function`), fit (`Model.fit`)."""

    def build(self):
        tf.config.threading.set_intra_op_parallelism_threads(self.threads)
        tf.keras.utils.set_random_seed(self.job["seed"])
        self.X, self.y = self.channels_last("train")
        self.test_X, self.test_y = self.channels_last("test")
        self.net = tf.keras.Sequential([make_layer(*layer) for layer in self.job["layers"]])
        self.net.build((None, *self.X.shape[1:]))
        self.loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.optimizer = tf.keras.optimizers.SGD(self.job["lr"])
        self.forward = tf.function(lambda X: self.net(X, training=False))
        if self.mode == "fit":
            self.net.compile(self.optimizer, self.loss, metrics=["accuracy"])
        else:
            self.X, self.y, self.test_X, self.test_y = map(tf.constant, (self.X, self.y, self.test_X, self.test_y))
            self.optimizer.build(self.net.trainable_variables)

    def channels_last(self, part):
        X, y = self.floats(part)
        return np.ascontiguousarray(X.transpose(0, 2, 3, 1)), y.astype(np.int32)

    @tf.function
    def step(self, rows):
        X, y = tf.gather(self.X, rows), tf.gather(self.y, rows)
        with tf.GradientTape() as tape:
            loss = self.loss(y, self.net(X, training=True))
        variables = self.net.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss * tf.cast(tf.size(rows), tf.float32)

    def train(self, order):
        if self.mode == "fit":
            history = self.net.fit(self.X, self.y, batch_size=self.batch_size, verbose=0)  # shuffles by itself
            return history.history["loss"][0]
        order, loss_sum = tf.constant(order, tf.int32), tf.zeros(())
        for first in range(0, len(order), self.batch_size):
            loss_sum += self.step(order[first : first + self.batch_size])
        return loss_sum.numpy() / len(order)

    def count_correct(self):
        if self.mode == "fit":
            return round(self.net.evaluate(self.test_X, self.test_y, batch_size=1000, verbose=0)[1] * len(self.test_y))
        correct = 0
        for first in range(0, len(self.test_y), 1000):
            y_hat = self.forward(self.test_X[first : first + 1000])
            correct += tf.math.count_nonzero(tf.argmax(y_hat, 1, tf.int32) == self.test_y[first : first + 1000])
        return correct

    def logits(self, first, last):
        return self.forward(tf.convert_to_tensor(self.test_X[first:last])).numpy()

    def versions(self):
        return {"tensorflow": tf.__version__, "keras": tf.keras.__version__}


if __name__ == "__main__":
    main(TensorFlow)
