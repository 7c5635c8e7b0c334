"""A net and a batch -> the output of each layer, the norm of each layer's gradient."""

from __future__ import annotations

from mxnet import autograd, nd
from mxnet.gluon import Block, nn
from mxnet.gluon.loss import SoftmaxCrossEntropyLoss

from gluon_lenet.nets.table import describe


def layer_outputs(
    net: nn.Sequential | nn.HybridSequential, X: nd.NDArray, names: list[str] | None = None
) -> list[tuple[str, nd.NDArray]]:
    """X itself and the output of each layer of an initialized sequential net, in order, each with a name.

    Args:
        net: initialized on the device of X.
        X: (b, c, h, w).
        names: one for X and one for each layer; by default `input` and the layers' descriptions.
    """
    outputs = [X]
    for layer in net:
        outputs.append(layer(outputs[-1]))
    return list(zip(names or ["input", *map(describe, net)], outputs, strict=True))


def gradient_norms(net: nn.Sequential | nn.HybridSequential, X: nd.NDArray, y: nd.NDArray) -> dict[str, float]:
    """The L2 norm of the gradient of each layer's weights, without biases, for the loss of a batch.

    The loss is softmax cross-entropy averaged over the batch. Names are numbered, since two layers may have the same
    description.

    Args:
        net: initialized on the device of X; its gradients are overwritten, its weights are not changed.
        X: (b, c, h, w).
        y: (b,).
    """
    with autograd.record():
        loss = SoftmaxCrossEntropyLoss()(net(X), y).mean()
    loss.backward()
    with_weights: list[Block] = [layer for layer in net if hasattr(layer, "weight")]
    return {
        f"{i}. {describe(layer)}": float(layer.weight.grad(X.context).norm().asscalar())
        for i, layer in enumerate(with_weights, start=1)
    }
