"""A net and a batch -> what happens inside: the output of each layer, the size of each layer's gradient."""

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
        net: initialized where X is.
        X: (b, c, h, w).
        names: one for X and one for each layer; by default `input` and the layers' descriptions.
    """
    outputs = [X]
    for layer in net:
        outputs.append(layer(outputs[-1]))
    return list(zip(names or ["input", *map(describe, net)], outputs, strict=True))


def gradient_norms(net: nn.Sequential | nn.HybridSequential, X: nd.NDArray, y: nd.NDArray) -> dict[str, float]:
    """How strongly the loss of a batch pulls at each layer: the L2 norm of its weights' gradient, biases aside.

    The loss is softmax cross-entropy averaged over the batch. Names are numbered, since two layers may read alike.

    Args:
        net: initialized where X is; the gradients of its parameters are overwritten, the weights are not touched.
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
