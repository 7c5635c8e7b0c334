"""A net, its devices and batches -> the engine that computes with them."""

from __future__ import annotations

from collections.abc import Iterable

import mxnet as mx
from mxnet.gluon import Block
from mxnet.gluon.loss import Loss

from gluon_lenet.engines.autograd import Autograd
from gluon_lenet.engines.base import Engine
from gluon_lenet.engines.proof import why_not_served
from gluon_lenet.errors import InputError

MODES = ("auto", "autograd", "fused")


def choose(
    net: Block, contexts: list[mx.Context], data_iter: Iterable, mode: str = "auto", loss: Loss | None = None
) -> Engine:
    """The engine for a net: `auto` uses the fused kernels where they apply; `autograd` and `fused` force one engine.

    Args:
        net, contexts: the net and the devices it is on.
        data_iter: batches like those it will be given.
        mode: one of MODES.
        loss: maps logits (b, classes) and labels (b,) to losses (b,); softmax cross-entropy by default.

    Raises:
        InputError: an unknown mode, or `fused` where the kernels do not apply; the message says why.
    """
    if mode not in MODES:
        raise InputError(f"unknown backprop {mode!r}; choose from {', '.join(MODES)}")
    if mode == "autograd":
        return Autograd(net, contexts, loss)
    if contexts != [mx.cpu()]:
        why = f"they run on cpu(0), not on {', '.join(map(str, contexts))}"
    else:
        why = why_not_served(data_iter)
    if why is None:
        from gluon_lenet.engines.fused.engine import Fused, Unsupported  # here: Numba takes a while to import

        try:
            return Fused(net, data_iter.image_shape, loss, insist=mode == "fused")
        except Unsupported as error:
            why = str(error)
    if mode == "fused":
        raise InputError(f"the fused kernels cannot serve: {why}")
    return Autograd(net, contexts, loss, why)
