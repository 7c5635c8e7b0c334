"""A trained net -> what the page needs to compute it: its layers, as JSON, and its weights in half precision."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from math import prod

import numpy as np
from mxnet import autograd, nd
from mxnet.gluon import Block, nn

from gluon_lenet.errors import InputError
from gluon_lenet.nets.layers import PrintLayer, RBFOutput, Reshape, ScaledTanh, Subsampling, TableConv2D
from gluon_lenet.nets.table import describe

UNCHANGING = (nn.Flatten, nn.Dropout, Reshape, PrintLayer)  # in a prediction they change no value
ACTIVATIONS = ("sigmoid", "tanh", "relu", "softrelu", "softsign")
LARGEST = 65504  # the largest half-precision number


@dataclass
class _Layer:
    """One layer of the page: its settings, and its arrays in the order in which the page reads them."""

    kind: str
    act: str | None = None
    settings: dict = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def describe_net(net: nn.Sequential | nn.HybridSequential, input_shape: tuple[int, int, int]) -> dict:
    """The layers of an initialized sequential net for `client/net.js`, and its weights as base64.

    Weights are rounded to half precision, so that the page is small. An activation that is a layer of its own belongs
    to the layer before it.

    Args:
        net: initialized, on any device.
        input_shape: (c, h, w) of one image.

    Raises:
        InputError: the page cannot compute a layer (it is named), or a weight is NaN or beyond half precision.
    """
    if not isinstance(net, (nn.Sequential, nn.HybridSequential)) or not net.collect_params().keys():
        raise InputError(f"the page shows sequential nets with weights, and {type(net).__name__} is none")
    ctx = next(iter(net.collect_params().values())).list_ctx()[0]
    X, layers, shapes = nd.zeros((1, *input_shape), ctx=ctx), [], [input_shape]
    for block in net:
        with autograd.predict_mode():
            X = block(X)
        if isinstance(block, UNCHANGING):
            continue
        act = _activation(block)
        if act is not None:
            if not layers or layers[-1].act or layers[-1].kind == "pool":
                raise InputError(f"the page cannot show {describe(block)}, which follows no layer of weights")
            layers[-1].act = act
            continue
        layers.append(_read(block))
        shapes.append((*X.shape[1:], 1, 1)[:3])
    names = _names(layers)
    arrays = [array for layer in layers for array in layer.arrays.values()]
    return {
        "input": list(input_shape),
        "parameters": sum(prod(p.shape) for p in net.collect_params().values() if p.grad_req != "null"),
        "layers": [
            {
                **{"kind": layer.kind, "name": name, "act": layer.act, "in": list(before), "out": list(after)},
                **layer.settings,
                "arrays": {key: array.size for key, array in layer.arrays.items()},
            }
            for layer, name, before, after in zip(layers, names, shapes[:-1], shapes[1:], strict=True)
        ],
        "weights": base64.b64encode(b"".join(_half(array).tobytes() for array in arrays)).decode(),
    }


def round_to_half(net: Block) -> None:
    """Round all parameters of a net, in place, to what the page computes with."""
    for parameter in net.collect_params().values():
        array = parameter.list_data()[0].asnumpy()
        parameter.set_data(nd.array(_half(array).astype(np.float32)))


def _half(array: np.ndarray) -> np.ndarray:
    if not np.isfinite(array).all():
        raise InputError("the net has weights that are NaN or infinite")
    if np.abs(array).max(initial=0) > LARGEST:
        raise InputError(f"the net has a weight of {np.abs(array).max():.3g}; half precision ends at {LARGEST:,}")
    return array.astype("<f2")


def _activation(block: Block) -> str | None:
    """The page's name of an activation that is a layer of its own; None for other layers."""
    if isinstance(block, ScaledTanh):
        return "scaled_tanh"
    return _known(block) if isinstance(block, nn.Activation) else None


def _known(activation: nn.Activation) -> str:
    if activation._act_type not in ACTIVATIONS:
        raise InputError(
            f"the page cannot compute the activation {activation._act_type}; it knows {', '.join(ACTIVATIONS)}"
        )
    return activation._act_type


def _read(block: Block) -> _Layer:
    """One layer with weights, or a pooling layer, for the page."""
    reader = next((read for kind, read in _READERS.items() if type(block) is kind), None)
    if reader is None:
        known = ", ".join(sorted(kind.__name__ for kind in [*_READERS, *UNCHANGING, nn.Activation, ScaledTanh]))
        raise InputError(f"the page cannot compute the layer {describe(block)}; it knows {known}")
    layer = reader(block)
    if getattr(block, "act", None) is not None:
        layer.act = _known(block.act)
    return layer


def _conv(block: nn.Conv2D) -> _Layer:
    settings = block._kwargs
    if tuple(settings["dilate"]) != (1, 1) or settings["num_group"] != 1:
        raise InputError(f"the page cannot compute {describe(block)} with dilation or groups")
    return _Layer("conv", settings=_window(settings), arrays=_weight_and_bias(block))


def _table_conv(block: TableConv2D) -> _Layer:
    kernel = np.zeros(block.kernel_shape, np.float32)  # (maps, c, k, k), zeros where there is no connection
    for n, pairs in block.pairs.items():
        weights = _array(getattr(block, f"weight{n}")).reshape(-1, *kernel.shape[2:])
        kernel[tuple(zip(*pairs, strict=True))] = weights
    seen = [sorted(i for pairs in block.pairs.values() for o, i in pairs if o == map) for map in range(len(kernel))]
    side = kernel.shape[-1]
    return _Layer(
        "conv",
        settings={"kernel": [side, side], "stride": [1, 1], "pad": [0, 0], "seen": seen},
        arrays={"weight": kernel, "bias": _array(block.bias)},
    )


def _pool(block: nn.MaxPool2D | nn.AvgPool2D) -> _Layer:
    settings = block._kwargs
    if settings["pooling_convention"] != "valid":
        raise InputError(f"the page cannot compute {describe(block)} with ceil_mode")
    count = bool(settings.get("count_include_pad", True))
    return _Layer("pool", settings={"how": settings["pool_type"], "countPad": count, **_window(settings)})


def _subsampling(block: Subsampling) -> _Layer:
    settings = {"kernel": [2, 2], "stride": [2, 2], "pad": [0, 0]}
    return _Layer(
        "subsample", settings=settings, arrays={"coefficient": _array(block.coefficient), "bias": _array(block.bias)}
    )


def _dense(block: nn.Dense) -> _Layer:
    if not block._flatten:
        raise InputError(f"the page cannot compute {describe(block)} with flatten=False")
    return _Layer("dense", arrays=_weight_and_bias(block))


def _rbf(block: RBFOutput) -> _Layer:
    return _Layer("rbf", arrays={"centres": _array(block.centres)})


_READERS = {
    nn.Conv2D: _conv,
    TableConv2D: _table_conv,
    nn.MaxPool2D: _pool,
    nn.AvgPool2D: _pool,
    Subsampling: _subsampling,
    nn.Dense: _dense,
    RBFOutput: _rbf,
}


def _window(settings: dict) -> dict:
    return {key: list(settings[key]) for key in ("kernel", "stride", "pad")}


def _array(parameter) -> np.ndarray:
    return parameter.list_data()[0].asnumpy()


def _weight_and_bias(block: Block) -> dict[str, np.ndarray]:
    arrays = {"weight": _array(block.weight)}
    if getattr(block, "bias", None) is not None:
        arrays["bias"] = _array(block.bias)
    return arrays


def _names(layers: list[_Layer]) -> list[str]:
    """The paper's names: C for convolutions, S for pooling, F for dense layers, numbered; the last layer is OUT."""
    letters = {"conv": "C", "pool": "S", "subsample": "S", "dense": "F", "rbf": "F"}
    names = [f"{letters[layer.kind]}{number}" for number, layer in enumerate(layers, 1)]
    return [*names[:-1], "OUT"]
