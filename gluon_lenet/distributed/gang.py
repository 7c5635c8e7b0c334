"""The environment's DMLC_* variables -> this worker's place among others, sums over all of them, and messages to all.

MXNet's parameter server (ps-lite, the KVStore `dist_*`) does the sums. Added here: all gradients in one message, ranks
that the one who starts the processes chooses, and small messages that gradient compression leaves as they are.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence

import mxnet as mx
import numpy as np
from mxnet.base import _LIB, check_call

from gluon_lenet.distributed.environment import rank_of
from gluon_lenet.errors import InputError
from gluon_lenet.training.config import GangConfig
from gluon_lenet.training.metrics import Progress

_MESSAGE = 64  # bytes of a message of `gather`
_LEVEL = 0.5  # MXNet's threshold of 2-bit compression, which leaves 0 and this number as they are


class Gang:
    """The workers that train together, as one of them sees them.

    Args:
        config: what they agreed on; the number of workers is that of DMLC_NUM_WORKER.

    Attributes:
        rank: of this worker, from 0; None before `meet` if the environment does not choose it.
        num_workers: how many there are.
        config: the same.
        state: what this worker does: "joining" (until all are there), "starting", "computing", "waiting" (for the
            others), "testing" or "ending".
        since: when it began that, by `time.monotonic`.
        progress, size: of its training: how far it is, of how many batches and epochs.
    """

    def __init__(self, config: GangConfig):
        self.config, self.num_workers, self.rank = config, config.workers, rank_of(os.environ)
        self.progress, self.size = Progress(), (0, 0)
        self._sums = set()  # keys that the servers know
        self.enter("joining")

    def meet(self) -> None:
        """Wait until all processes are there; raises InputError if two workers have the same rank."""
        config = self.config
        self.kvstore = mx.kv.create(config.kvstore)
        self.rank = self.kvstore.rank if self.rank is None else self.rank
        self.enter("starting")
        if config.kvstore == "dist_async":
            return  # its servers would take every number that is sent for a gradient
        if config.compression is not None:
            self.kvstore.set_gradient_compression({"type": config.compression, "threshold": _LEVEL})
        present = np.zeros(self.num_workers, np.float32)
        present[self.rank] = _LEVEL
        if (self.sum("present", mx.nd.array(present)).asnumpy() != _LEVEL).any():
            raise InputError(
                f"the ranks of the {self.num_workers} workers are not 0, 1, ...: set GLUON_LENET_RANK in all or in none"
            )

    def enter(self, state: str) -> None:
        """Note what this worker does from now on."""
        self.state, self.since = state, time.monotonic()

    def sum(self, key: str, array: mx.nd.NDArray) -> mx.nd.NDArray:
        """The sum of all workers' arrays of this key and shape, which `array` is overwritten with; waits for it.

        With two workers the sum has the same bits each time; with more, the servers add in the order of arrival.
        """
        if key not in self._sums:
            self.kvstore.init(key, mx.nd.zeros(array.shape))
            mx.nd.waitall()
            self.kvstore._barrier()  # a push that is faster than another worker's `init` is lost
            self._sums.add(key)
        self.kvstore.push(key, array)
        self.kvstore.pull(key, array)
        array.wait_to_read()
        return array

    def gather(self, message: bytes) -> list[bytes]:
        """The messages of all workers, at most 64 bytes each, by rank; padded with zeros."""
        bits = np.zeros((self.num_workers, 8 * _MESSAGE), np.float32)
        own = np.unpackbits(np.frombuffer(message.ljust(_MESSAGE, b"\0"), np.uint8))
        bits[self.rank] = _LEVEL * own
        everybody = self.sum("messages", mx.nd.array(bits)).asnumpy() > _LEVEL / 2
        return [row.tobytes() for row in np.packbits(everybody, axis=1)]

    def broadcast(self, data: bytes | None) -> bytes:
        """The bytes that the worker of rank 0 gives; the others give None. Not for compressed gradients."""
        size = int.from_bytes(self.gather((len(data) if self.rank == 0 else 0).to_bytes(8, "little"))[0][:8], "little")
        numbers = np.frombuffer(data, np.uint8) if self.rank == 0 else np.zeros(size, np.uint8)
        if size == 0:
            return b""
        return self.sum(f"broadcast {len(self._sums)}", mx.nd.array(numbers)).asnumpy().astype(np.uint8).tobytes()

    def sum_gradients(self, gradients: Sequence[Sequence[mx.nd.NDArray]]) -> None:
        """Replace gradients, a list of one array a device, by their sums over the workers: in one message."""
        before = self.state
        flat = mx.nd.concat(*(arrays[0].reshape(-1).as_in_context(mx.cpu()) for arrays in gradients), dim=0)
        flat.wait_to_read()
        self.enter("waiting")
        self.sum("gradients", flat)
        self.enter(before)
        start = 0
        for arrays in gradients:
            part = flat[start : start + arrays[0].size].reshape(arrays[0].shape)
            start += arrays[0].size
            for array in arrays:
                part.copyto(array)

    def leave(self) -> None:
        """End the scheduler and the servers, when all workers have called this; not after an error."""
        self.enter("ending")
        mx.nd.waitall()
        check_call(_LIB.MXKVStoreFree(self.kvstore.handle))
        self.kvstore.handle = ctypes.c_void_p()
