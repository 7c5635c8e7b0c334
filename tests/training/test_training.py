"""The training loop: compared with the book's, its numbers, its devices, and what stops it."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

import gluon_lenet
from gluon_lenet.engines.autograd import Autograd
from gluon_lenet.engines.choice import choose
from gluon_lenet.errors import InputError
from gluon_lenet.training.chapter import evaluate_accuracy, train_ch5
from gluon_lenet.training.loop import Data, DivergedError, Loop, Watcher


def new_net(seed=0, ctx=None):
    mx.random.seed(seed)
    net = gluon_lenet.lenet()
    net.initialize(mx.init.Xavier(), ctx=ctx)
    net(mx.nd.zeros((1, 1, 28, 28), ctx=(ctx if isinstance(ctx, list) else [mx.cpu()])[0]))  # initializes the weights
    return net


def sgd(net, lr=0.9):
    return gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": lr})


def weights(net):
    return np.concatenate(
        [param.data(param.list_ctx()[0]).asnumpy().ravel() for param in net.collect_params().values()]
    )


def train_by_the_book(net, train_iter, batch_size, trainer):
    """One epoch as in the chapter, reading loss and accuracy after each batch."""
    loss, loss_sum, num_correct = gluon.loss.SoftmaxCrossEntropyLoss(), 0.0, 0.0
    for X, y in train_iter:
        with autograd.record():
            y_hat = net(X)
            batch_loss = loss(y_hat, y).sum()
        batch_loss.backward()
        trainer.step(batch_size)
        loss_sum += batch_loss.asscalar()
        num_correct += (y_hat.asnumpy().argmax(axis=1) == y.asnumpy()).sum()
    return loss_sum / train_iter.num_examples, num_correct / train_iter.num_examples


def test_train_ch5_does_what_the_book_does(fashion, capsys):
    # 1,000 images by 256: the last batch is smaller, and its step is still divided by 256
    batches = gluon_lenet.Batches(fashion.train_images[:1000], fashion.train_labels[:1000], 256, shuffle=True, seed=0)
    ours, books = new_net(), new_net()
    (result,) = train_ch5(ours, batches, batches, 256, sgd(ours), mx.cpu(), 1)
    batches.epoch = 0
    loss, acc = train_by_the_book(books, batches, 256, sgd(books))
    np.testing.assert_allclose(weights(ours), weights(books), atol=1e-6)
    assert result.train_loss == pytest.approx(loss, rel=1e-6)
    assert result.train_acc == acc
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "training on cpu(0)"
    assert out[1] == str(result)
    assert out[1].startswith(f"epoch 1, loss {loss:.4f}, train acc {acc:.3f}, test acc ")
    assert out[1].endswith(f"time {result.train_seconds + result.eval_seconds:.1f} sec")


def test_evaluate_accuracy_counts(fashion):
    net = new_net()
    batches = gluon_lenet.Batches(fashion.test_images[:700], fashion.test_labels[:700], 256)
    predicted = np.concatenate([net(X).asnumpy().argmax(axis=1) for X, _ in batches])
    want = (predicted == fashion.test_labels[:700]).sum() / 700
    assert evaluate_accuracy(batches, net) == want
    assert evaluate_accuracy(batches, net, mx.cpu()) == want
    assert 0 < want < 1


def test_two_devices_share_each_batch(small_batches):
    train_iter, test_iter = small_batches
    contexts = [mx.cpu(0), mx.cpu(1)]
    one, two = new_net(ctx=mx.cpu()), new_net(ctx=contexts)
    one_result = train_ch5(one, train_iter, test_iter, 256, sgd(one), mx.cpu(), 1)
    train_iter.epoch = 0
    two_result = train_ch5(two, train_iter, test_iter, 256, sgd(two), contexts, 1)
    np.testing.assert_allclose(weights(one), weights(two), atol=1e-5)
    assert one_result[0].train_loss == pytest.approx(two_result[0].train_loss, rel=1e-5)
    for param in two.collect_params().values():
        assert (param.data(mx.cpu(0)).asnumpy() == param.data(mx.cpu(1)).asnumpy()).all()
    assert evaluate_accuracy(test_iter, two, contexts) == evaluate_accuracy(test_iter, two, mx.cpu(1))


def test_a_batch_too_small_for_its_devices(fashion):
    contexts = [mx.cpu(0), mx.cpu(1)]
    net = new_net(ctx=contexts)
    batches = gluon_lenet.Batches(fashion.test_images[:5], fashion.test_labels[:5], 4)
    with pytest.raises(InputError, match="a batch of 1 images cannot be shared by 2 devices"):
        evaluate_accuracy(batches, net, contexts)


def test_the_loop_tells_of_every_image(small_batches):
    train_iter, test_iter = small_batches
    net, seen, watcher = new_net(), [], Watcher()
    watcher.batch = seen.append
    loop = Loop(sgd(net), choose(net, [mx.cpu()], train_iter), 256)
    results = list(loop.epochs(Data(train_iter, test_iter), 2, watcher=watcher))
    assert seen == [256] * 16
    assert [result.epoch for result in results] == [1, 2]
    assert all(result.train_seconds > 0 and result.eval_seconds > 0 for result in results)


def test_a_loss_that_is_nan_stops_at_its_batch(small_batches):
    train_iter, test_iter = small_batches
    net = new_net()
    with pytest.raises(DivergedError, match=r"epoch 1, batch 2: the loss is (nan|inf)"):
        train_ch5(net, train_iter, test_iter, 256, sgd(net, lr=1e38), mx.cpu(), 1)


@pytest.mark.parametrize(("mode", "hidden"), [("autograd", "nan"), ("autograd", "-inf"), ("fused", "-inf")])
def test_what_hides_behind_relu_and_max_pooling_stops_too(small_batches, mode, hidden):
    train_iter, test_iter = small_batches
    net = nn.Sequential()
    net.add(nn.Conv2D(4, kernel_size=5, activation="relu"), nn.MaxPool2D(), nn.Dense(10))
    net.initialize()
    net(next(iter(test_iter))[0])
    engine = choose(net, [mx.cpu()], test_iter, mode)
    bias = net[0].bias.data()
    bias[2] = float(hidden)
    totals = engine.backprop(next(iter(engine.batches(test_iter)))).wait().totals
    assert np.isfinite(totals.loss_sum), "the loss must not show it"
    data = Data(train_iter, test_iter)
    epochs = Loop(sgd(net, lr=1e-6), engine, 256).epochs(data, 1)
    with pytest.raises(DivergedError, match="epoch 1, batch 1: a weight is NaN or infinite"):
        next(epochs)
    net.initialize(force_reinit=True)  # makes other arrays
    next(Loop(sgd(net, lr=1e-6), engine, 256).epochs(data, 1))


def test_gradients_are_autograds(small_batches):
    """The loss is summed over the batch, so the gradients are the batch size times those of the mean loss."""
    X, y = next(iter(small_batches[1]))
    net = new_net()
    totals = Autograd(net, [mx.cpu()]).backprop((X, y)).wait().totals
    grads = [param.grad().asnumpy() for param in net.collect_params().values()]
    with autograd.record():
        log_p = mx.nd.log_softmax(net(X))
        mean = -mx.nd.pick(log_p, y).mean()
    mean.backward()
    for grad, param in zip(grads, net.collect_params().values(), strict=True):
        want = param.grad().asnumpy() * len(y)
        np.testing.assert_allclose(grad, want, rtol=1e-4, atol=1e-5 * abs(want).max())
    assert totals.loss_sum / len(y) == pytest.approx(mean.asscalar(), rel=1e-6)
    assert totals.num_correct == (net(X).asnumpy().argmax(axis=1) == y.asnumpy()).sum()


def test_train_ch6_does_what_the_course_does(small_batches, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train_iter, test_iter = small_batches
    net = gluon_lenet.get_net("lenet5_sigmoid_avgpool")
    history = gluon_lenet.train_ch6(net, train_iter, test_iter, num_epochs=2, lr=0.9, device=mx.cpu())
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "training on cpu(0)"
    last = history[-1]
    assert out[1] == f"loss {last.train_loss:.3f}, train acc {last.train_acc:.3f}, test acc {last.test_acc:.3f}"
    assert out[2].endswith(" examples/sec on cpu(0)")
    assert float(out[2].split()[0]) > 100
    assert (tmp_path / "train_ch6.png").stat().st_size > 5_000
    assert gluon_lenet.evaluate_accuracy_gpu(net, test_iter) == last.test_acc


def test_a_smaller_last_batch_counts_in_full_when_no_batch_size_is_given(fashion):
    """One batch of 100 images: dividing by 256 would take 100/256 of the step by the mean gradient."""
    batches = gluon_lenet.Batches(fashion.train_images[:100], fashion.train_labels[:100], 100)
    steps = {}
    for batch_size in (None, 100, 256):
        net = new_net()
        before = weights(net)
        loop = Loop(sgd(net, lr=0.1), choose(net, [mx.cpu()], batches), batch_size)
        next(loop.epochs(Data(batches, batches), 1))
        steps[batch_size] = weights(net) - before
    np.testing.assert_allclose(steps[None], steps[100], atol=1e-9)
    np.testing.assert_allclose(steps[None] * 100 / 256, steps[256], atol=1e-7)


@pytest.mark.parametrize("mode", ["autograd", "fused"])
def test_a_batch_size_of_0_is_not_taken_for_none(mode, small_batches):
    train_iter, test_iter = small_batches
    net = new_net()
    loop = Loop(sgd(net), choose(net, [mx.cpu()], train_iter, mode), 0)
    with pytest.raises(ZeroDivisionError):
        next(loop.epochs(Data(train_iter, test_iter), 1))


@pytest.mark.parametrize("update_on_kvstore", [False, True])
def test_a_trainer_with_a_kvstore_takes_the_same_steps(small_batches, update_on_kvstore):
    train_iter, test_iter = small_batches
    losses = []
    for kvstore in (None, mx.kv.create("local")):
        net = new_net()
        settings = {"learning_rate": 0.1, "momentum": 0.9}
        trainer = gluon.Trainer(
            net.collect_params(),
            "sgd",
            settings,
            kvstore=kvstore,
            update_on_kvstore=bool(kvstore) and update_on_kvstore,
        )
        loop = Loop(trainer, choose(net, [mx.cpu()], train_iter, "fused"), 256)
        epochs = loop.epochs(Data(train_iter, test_iter), 2)
        losses.append([result.train_loss for result in epochs])
        train_iter.epoch = 0
    assert losses[0] == losses[1]


class Unsized:
    """Batches without a length."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


class Optimistic(Unsized):
    def __len__(self):
        return 100


def loader(batches, last_batch):
    """Gluon's own loader; with `rollover`, the rest of a pass starts the next one, which may have one batch more."""
    X, y = (mx.nd.concat(*part, dim=0) for part in zip(*batches, strict=True))
    return gluon.data.DataLoader(gluon.data.ArrayDataset(X, y), 200, last_batch=last_batch)


@pytest.mark.parametrize("make", [Unsized, Optimistic, lambda batches: loader(batches, "rollover")])
def test_an_epoch_ends_with_its_batches_whatever_their_number_was_said_to_be(make, fashion, capsys):
    """Training used to end after the first epoch, silently or with a TypeError."""
    train_iter = gluon_lenet.Batches(fashion.train_images[:500], fashion.train_labels[:500], 128, shuffle=True, seed=0)
    test_iter = gluon_lenet.Batches(fashion.test_images[:100], fashion.test_labels[:100], 100)
    net, books = new_net(), new_net()
    history = train_ch5(net, make(train_iter), test_iter, 256, sgd(net, 0.1), mx.cpu(), 3)
    assert [result.epoch for result in history] == [1, 2, 3]
    train_iter.epoch = 0
    data_iter, trainer = make(train_iter), sgd(books, 0.1)
    for _ in range(3):
        for X, y in data_iter:
            with autograd.record():
                loss = gluon.loss.SoftmaxCrossEntropyLoss()(books(X), y).sum()
            loss.backward()
            trainer.step(256)
    np.testing.assert_allclose(weights(net), weights(books), atol=1e-5)


def test_data_that_end_are_named(small_batches):
    train_iter, test_iter = small_batches
    net = new_net()
    once = iter(list(train_iter))  # has nothing left for the second epoch
    with pytest.raises(InputError, match="epoch 2: the training data have no batches"):
        train_ch5(net, once, test_iter, 256, sgd(net), mx.cpu(), 2)
    with pytest.raises(InputError, match="there are no batches to evaluate"):
        evaluate_accuracy([], net)
