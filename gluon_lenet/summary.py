"""A net and an input shape -> its table: layer, output shape, parameters."""

from __future__ import annotations

from math import prod

import mxnet as mx
from mxnet.gluon import nn


def layer_table(net: nn.Sequential | nn.HybridSequential, input_shape: tuple[int, ...]) -> str:
    """The layers of an initialized sequential net, one a line, and the sum of their parameters.

    A batch of zeros goes through the net.

    Args:
        net: initialized, on any device.
        input_shape: (b, c, h, w) of that batch.
    """
    ctx = next(iter(net.collect_params().values())).list_ctx()[0]
    X = mx.nd.zeros(input_shape, ctx=ctx)
    rows, total = [("layer", "output shape", "parameters"), ("input", str(X.shape), "")], 0
    for layer in net:
        X = layer(X)
        count = sum(prod(param.shape) for param in layer.collect_params().values())
        total += count
        rows.append((_describe(layer), str(X.shape), f"{count:,}" if count else ""))
    rows.append(("total", "", f"{total:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {count:>{widths[2]}}" for name, shape, count in rows)


def _describe(layer) -> str:
    """`Conv2D 5x5, sigmoid`: what a reader needs to tell the layers of a LeNet apart."""
    name = type(layer).__name__
    settings = getattr(layer, "_kwargs", {})
    if "kernel" in settings:
        name += " " + "x".join(map(str, settings["kernel"]))
        if any(settings.get("pad", ())):
            name += f", padding {settings['pad'][0]}"
    activation = getattr(layer, "act", None)
    return f"{name}, {activation._act_type}" if activation is not None else name
