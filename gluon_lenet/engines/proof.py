"""Objects of Gluon or this package -> why one may not compute what its type says; and a record that detects changes.

The kernels never call a block, a loader or a transform: they compute what an object of its type computes. That is right
only if no method, hook or child was changed, which Python allows at any time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from copy import copy

import mxnet as mx
import numpy as np
from mxnet.gluon import Block, Constant, HybridBlock, Parameter, nn

from gluon_lenet.data.batches import Batches
from gluon_lenet.data.transforms import Transform
from gluon_lenet.engines.reasons import Reason

# The operations that Gluon's layers and losses call, by these names in `F`, which is mx.nd or mx.sym.
_OPERATIONS = {
    (module, name): getattr(module, name)
    for module in (mx.nd, mx.sym)
    for name in ("Activation", "Convolution", "FullyConnected", "Pooling", "flatten", "log_softmax", "mean", "pick")
}

ACCEPTED = []  # functions that replace a method of MXNet's and do the same (engines/accelerated.py)

# The special methods that matter; others, such as `__repr__`, may be replaced.
_USED = {"__call__", "__iter__", "__len__", "__getattr__", "__getattribute__", "__setattr__"}


def why_not_genuine(thing: object) -> Reason | None:
    """Why `thing` may compute something else than its type says; None if it does not.

    Its class must have its original methods, and the object itself must not override any.
    """
    for cls in type(thing).__mro__[:-1]:
        home = vars(sys.modules[cls.__module__])
        for name, value in vars(cls).items():
            if name.startswith("__") and name not in _USED:
                continue
            function = getattr(value, "__func__", value)  # of a classmethod or staticmethod
            if (
                callable(function)
                and not isinstance(function, type)
                and not any(function is other for other in ACCEPTED)
                and getattr(function, "__globals__", 0) is not home
            ):
                return Reason("{owner}.{name} was replaced", owner=cls.__name__, name=name)
    for name in vars(thing):
        replaced = next((vars(cls)[name] for cls in type(thing).__mro__ if name in vars(cls)), None)
        if callable(replaced) or isinstance(replaced, property):
            return Reason("it has a {name} of its own", name=name)
    return None


class Snapshot:
    """Copies of dictionaries, taken when they were added.

    A net is compared before each use, so this must take microseconds: dictionaries are compared as a whole, and
    identical objects count as equal without a comparison.
    """

    def __init__(self):
        self._live, self._saved = [], []  # the dictionaries, and their copies
        self._classes = set()

    def add(self, *dictionaries: Mapping) -> None:
        """Add dictionaries, without those nested in them."""
        self._live += dictionaries
        self._saved += [copy(content) if isinstance(content, dict) else dict(content) for content in dictionaries]

    def add_block(self, block: Block) -> None:
        """Add the attributes of a block, and the dictionaries among them: children, hooks, options."""
        self.add(vars(block), *(value for value in vars(block).values() if isinstance(value, dict)))

    def add_classes(self, thing: object) -> None:
        """Add the methods of the classes of an object."""
        for cls in set(type(thing).__mro__[:-1]) - self._classes:
            self._classes.add(cls)
            self.add(vars(cls))

    def is_current(self) -> bool:
        """Whether all of them are unchanged."""
        try:
            return self._live == self._saved
        except Exception:  # comparing arrays or symbols, among a block's attributes, has no truth value
            return False


class Record:
    """The blocks of a net and its loss, as they were when the kernels' table was built from them."""

    def __init__(self):
        self._blocks, self._types = [], []
        self._attributes, self._declared = Snapshot(), Snapshot()  # of the blocks; of their classes and parameters
        self._parameters = {}  # id -> the block that has it

    def add(self, block: Block) -> None:
        """Add a block, without its children.

        Raises:
            ValueError: it may not compute what its type says, or shares a parameter with another; the message, a
                `Reason`, says why.
        """
        why = why_not_genuine(block) or _why_watched(block) or _why_stale(block)
        if why is not None:
            raise ValueError(why)
        for parameter in block._reg_params.values():
            name, kind = parameter.name, type(parameter)
            if kind not in (Parameter, Constant):
                raise ValueError(Reason("its parameter {parameter} is a {type}", parameter=name, type=kind.__name__))
            if why := why_not_genuine(parameter):
                raise ValueError(Reason("its parameter {parameter} is changed: {why}", parameter=name, why=why))
            if self._parameters.setdefault(id(parameter), block) is not block or block in self._blocks:
                raise ValueError(Reason("its parameter {parameter} is used by another layer, too", parameter=name))
            self._declared.add(vars(parameter))
            self._declared.add_classes(parameter)
        self._blocks.append(block)
        self._types.append(type(block))
        self._attributes.add_block(block)
        self._declared.add_classes(block)

    def is_current(self) -> bool:
        """Whether every block has the same type, children, parameters and other attributes as when it was added."""
        return self._attributes.is_current() and list(map(type, self._blocks)) == self._types

    def is_as_declared(self) -> bool:
        """Whether the classes still have the same methods, and the parameters the same attributes.

        Separate from `is_current` because of its cost: 10 microseconds, which is noticeable in a training step.
        """
        return self._declared.is_current()

    def check_caches(self) -> None:
        """Raise ValueError, with a `Reason`, if a hybridized block would run a graph that no longer matches it.

        MXNet caches the graph of a hybridized block; changes that bypass Gluon's own methods do not update it.
        """
        for block in self._blocks:
            if not isinstance(block, HybridBlock) or not block._active:
                continue
            if block._cached_graph and block._cached_graph[1].tojson() != _trace(block).tojson():
                raise ValueError(Reason("{block} was hybridized as another net than it is now", block=block.name))
            bound = [parameter for is_input, parameter in block._cached_op_args if not is_input]
            if any(id(parameter) not in self._parameters for parameter in bound):
                raise ValueError(
                    Reason("{block} was hybridized with other parameters than it has now", block=block.name)
                )


def _why_watched(block: Block) -> Reason | None:
    """Which hook of the block the kernels would bypass; None if it has none."""
    if block._forward_hooks or block._forward_pre_hooks:
        return Reason("it has a forward hook")
    if getattr(block, "_callback", None) is not None:
        return Reason("it has an operator hook")
    return None


def _why_stale(block: Block) -> Reason | None:
    if getattr(block, "_backend", None) is not None:
        return Reason("it is optimized for the backend {backend}", backend=block._backend)
    for name, value in block._reg_params.items():
        if getattr(block, name, None) is not value:
            return Reason("its {name} is not the parameter it was made with", name=name)
    return None


def _trace(block: HybridBlock) -> mx.sym.Symbol:
    """The graph that MXNet would build of the block now, for the inputs of its first call."""
    inputs, _ = block._cached_graph
    with block.name_scope():
        parameters = {name: parameter.var() for name, parameter in block._reg_params.items()}
        return mx.sym.Group([block.hybrid_forward(mx.sym, *inputs, **parameters)])


def why_not_default_mode() -> Reason | None:
    """Which global mode or change keeps MXNet's operations from their default behaviour; None if there is none."""
    if mx.util.is_np_array() or mx.util.is_np_shape():
        return Reason("MXNet is in NumPy mode (npx.set_np)")
    precision = sys.modules.get("mxnet.contrib.amp.amp")
    if precision is not None and precision._amp_initialized:
        return Reason("MXNet computes in mixed precision (amp.init)")
    for (module, name), operation in _OPERATIONS.items():
        if getattr(module, name) is not operation:
            return Reason("{owner}.{name} was replaced", owner=module.__name__, name=name)
    return None


def why_not_served(data_iter: Iterable) -> str | None:
    """Why the kernels cannot use the images of these batches as they are stored; None if they can."""
    if type(data_iter) is not Batches:
        return f"they take gluon_lenet's Batches, not a {type(data_iter).__name__}"
    if type(data_iter.transform) is not Transform:
        return f"they know gluon_lenet's Transform, not a {type(data_iter.transform).__name__}"
    for thing in (data_iter, data_iter.transform):
        if why := why_not_genuine(thing):
            return f"the {type(thing).__name__} may not do what its type says: {why}"
    if data_iter.images.dtype != np.uint8 or data_iter.labels.dtype != np.int32:
        return f"its images are {data_iter.images.dtype} and its labels {data_iter.labels.dtype}, not uint8 and int32"
    return None


def half_frozen(net: Block) -> Reason | None:
    """Which layer of the net MXNet would train with uninitialized gradients; None if there is none.

    For a Dense with a frozen weight, MXNet 1.9.1 never writes the gradient of the bias (oneDNN computes both together,
    or neither if the weight's is not requested): the bias would be trained with whatever is in that memory.
    """
    blocks = []
    net.apply(blocks.append)
    for block in blocks:
        frozen = isinstance(block, nn.Dense) and block.weight.grad_req == "null"
        if frozen and block.bias is not None and block.bias.grad_req != "null":
            return Reason(
                "{bias} is trained and {weight} is frozen, for which MXNet has no gradient; freeze both or none",
                bias=block.bias.name,
                weight=block.weight.name,
            )
    return None
