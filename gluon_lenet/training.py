"""A net and mini-batches -> the net trained, and what each epoch measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, takewhile

import mxnet as mx
from mxnet import gluon

from gluon_lenet import backprop
from gluon_lenet.errors import InputError
from gluon_lenet.metrics import EpochResult, Progress


class DivergedError(ArithmeticError):
    """The loss or a weight became NaN or infinite; the message names the epoch and the batch."""


def evaluate_accuracy(data_iter: Iterable, net: gluon.Block, ctx: mx.Context | list[mx.Context] | None = None) -> float:
    """The share of correct predictions of `net` over `data_iter`, counted over all images.

    Args:
        data_iter: yields X (b, c, h, w), y (b,).
        net: maps X to logits (b, classes).
        ctx: the device the net is on, or a list of devices that share each batch; the CPU by default.
    """
    _, num_correct, num_examples = backprop.choose(net, _as_list(ctx), data_iter).evaluate(data_iter)
    return num_correct / num_examples


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


def evaluate_accuracy_gpu(net, data_iter, device=None) -> float:
    """`evaluate_accuracy` by the d2l course's name and order of arguments; the device of the net by default."""
    return evaluate_accuracy(data_iter, net, device or _devices_of(net))


def train_ch6(net, train_iter, test_iter, num_epochs, lr, device) -> list[EpochResult]:
    """Train as lesson 21 of the d2l course does: Xavier weights, SGD on the mean loss of each batch, a live plot.

    The plot moves in a notebook, five times an epoch; elsewhere it is written to train_ch6.png after each epoch.

    Args:
        net: maps X (b, c, h, w) to logits (b, classes); its weights are drawn anew.
        train_iter, test_iter: yield X float32 (b, c, h, w), y (b,).
        num_epochs: passes over `train_iter`.
        lr: learning rate, on the mean gradient of a batch.
        device: one context, or a list that shares each batch.

    Returns:
        One result an epoch.

    Raises:
        DivergedError: the loss or a weight is NaN or infinite.
    """
    from gluon_lenet.plots import Animator  # here, as in runs.py: matplotlib takes half a second to import

    net.initialize(mx.init.Xavier(), ctx=device, force_reinit=True)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": lr})
    print("training on", device)
    animator = Animator(
        xlabel="epoch", xlim=[1, num_epochs], legend=["train loss", "train acc", "test acc"], file="train_ch6.png"
    )
    progress, history, num_batches, num_examples = Progress(), [], len(train_iter), 0

    def on_batch(size):
        nonlocal num_examples
        num_examples += size
        if progress.batch % max(1, num_batches // 5) == 0 or progress.batch == num_batches:
            train_loss, train_acc = (
                total / progress.num_examples for total in (progress.loss_sum, progress.num_correct)
            )
            animator.add(progress.epoch - 1 + progress.batch / num_batches, (train_loss, train_acc, None))

    for result in run_epochs(
        net, train_iter, test_iter, None, trainer, device, num_epochs, progress=progress, on_batch=on_batch
    ):
        animator.add(result.epoch, (None, None, result.test_acc))
        animator.save()
        history.append(result)
    print(f"loss {result.train_loss:.3f}, train acc {result.train_acc:.3f}, test acc {result.test_acc:.3f}")
    print(f"{num_examples / sum(r.train_seconds for r in history):.1f} examples/sec on {device}")
    return history


def run_epochs(
    net: gluon.Block,
    train_iter: Iterable,
    test_iter: Iterable,
    batch_size: int | None,
    trainer: gluon.Trainer,
    ctx: mx.Context | list[mx.Context],
    num_epochs: int,
    engine: backprop.Autograd | backprop.Fused | None = None,
    progress: Progress | None = None,
    on_batch: Callable[[int], None] = lambda num_examples: None,
    should_stop: Callable[[], bool] = lambda: False,
    validation_iter: Iterable | None = None,
    seed: int | None = None,
) -> Iterator[EpochResult]:
    """The loop behind `train_ch5` and the command line: yields each epoch's result when its test pass is done.

    Args:
        net, train_iter, test_iter, trainer, ctx, num_epochs: as in `train_ch5`.
        batch_size: likewise; None divides by the size of each batch, so that the last, smaller one counts in full.
        engine: computes the gradients; by default what `backprop.choose` takes.
        progress: where to go on; `train_iter` must begin with that epoch's pass. By default at the beginning.
        on_batch: is told the number of images of each batch that the device has finished.
        should_stop: is asked before each batch; when it says yes, the iterator ends, `progress` stands after the last
            batch done and the weights are of that moment.
        validation_iter: held-out training data, scored after each epoch.
        seed: from which, with the epoch and the batch, the net's random numbers (dropout) follow; None leaves MXNet's
            generator alone, which `mx.random.seed` governs.
    """
    contexts, progress = _as_list(ctx), progress or Progress()
    engine = engine or backprop.choose(net, contexts, train_iter)
    while progress.epoch <= num_epochs:
        mx.nd.waitall()
        start = time.perf_counter()
        whole = _train_epoch(engine, train_iter, batch_size, trainer, progress, on_batch, should_stop, seed)
        trained = time.perf_counter()
        progress.train_seconds += trained - start
        if not whole:
            return
        _, num_correct, num_examples = engine.evaluate(test_iter)
        val_loss_sum, val_correct, val_examples = engine.evaluate(validation_iter) if validation_iter else (0, 0, None)
        result = EpochResult(
            epoch=progress.epoch,
            train_loss=float(progress.loss_sum / progress.num_examples),
            train_acc=float(progress.num_correct / progress.num_examples),
            test_acc=num_correct / num_examples,
            train_seconds=progress.train_seconds,
            eval_seconds=time.perf_counter() - trained,
            val_loss=val_examples and val_loss_sum / val_examples,
            val_acc=val_examples and val_correct / val_examples,
        )
        vars(progress).update(vars(Progress(epoch=progress.epoch + 1)))
        yield result


def _train_epoch(engine, train_iter, batch_size, trainer, progress, on_batch, should_stop, seed) -> bool:
    """The rest of one pass over the training data, counted up in `progress`; False if it was stopped on the way."""
    stopped = False

    def goes_on(batch) -> bool:
        nonlocal stopped
        stopped = should_stop()
        return not stopped

    batches = islice(engine.batches(train_iter), progress.batch, None)
    unstopped = takewhile(goes_on, _seeded(engine, batches, seed, progress.epoch, progress.batch))
    for losses, corrects, size, finite in backprop.behind(_steps(engine, unstopped, batch_size, trainer)):
        progress.batch += 1
        where = f"epoch {progress.epoch}, batch {progress.batch}"
        loss_sum = engine.read(losses)
        if not math.isfinite(loss_sum):
            raise DivergedError(f"{where}: the loss is {loss_sum}; try a smaller lr")
        if not engine.are_finite(finite):
            # NaN weights can hide behind max pooling and ReLU: the loss stays finite
            raise DivergedError(f"{where}: a weight is NaN or infinite; try a smaller lr")
        progress.loss_sum += loss_sum
        progress.num_correct += int(engine.read(corrects))
        progress.num_examples += size
        on_batch(size)
    if not stopped and not progress.num_examples:
        raise InputError(f"epoch {progress.epoch}: the training data have no batches; they must have some every epoch")
    return not stopped


def _seeded(engine, batches, seed, epoch, first):
    """The batches, the first of them number `first`, each after the generators were set for it."""
    for number, batch in enumerate(batches, first):
        if seed is not None:
            engine.seed(seed, epoch, number)
        yield batch


def _steps(engine, batches, batch_size, trainer):
    """Take one training step a batch: yields what `engine.backprop` and `engine.step` returned."""
    for batch in batches:
        losses, corrects, size = engine.backprop(batch)
        yield losses, corrects, size, engine.step(trainer, size if batch_size is None else batch_size)


def _as_list(ctx) -> list[mx.Context]:
    if ctx is None:
        return [mx.cpu()]
    return [ctx] if isinstance(ctx, mx.Context) else list(ctx)


def _devices_of(net: gluon.Block) -> list[mx.Context]:
    return next(iter(net.collect_params().values())).list_ctx()
