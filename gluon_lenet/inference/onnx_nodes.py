"""A sequential Gluon net -> an ONNX graph, node by node: images float32 (batch, c, h, w) -> logits (batch, classes).

Each layer is one function, a row of LAYERS; a layer that is not there is refused by name. Dropout is left out, since it
does nothing in inference. Weights keep their structural names ("0.weight"), nodes are named by layer and operator
("0.Conv").
"""

from __future__ import annotations

from collections.abc import Iterator

import mxnet as mx
import numpy as np
from mxnet.gluon import Block, nn
from onnx import GraphProto, TensorProto, helper, numpy_helper

from gluon_lenet.engines.proof import Record
from gluon_lenet.errors import InputError
from gluon_lenet.nets.layers import (
    A,
    PrintLayer,
    RBFOutput,
    Reshape,
    S,
    ScaledTanh,
    Subsampling,
    TableConv2D,
)
from gluon_lenet.nets.table import describe

INPUT, OUTPUT = "images", "logits"  # the names that `session.run` takes

ACTIVATIONS = {  # MXNet's name -> ONNX's operator
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "relu": "Relu",
    "softrelu": "Softplus",
    "softsign": "Softsign",
}


class _Graph:
    """The nodes and weights so far; `last` is the name of the last node's output."""

    def __init__(self):
        self.nodes, self.weights = [], []
        self.last, self.is_flat = INPUT, False  # whether it is (batch, n)

    def add(self, layer: str, operator: str, *weights: str, **attributes) -> None:
        """A node that takes the last output and `weights`."""
        self._node(f"{layer}.{operator}", operator, [self.last, *weights], attributes)

    def add_to(self, other: str, layer: str, operator: str) -> None:
        """A node that takes the last output, then the output named `other`."""
        self._node(f"{layer}.{operator}", operator, [self.last, other], {})

    def _node(self, name: str, operator: str, inputs: list[str], attributes: dict) -> None:
        while any(node.name == name for node in self.nodes):  # a layer with two nodes of one operator
            name += "_"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        self.last = name

    def weight(self, name: str, array: np.ndarray) -> str:
        """A weight, stored in the graph; returns its name."""
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def scalar(self, name: str, value: float) -> str:
        """A constant of one number."""
        return self.weight(name, np.array(value, np.float32))


def onnx_graph(net: Block, input_shape: tuple[int, int, int]) -> GraphProto:
    """The graph of an initialized sequential net.

    Args:
        net: `nn.Sequential` or `nn.HybridSequential`, nested or not, of the layers in LAYERS.
        input_shape: (c, h, w) of one image.

    Raises:
        InputError: a layer is of another kind, has options that are not supported, or was changed so that it may not
            compute what its type says; or the net's output is not logits (batch, classes).
    """
    for param in net.collect_params().values():
        if (dtype := np.dtype(param.dtype)) != np.float32:
            raise InputError(f"{param.name} is {dtype}; a net is exported to ONNX with float32 weights")
    ctx = next(iter(net.collect_params().values())).list_ctx()[0]
    output = net(mx.nd.zeros((1, *input_shape), ctx=ctx))  # also infers shapes that are not known yet
    if output.ndim != 2:
        raise InputError(f"the net's outputs have the shape {output.shape}; logits have (1, classes)")
    graph = _Graph()
    for name, layer in _flat(net, ""):
        _add(graph, name, layer)
    graph.nodes[-1].output[0] = OUTPUT
    return helper.make_graph(
        graph.nodes,
        "net",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", *input_shape])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", output.shape[1]])],
        graph.weights,
    )


def _flat(block: Block, name: str) -> Iterator[tuple[str, Block]]:
    """The layers of a sequential net in order, by structural name ("0", "1.0")."""
    if type(block) not in (nn.Sequential, nn.HybridSequential):
        yield name, block
        return
    _check_genuine(block, name)
    for number, child in block._children.items():
        yield from _flat(child, f"{name}.{number}" if name else number)


def _add(graph: _Graph, name: str, layer: Block) -> None:
    if type(layer) not in LAYERS:
        known = ", ".join(sorted(kind.__name__ for kind in LAYERS))
        raise _refused(name, layer, f"is not among the layers that are exported to ONNX: {known}")
    _check_genuine(layer, name)
    LAYERS[type(layer)](graph, name, layer)
    activation = getattr(layer, "act", None)
    if activation is not None:
        _add(graph, name, activation)


def _check_genuine(layer: Block, name: str) -> None:
    """A hook, a replaced method: the layer may compute something else than its type says."""
    try:
        Record().add(layer)
    except ValueError as error:
        raise _refused(name, layer, f"may not compute what its type says: {error}") from None


def _refused(name: str, layer: Block, why: str) -> InputError:
    return InputError(f"{f'layer {name}' if name else 'the net'} ({describe(layer)}) {why}")


def _array(parameter) -> np.ndarray:
    return parameter.data(parameter.list_ctx()[0]).asnumpy()


def _own_weights(graph: _Graph, name: str, layer: Block) -> list[str]:
    """The layer's weight and, if it has one, its bias."""
    parameters = {"weight": layer.weight} | ({} if layer.bias is None else {"bias": layer.bias})
    return [graph.weight(f"{name}.{own}", _array(parameter)) for own, parameter in parameters.items()]


def _convolution(graph: _Graph, name: str, layer: nn.Conv2D) -> None:
    options = dict(layer._kwargs)
    if options["layout"] != "NCHW" or layer._op_name != "Convolution":
        raise _refused(name, layer, f"has the layout {options['layout']}; NCHW is exported to ONNX")
    graph.add(
        name,
        "Conv",
        *_own_weights(graph, name, layer),
        kernel_shape=options["kernel"],
        strides=options["stride"],
        dilations=options["dilate"],
        pads=2 * options["pad"],  # at the beginning, then at the end, of height and width
        group=options["num_group"],
    )
    graph.is_flat = False


def _table_convolution(graph: _Graph, name: str, layer: TableConv2D) -> None:
    """A dense convolution, with zeros where the table has no connection."""
    kernel = np.zeros(layer.kernel_shape, np.float32)
    for fan_in, pairs in layer.pairs.items():
        weights = _array(getattr(layer, f"weight{fan_in}"))
        kernel[tuple(zip(*pairs, strict=True))] = weights.reshape(-1, *layer.kernel_shape[2:])
    weights = graph.weight(f"{name}.weight", kernel), graph.weight(f"{name}.bias", _array(layer.bias))
    graph.add(name, "Conv", *weights, kernel_shape=layer.kernel_shape[2:])


def _pooling(graph: _Graph, name: str, layer: nn.MaxPool2D | nn.AvgPool2D) -> None:
    options = dict(layer._kwargs)
    if options["layout"] != "NCHW" or options["pooling_convention"] != "valid":
        raise _refused(name, layer, "has ceil_mode or a layout other than NCHW, which are not exported to ONNX")
    window = {"kernel_shape": options["kernel"], "strides": options["stride"], "pads": 2 * options["pad"]}
    if type(layer) is nn.MaxPool2D:
        graph.add(name, "MaxPool", **window)
    else:
        graph.add(name, "AveragePool", **window, count_include_pad=int(options["count_include_pad"]))


def _global_pooling(graph: _Graph, name: str, layer: Block) -> None:
    if layer._kwargs["layout"] != "NCHW":
        raise _refused(name, layer, "has a layout other than NCHW, which is not exported to ONNX")
    graph.add(name, "GlobalMaxPool" if type(layer) is nn.GlobalMaxPool2D else "GlobalAveragePool")


def _subsampling(graph: _Graph, name: str, layer: Subsampling) -> None:
    """4 x mean x coefficient + bias, as the layer computes it."""
    graph.add(name, "AveragePool", kernel_shape=(2, 2), strides=(2, 2))
    coefficient = graph.weight(f"{name}.coefficient", 4 * _array(layer.coefficient))
    bias = graph.weight(f"{name}.bias", _array(layer.bias))
    graph.add(name, "Conv", coefficient, bias, kernel_shape=(1, 1), group=layer._channels)


def _dense(graph: _Graph, name: str, layer: nn.Dense) -> None:
    if not graph.is_flat:
        if not layer._flatten:
            raise _refused(name, layer, "does not flatten its maps, which is not exported to ONNX")
        _flatten(graph, name, layer)
    graph.add(name, "Gemm", *_own_weights(graph, name, layer), transB=1)


def _flatten(graph: _Graph, name: str, layer: Block) -> None:
    graph.add(name, "Flatten", axis=1)
    graph.is_flat = True


def _activation(graph: _Graph, name: str, layer: nn.Activation) -> None:
    graph.add(name, ACTIVATIONS[layer._act_type])


def _scaled_tanh(graph: _Graph, name: str, layer: ScaledTanh) -> None:
    graph.add(name, "Mul", graph.scalar(f"{name}.S", S))
    graph.add(name, "Tanh")
    graph.add(name, "Mul", graph.scalar(f"{name}.A", A))


def _rbf_output(graph: _Graph, name: str, layer: RBFOutput) -> None:
    """2 x.w - |w|^2, minus |x|^2."""
    X, centres = graph.last, _array(layer.centres)
    graph.add(name, "ReduceSumSquare", axes=[1], keepdims=1)
    lengths, graph.last = graph.last, X
    weights = graph.weight(f"{name}.centres", centres), graph.weight(f"{name}.lengths", -np.square(centres).sum(axis=1))
    graph.add(name, "Gemm", *weights, alpha=2.0, transB=1)
    graph.add_to(lengths, name, "Sub")


def _batch_norm(graph: _Graph, name: str, layer: nn.BatchNorm) -> None:
    if layer._kwargs["axis"] != 1:
        raise _refused(name, layer, f"normalizes axis {layer._kwargs['axis']}; axis 1 is exported to ONNX")
    arrays = {own: _array(getattr(layer, own)) for own in ("gamma", "beta", "running_mean", "running_var")}
    if layer._kwargs["fix_gamma"]:
        arrays["gamma"] = np.ones_like(arrays["gamma"])  # MXNet ignores its values
    weights = [graph.weight(f"{name}.{own}", array) for own, array in arrays.items()]
    graph.add(name, "BatchNormalization", *weights, epsilon=layer._kwargs["eps"])


def _reshape(graph: _Graph, name: str, layer: Reshape) -> None:
    graph.add(name, "Reshape", graph.weight(f"{name}.shape", np.array([-1, *layer._shape], np.int64)))
    graph.is_flat = False


def _nothing(graph: _Graph, name: str, layer: Block) -> None:
    """A layer that returns its input."""


LAYERS = {
    nn.Conv2D: _convolution,
    TableConv2D: _table_convolution,
    nn.MaxPool2D: _pooling,
    nn.AvgPool2D: _pooling,
    nn.GlobalMaxPool2D: _global_pooling,
    nn.GlobalAvgPool2D: _global_pooling,
    Subsampling: _subsampling,
    nn.Dense: _dense,
    nn.Flatten: _flatten,
    nn.Activation: _activation,
    ScaledTanh: _scaled_tanh,
    RBFOutput: _rbf_output,
    nn.BatchNorm: _batch_norm,
    nn.Dropout: _nothing,
    PrintLayer: _nothing,
    Reshape: _reshape,
}
