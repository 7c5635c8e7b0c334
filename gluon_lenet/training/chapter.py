"""The book's functions: a net and its loaders -> an accuracy, or the net trained as in the chapter or lesson."""

from __future__ import annotations

from collections.abc import Iterable

import mxnet as mx
from mxnet import gluon

from gluon_lenet.engines.choice import choose
from gluon_lenet.training.loop import Data, Loop, Watcher
from gluon_lenet.training.metrics import EpochResult, Progress


def evaluate_accuracy(data_iter: Iterable, net: gluon.Block, ctx: mx.Context | list[mx.Context] | None = None) -> float:
    """The fraction of correct predictions of `net` over `data_iter`, counted over all images.

    Args:
        data_iter: yields X (b, c, h, w), y (b,).
        net: maps X to logits (b, classes).
        ctx: the device the net is on, or a list of devices that share each batch; the CPU by default.
    """
    totals = choose(net, _as_list(ctx), data_iter).evaluate(data_iter)
    return totals.num_correct / totals.num_examples


def evaluate_accuracy_gpu(net, data_iter, device=None) -> float:
    """`evaluate_accuracy` with the d2l course's name and argument order; the device of the net by default."""
    return evaluate_accuracy(data_iter, net, device or next(iter(net.collect_params().values())).list_ctx())


def train_ch5(net, train_iter, test_iter, batch_size, trainer, ctx, num_epochs) -> list[EpochResult]:
    """Train as the chapter does: softmax cross-entropy, a test pass and a printed line after each epoch.

    As in the book, every step divides the gradient by `batch_size`, even for a smaller last batch. Unlike the book's,
    the loop does not wait for the device after each batch.

    Args:
        net: initialized on `ctx`; maps X (b, c, h, w) to logits (b, classes).
        train_iter: yields X float32 (b, c, h, w), y (b,); iterated once per epoch.
        test_iter: the same for the test data.
        batch_size: what the summed gradient is divided by.
        trainer: a `gluon.Trainer` of the net's parameters.
        ctx: one context, or a list that shares each batch.
        num_epochs: passes over `train_iter`.

    Returns:
        One result per epoch.

    Raises:
        DivergedError: the loss or a weight is NaN or infinite.
    """
    print("training on", ctx)
    history = []
    loop = Loop(trainer, choose(net, _as_list(ctx), train_iter), batch_size)
    for result in loop.epochs(Data(train_iter, test_iter), num_epochs):
        print(result)
        history.append(result)
    return history


def train_ch6(net, train_iter, test_iter, num_epochs, lr, device) -> list[EpochResult]:
    """Train as lesson 21 of the d2l course does: Xavier weights, SGD on the mean loss of each batch, a live plot.

    In a notebook the plot is updated five times per epoch; elsewhere it is written to train_ch6.png after each epoch.

    Args:
        net: maps X (b, c, h, w) to logits (b, classes); its weights are initialized again.
        train_iter, test_iter: yield X float32 (b, c, h, w), y (b,).
        num_epochs: passes over `train_iter`.
        lr: learning rate, for the mean gradient of a batch.
        device: one context, or a list that shares each batch.

    Returns:
        One result per epoch.

    Raises:
        DivergedError: the loss or a weight is NaN or infinite.
    """
    net.initialize(mx.init.Xavier(), ctx=device, force_reinit=True)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": lr})
    print("training on", device)
    progress, history = Progress(), []
    plot = _Plot(progress, len(train_iter), num_epochs)
    loop = Loop(trainer, choose(net, _as_list(device), train_iter))
    for result in loop.epochs(Data(train_iter, test_iter), num_epochs, progress, plot):
        plot.epoch(result)
        history.append(result)
    print(f"loss {result.train_loss:.3f}, train acc {result.train_acc:.3f}, test acc {result.test_acc:.3f}")
    print(f"{plot.num_examples / sum(r.train_seconds for r in history):.1f} examples/sec on {device}")
    return history


class _Plot(Watcher):
    """The lesson's curves: training loss and accuracy five times per epoch, test accuracy after each epoch."""

    def __init__(self, progress: Progress, num_batches: int, num_epochs: int):
        from gluon_lenet.viz.animator import Animator  # here: matplotlib takes half a second to import

        self.progress, self.num_batches, self.num_examples = progress, num_batches, 0
        self.animator = Animator(
            xlabel="epoch", xlim=[1, num_epochs], legend=["train loss", "train acc", "test acc"], file="train_ch6.png"
        )

    def batch(self, num_examples: int) -> None:
        """Add a point every fifth of an epoch."""
        self.num_examples += num_examples
        now = self.progress
        if now.batch % max(1, self.num_batches // 5) == 0 or now.batch == self.num_batches:
            means = now.loss_sum / now.num_examples, now.num_correct / now.num_examples
            self.animator.add(now.epoch - 1 + now.batch / self.num_batches, (*means, None))

    def epoch(self, result: EpochResult) -> None:
        """Add the test accuracy."""
        self.animator.add(result.epoch, (None, None, result.test_acc))
        self.animator.save()


def _as_list(ctx) -> list[mx.Context]:
    if ctx is None:
        return [mx.cpu()]
    return [ctx] if isinstance(ctx, mx.Context) else list(ctx)
