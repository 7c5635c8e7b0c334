"""A net and an input shape -> its table: layer, shapes, parameters."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import mxnet as mx
from mxnet.gluon import Block, nn


@dataclass(frozen=True)
class LayerRow:
    """One layer of a net, with the shapes of a batch that passes through it."""

    name: str
    input_shape: tuple[int, ...]  # (b, c, h, w), or (b, n) for a Dense that flattens its input
    output_shape: tuple[int, ...]
    weight_shapes: tuple[tuple[int, ...], ...]  # of its trainable parameters
    num_parameters: int
    window: tuple[int, int, int] | None  # side, stride and padding of the square that one value sees, if it sees one


def layer_rows(net: nn.Sequential | nn.HybridSequential, input_shape: tuple[int, ...], bias=True) -> list[LayerRow]:
    """The layers of an initialized sequential net, found by passing a batch of zeros through it.

    Args:
        net: initialized, on any device.
        input_shape: (b, c, h, w) of that batch.
        bias: whether to count biases among the parameters.
    """
    ctx = next(iter(net.collect_params().values())).list_ctx()[0]
    X, rows = mx.nd.zeros(input_shape, ctx=ctx), []
    for layer in net:
        taken = (X.shape[0], prod(X.shape[1:])) if isinstance(layer, nn.Dense) and layer._flatten else X.shape
        X = layer(X)
        # constants, such as the RBF units' bitmaps or the averages of a batch normalization, have no gradient
        shapes = [
            param.shape
            for name, param in layer.collect_params().items()
            if param.grad_req != "null" and (bias or not name.endswith("bias"))
        ]
        window = _window(layer, taken, X.shape)
        rows.append(LayerRow(describe(layer), taken, X.shape, tuple(shapes), sum(map(prod, shapes)), window))
    return rows


def _window(layer: Block, taken: tuple[int, ...], given: tuple[int, ...]) -> tuple[int, int, int] | None:
    """`LayerRow.window`; of layers that do not name it, such as `Subsampling`, from the sizes of the maps."""
    if len(taken) != 4 or len(given) != 4:
        return None
    settings = getattr(layer, "_kwargs", {})
    if "kernel" in settings:
        return settings["kernel"][0], settings.get("stride", (1,))[0], settings.get("pad", (0,))[0]
    if taken[2] == given[2]:
        return None
    stride, rest = divmod(taken[2], given[2])
    return (stride, stride, 0) if taken[1] == given[1] and not rest else (taken[2] - given[2] + 1, 1, 0)


def layer_table(net: nn.Sequential | nn.HybridSequential, input_shape: tuple[int, ...]) -> str:
    """The layers of an initialized sequential net with their output shapes, and the sum of their parameters.

    Args:
        net: initialized, on any device.
        input_shape: (b, c, h, w) of a batch of zeros that is passed through the net.
    """
    layers = layer_rows(net, input_shape)
    rows = [("layer", "output shape", "parameters"), ("input", str(input_shape), "")]
    rows += [(layer.name, str(layer.output_shape), _count(layer)) for layer in layers]
    rows.append(("total", "", f"{sum(layer.num_parameters for layer in layers):,}"))
    return align(rows, "<<>")


def weight_table(net: nn.Sequential | nn.HybridSequential, input_shape: tuple[int, ...], bias: bool = True) -> str:
    """Like `layer_table`, with each layer's input and the shapes of its weights (write-up 000, table 4-1)."""
    layers = layer_rows(net, input_shape, bias)
    rows = [("layer", "input shape", "output shape", "weight shapes", "parameters")]
    for layer in layers:
        shapes = " ".join(map(str, layer.weight_shapes))
        rows.append((layer.name, str(layer.input_shape), str(layer.output_shape), shapes, _count(layer)))
    total = f"{sum(layer.num_parameters for layer in layers):,}"
    rows.append(("total" if bias else "total without biases", "", "", "", total))
    return align(rows, "<<<<>")


def align(rows: Sequence[Sequence[str]], sides: str) -> str:
    """Rows of cells -> lines with aligned columns; `sides` has a `<` (left) or `>` (right) for each column."""
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(_pad(cell, side, width) for cell, side, width in zip(row, sides, widths, strict=True)) for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def columns(text: str) -> int:
    """The width of a text on a terminal, where a Chinese character takes two columns."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _pad(cell: str, side: str, width: int) -> str:
    space = " " * (width - columns(cell))
    return cell + space if side == "<" else space + cell


def _count(layer: LayerRow) -> str:
    return f"{layer.num_parameters:,}" if layer.num_parameters else ""


def describe(layer: Block) -> str:
    """A short description that tells the layers of a LeNet apart: `Conv2D 5x5, sigmoid`."""
    name = type(layer).__name__
    settings = getattr(layer, "_kwargs", {})
    if "kernel" in settings:
        name += " " + "x".join(map(str, settings["kernel"]))
        if any(settings.get("pad", ())):
            name += f", padding {settings['pad'][0]}"
        if any(step != 1 for step in settings.get("stride", ())):
            name += f", stride {settings['stride'][0]}"
    activation = getattr(layer, "act", None)
    return f"{name}, {activation._act_type}" if activation is not None else name
