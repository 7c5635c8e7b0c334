"""A net and mini-batches -> the net trained, and what each epoch measured."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, takewhile

import mxnet as mx
from mxnet import gluon, nd
from mxnet.gluon.utils import split_and_load

from gluon_lenet.backprop import by_autograd, count_correct
from gluon_lenet.errors import InputError
from gluon_lenet.metrics import EpochResult, Progress

# How many batches the loop may be ahead of the device: reading numbers of a batch that old stalls nothing, and it
# bounds the memory of what is queued.
_LEAD = 8


class DivergedError(ArithmeticError):
    """The loss or a weight became NaN or infinite; the message names the epoch and the batch."""


def evaluate_accuracy(data_iter: Iterable, net: gluon.Block, ctx: mx.Context | list[mx.Context] | None = None) -> float:
    """The share of correct predictions of `net` over `data_iter`, counted over all images.

    Args:
        data_iter: yields X (b, c, h, w), y (b,).
        net: maps X to logits (b, classes).
        ctx: the device the net is on, or a list of devices that share each batch; the CPU by default.
    """
    contexts = _as_list(ctx)
    counts = (
        ([count_correct(net(X_part), y_part) for X_part, y_part in _split(X, y, contexts)], len(y))
        for X, y in data_iter
    )
    num_correct = num_examples = 0
    for corrects, size in _behind(counts):
        num_correct += sum(count.asscalar() for count in corrects)
        num_examples += size
    return float(num_correct / num_examples)


def train_ch5(net, train_iter, test_iter, batch_size, trainer, ctx, num_epochs) -> list[EpochResult]:
    """Train as the chapter does: softmax cross-entropy, a test pass and a printed line after each epoch.

    As in the book, every step divides the gradient by `batch_size`, also on the last batch, which may be smaller.
    Unlike the book's, the loop reads no number back from the device batch by batch.

    Args:
        net: initialized on `ctx`; maps X (b, c, h, w) to logits (b, classes).
        train_iter: yields X float32 (b, c, h, w), y (b,), once an epoch.
        test_iter: likewise.
        batch_size: what the summed gradient is divided by.
        trainer: a `gluon.Trainer` of the net's parameters.
        ctx: one context, or a list that shares each batch.
        num_epochs: passes over `train_iter`.

    Returns:
        One result an epoch.

    Raises:
        DivergedError: the loss or a weight is NaN or infinite.
    """
    print("training on", ctx)
    history = []
    for result in run_epochs(net, train_iter, test_iter, batch_size, trainer, ctx, num_epochs):
        print(result)
        history.append(result)
    return history


def run_epochs(
    net: gluon.Block,
    train_iter: Iterable,
    test_iter: Iterable,
    batch_size: int,
    trainer: gluon.Trainer,
    ctx: mx.Context | list[mx.Context],
    num_epochs: int,
    progress: Progress | None = None,
    on_batch: Callable[[int], None] = lambda num_examples: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[EpochResult]:
    """The loop behind `train_ch5` and the command line: yields each epoch's result when its test pass is done.

    Args:
        net, train_iter, test_iter, batch_size, trainer, ctx, num_epochs: as in `train_ch5`.
        progress: where to go on; `train_iter` must begin with that epoch's pass. By default at the beginning.
        on_batch: is told the number of images of each batch that the device has finished.
        should_stop: is asked before each batch; when it says yes, the iterator ends, `progress` stands after the last
            batch done and the weights are of that moment.
    """
    contexts, progress = _as_list(ctx), progress or Progress()
    while progress.epoch <= num_epochs:
        mx.nd.waitall()
        start = time.perf_counter()
        whole = _train_epoch(net, train_iter, batch_size, trainer, contexts, progress, on_batch, should_stop)
        trained = time.perf_counter()
        progress.train_seconds += trained - start
        if not whole:
            return
        test_acc = evaluate_accuracy(test_iter, net, contexts)
        result = EpochResult(
            epoch=progress.epoch,
            train_loss=float(progress.loss_sum / progress.num_examples),
            train_acc=float(progress.num_correct / progress.num_examples),
            test_acc=test_acc,
            train_seconds=progress.train_seconds,
            eval_seconds=time.perf_counter() - trained,
        )
        vars(progress).update(vars(Progress(epoch=progress.epoch + 1)))
        yield result


def _train_epoch(net, train_iter, batch_size, trainer, contexts, progress, on_batch, should_stop) -> bool:
    """The rest of one pass over the training data, counted up in `progress`; False if it was stopped on the way."""
    batches = islice(train_iter, progress.batch, None)
    unstopped = takewhile(lambda _: not should_stop(), batches)
    for losses, corrects, finite, size in _behind(_steps(net, unstopped, batch_size, trainer, contexts)):
        progress.batch += 1
        where = f"epoch {progress.epoch}, batch {progress.batch}"
        batch_loss = sum(loss.asscalar() for loss in losses)
        if not math.isfinite(batch_loss):
            raise DivergedError(f"{where}: the loss is {batch_loss}; try a smaller lr")
        if not finite.asscalar():
            # NaN weights can hide behind max pooling and ReLU: the loss stays finite
            raise DivergedError(f"{where}: a weight is NaN or infinite; try a smaller lr")
        progress.loss_sum += float(batch_loss)
        progress.num_correct += float(sum(count.asscalar() for count in corrects))
        progress.num_examples += size
        on_batch(size)
    return progress.batch == len(train_iter)


def _steps(net, batches, batch_size, trainer, contexts):
    """Hand one training step a batch to the devices: yields loss sums, correct counts, finite weights?, images."""
    params = [param for param in net.collect_params().values() if param.grad_req != "null"]
    for X, y in batches:
        results = [by_autograd(net, X_part, y_part) for X_part, y_part in _split(X, y, contexts)]
        trainer.step(batch_size)
        weights = [param.data(contexts[0]) for param in params]
        losses, corrects = zip(*results, strict=True)
        yield losses, corrects, nd.multi_all_finite(*weights, num_arrays=len(weights)), len(y)


def _behind(results: Iterable) -> Iterator:
    """The results in order, each only after `_LEAD` more were asked for, when the device has long computed it."""
    ahead = deque()
    for result in results:
        ahead.append(result)
        if len(ahead) > _LEAD:
            yield ahead.popleft()
    yield from ahead


def _as_list(ctx) -> list[mx.Context]:
    if ctx is None:
        return [mx.cpu()]
    return [ctx] if isinstance(ctx, mx.Context) else list(ctx)


def _split(X, y, contexts):
    """The batch's parts, one a context, as even as they go."""
    if len(contexts) == 1:
        return [(X.as_in_context(contexts[0]), y.as_in_context(contexts[0]))]
    if len(X) < len(contexts):
        raise InputError(
            f"a batch of {len(X)} images cannot be shared by {len(contexts)} devices; change the batch size"
        )
    return zip(
        split_and_load(X, contexts, even_split=False), split_and_load(y, contexts, even_split=False), strict=True
    )
