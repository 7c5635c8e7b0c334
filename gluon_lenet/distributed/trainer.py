"""A gang and parameters -> a trainer whose steps use the gradients of all workers."""

from __future__ import annotations

import hashlib

import mxnet as mx
from mxnet import gluon

from gluon_lenet.distributed.gang import Gang
from gluon_lenet.training.checkpoint import state_arrays
from gluon_lenet.training.recipes import Recipe


class GangTrainer(gluon.Trainer):
    """A `gluon.Trainer` that adds the workers' gradients before each step; every worker then takes the same step.

    Args:
        gang: the workers.
        others: as `gluon.Trainer` takes them.
    """

    def __init__(self, gang: Gang, *others, **named):
        super().__init__(*others, **named)
        self._gang = gang

    def _allreduce_grads(self):
        super()._allreduce_grads()  # over the devices of this worker
        self._gang.sum_gradients([param.list_grad() for param in self._params if param.grad_req != "null"])

    def digest(self) -> bytes:
        """SHA-256 of the weights and the optimizer's states."""
        digest = hashlib.sha256()
        for param in self._params:
            digest.update(param.list_data()[0].asnumpy().tobytes())
        for _, state in sorted(self._updaters[0].states.items()):
            for array in state_arrays(state):
                digest.update(array.asnumpy().tobytes())
        return digest.digest()


def build_trainer(gang: Gang, recipe: Recipe, net: gluon.Block, num_batches: int) -> gluon.Trainer:
    """`Recipe.build_trainer` for a gang: the servers step for `dist_async`, else each worker."""
    if gang.config.kvstore == "dist_sync":
        return recipe.build_trainer(net, num_batches, lambda *args, **named: GangTrainer(gang, *args, **named))
    trainer = recipe.build_trainer(
        net,
        num_batches,
        lambda *args, **named: gluon.Trainer(
            *args,
            **{**named, "update_on_kvstore": True},
            kvstore=gang.kvstore,
            compression_params=gang.config.compression and {"type": gang.config.compression},
        ),
    )
    trainer._optimizer.rescale_grad = trainer._scale / recipe.batch_size  # which the servers get once
    trainer._init_kvstore()
    trainer._init_params()
    mx.nd.waitall()
    gang.kvstore._barrier()  # without which a push may come before the servers have the weights
    return trainer
