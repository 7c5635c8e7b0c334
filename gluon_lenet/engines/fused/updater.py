"""A trainer's step by MXNet's SGD or Adam -> the same numbers, by the kernels, in one pass over all weights."""

from __future__ import annotations

import functools
import math
from operator import is_

import mxnet as mx
import numpy as np

from gluon_lenet.engines.fused.arrays import Memory
from gluon_lenet.engines.fused.compiled import Task
from gluon_lenet.engines.fused.rules import ADAM, MOMENTUM, SGD
from gluon_lenet.engines.fused.tables import BAD_WEIGHTS, PARAMETER, UPDATE
from gluon_lenet.engines.proof import Snapshot, why_not_genuine

_STATES = {SGD: lambda state: (), MOMENTUM: lambda state: (state,), ADAM: tuple}  # of a parameter, as a sequence


class KernelUpdater(mx.optimizer.Updater):
    """What a `gluon.Trainer` applies its optimizer with: MXNet's `Updater`, but by the kernels where they serve.

    They do for SGD and Adam that do not clip, with their own methods, on `mx.cpu()` in float32, and change weights and
    states as MXNet does, to the bit. For the weights of a LeNet MXNet's operations take as long as the gradients of a
    small batch.

    Args:
        updater: the one whose place in `trainer._updaters` it takes.

    Attributes:
        all_finite: whether all weights were finite after the last step; None if that was MXNet's own, or there was
            none.
    """

    def __init__(self, updater: mx.optimizer.Updater):
        super().__init__(updater.optimizer)
        self.states, self.states_synced = updater.states, updater.states_synced
        self._begin()

    def _begin(self):
        self.all_finite = None
        self._task = Task(UPDATE, shares=1)  # waking a second thread takes as long as this one needs for all
        self._known = []  # the arrays that the table has the addresses of
        self._genuine = None  # the optimizer whose methods were looked at, and what it and they were then

    def __getstate__(self) -> dict:
        """What MXNet's own updater has: a copy, or a pickled one, looks up addresses and methods anew."""
        return {name: value for name, value in vars(self).items() if name in vars(mx.optimizer.Updater(self.optimizer))}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._begin()

    def __call__(self, index: tuple[int], grad: tuple[mx.nd.NDArray], weight: tuple[mx.nd.NDArray]) -> None:
        """Update the weights of the parameters with these numbers by their gradients."""
        optimizer, rule = self.optimizer, _rule(self.optimizer)
        if rule is None or not self._is_genuine() or not self._connect(rule, index, grad, weight):
            self.all_finite = None
            super().__call__(index, grad, weight)
            return
        optimizer._set_current_context(0)
        if rule == ADAM:
            rates = list(map(_as_mxnet_reads, _adam_rates(optimizer, index)))
            self._task.set(beta1=optimizer.beta1, beta2=optimizer.beta2, epsilon=optimizer.epsilon)
        else:
            optimizer._update_count(index)
            rates = optimizer._get_lrs(index)
            self._task.set(momentum=optimizer.momentum)
        self._table["lr"], self._table["wd"] = rates, optimizer._get_wds(index)
        self._task.set(rule=rule, rescale=_as_mxnet_reads(optimizer.rescale_grad))
        self._task.run()
        self.all_finite = not self._task.totals[:, BAD_WEIGHTS].any()

    def _is_genuine(self) -> bool:
        """Whether the optimizer steps by the methods it was written with, and none that it was given."""
        optimizer, names = self.optimizer, vars(self.optimizer).keys()
        known = self._genuine
        if known is None or known[0] is not optimizer or known[1] != names or not known[2].is_current():
            self._genuine = None
            if why_not_genuine(optimizer) is not None:
                return False
            methods = Snapshot()
            methods.add_classes(optimizer)
            self._genuine = optimizer, set(names), methods
        return True

    def _connect(self, rule, index, grad, weight) -> bool:
        """Put the addresses of these arrays and of their states into the table; False if the kernels cannot serve."""
        for i, array in zip(index, weight, strict=True):  # as MXNet makes and moves them
            if i not in self.states:
                self.states[i] = self.optimizer.create_state_multi_precision(i, array)
            elif not self.states_synced[i]:
                self.states[i] = self.sync_state_context(self.states[i], array.context)
            self.states_synced[i] = True
        states = [_STATES[rule](self.states[i]) for i in index]
        known = [array for column in (weight, grad, *zip(*states, strict=True)) for array in column]
        if len(known) != len(self._known) or not all(map(is_, known, self._known)):
            if not all(map(_is_served, known)):
                return False
            self._known, self._table = known, np.zeros(len(index), PARAMETER)
            self._table["size"] = [array.size for array in weight]
            self._memory = Memory(known)
            self._task.set(parameters=self._table.ctypes.data, num_parameters=len(index))
        mx.nd.waitall()
        if self._memory.moved():
            addresses, rows = self._memory.addresses, len(index)
            for column, start in zip(
                ("weight", "gradient", "first", "second"), range(0, len(known), rows), strict=False
            ):
                self._table[column] = addresses[start : start + rows]
        return True


def install(trainer: mx.gluon.Trainer) -> None:
    """Let a trainer's steps be those of a `KernelUpdater`, if its updater is MXNet's own."""
    updater = trainer._updaters[0]
    if type(updater) is mx.optimizer.Updater and why_not_genuine(updater) is None:
        trainer._updaters[0] = KernelUpdater(updater)


def _rule(optimizer: mx.optimizer.Optimizer) -> int | None:
    """Which of the rules an optimizer is; None if it is none of them."""
    if optimizer.clip_gradient:
        return None
    if type(optimizer) is mx.optimizer.SGD:
        return MOMENTUM if optimizer.momentum > 0 else SGD
    return ADAM if type(optimizer) is mx.optimizer.Adam else None


def _adam_rates(optimizer, index) -> list[float]:
    """Count a step of each parameter, and return their learning rates times Adam's bias correction.

    MXNet's Adam counts parameter by parameter, so that a schedule may give those of one step different rates. Where
    they were updated equally often, as nearly always, all are counted at once, which comes to the same.
    """
    counts = [optimizer._index_update_count.get(i, optimizer.begin_num_update) for i in index]
    groups = [index] if len(set(counts)) == 1 else [(i,) for i in index]
    rates = []
    for group in groups:
        optimizer._update_count(group)
        count = optimizer._index_update_count[group[0]]
        correction = math.sqrt(1 - optimizer.beta2**count) / (1 - optimizer.beta1**count)
        rates += [lr * correction for lr in optimizer._get_lrs(group)]
    return rates


@functools.lru_cache(maxsize=16)  # all parameters have one learning rate, as a rule
def _as_mxnet_reads(number: float) -> np.float32:
    """The float32 that an operation of MXNet's gets for a number, which it is handed as text.

    With an exponent it is not always the nearest one: the digits are rounded first, then their quotient with 10**n.
    """
    digits, _, exponent = repr(float(number)).partition("e")
    power = np.float32(10.0 ** abs(int(exponent or 0)))
    return np.float32(digits) / power if exponent.startswith("-") else np.float32(digits) * power


def _is_served(array) -> bool:
    return type(array) is mx.nd.NDArray and array.context == mx.cpu() and array.dtype == np.float32
