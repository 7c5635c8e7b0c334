"""(net, X, y) -> loss sum and correct count, with the gradients left in each parameter's `grad()`."""

from mxnet import autograd, nd
from mxnet.gluon import Block
from mxnet.gluon.loss import SoftmaxCrossEntropyLoss

_cross_entropy = SoftmaxCrossEntropyLoss()


def by_autograd(net: Block, X: nd.NDArray, y: nd.NDArray) -> tuple[nd.NDArray, nd.NDArray]:
    """One forward and backward pass by MXNet's autograd; serves every net on every device.

    The loss is softmax cross-entropy, summed over the batch, so `trainer.step(batch_size)` takes the step of the mean.

    Args:
        net: maps X to logits (b, classes).
        X: float32 (b, c, h, w).
        y: labels (b,), whole numbers below the number of classes (MXNet clips others without a word).

    Returns:
        loss sum and number of correct predictions, float32 of shape (1,), on X's device and not waited for.
    """
    with autograd.record():
        y_hat = net(X)
        loss_sum = _cross_entropy(y_hat, y).sum()
    loss_sum.backward()
    return loss_sum, count_correct(y_hat, y)


def count_correct(y_hat: nd.NDArray, y: nd.NDArray) -> nd.NDArray:
    """How many rows of the logits y_hat (b, classes) have their maximum at the label y (b,): float32 of shape (1,)."""
    return (y_hat.argmax(axis=1) == y.astype("float32")).sum()
