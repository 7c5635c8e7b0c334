"""run.py and setup.py: a run stopped and resumed, in this process."""

from dataclasses import replace

import mxnet as mx
import pytest

from conftest import new_directory, same_run
from gluon_lenet.errors import InputError
from gluon_lenet.training import checkpoint
from gluon_lenet.training.config import Generator
from gluon_lenet.training.metrics import EpochResult, best_epoch
from gluon_lenet.training.recipes import RECIPES
from gluon_lenet.training.run import Run
from gluon_lenet.training.run_dir import RunDir
from gluon_lenet.training.setup import Setup


class Stopper:
    """A watcher that stops a run after the given number of batches."""

    def __init__(self, num_batches):
        self.left = num_batches

    def begin(self, run):
        pass

    def batch(self, num_examples):
        pass

    def epoch(self, result):
        pass

    def should_stop(self):
        self.left -= 1
        return self.left < 0


def test_a_run_with_dropout_goes_on_to_the_bit(small, tmp_path):
    """Stopped in the middle of an epoch, and at its end, with other random numbers drawn meanwhile."""

    recipe = replace(RECIPES["small_dropout"], num_epochs=2, batch_size=100)

    def setup():
        return Setup("small_dropout", recipe, [mx.cpu()], seed=4)

    whole = Run.create(setup(), new_directory(tmp_path / "whole"))
    assert whole.train(Stopper(10**9))
    run = Run.create(setup(), new_directory(tmp_path / "run"))
    for num_batches in (20, 30, 1, 10**9):  # an epoch has 50
        finished = run.train(Stopper(num_batches))
        header = checkpoint.read_header(tmp_path / "run" / "last.safetensors")
        assert header.rng == run.setup.rng_state(run.progress)
        mx.random.seed(num_batches)
        run = Run.resume(setup(), RunDir(tmp_path / "run"))
    assert finished
    same_run(tmp_path / "run", tmp_path / "whole")


def test_random_numbers_that_stand_elsewhere_are_refused(small, tmp_path):
    setup = Setup("small_dropout", RECIPES["small_dropout"], [mx.cpu()], seed=4)
    run = Run.create(setup, new_directory(tmp_path / "run"))
    other = Setup("small_dropout", RECIPES["small_dropout"], [mx.cpu()], seed=5)
    with pytest.raises(InputError, match=r"last.safetensors was trained with seed 4, the run's is 5"):
        Run.resume(other, run.directory)
    file = tmp_path / "run" / "last.safetensors"
    header = checkpoint.read_header(file)
    header.rng["dropout"] = Generator("mxnet", 1)  # as written by a version that seeds differently
    checkpoint.save(file, setup.net, setup.trainer, header)
    with pytest.raises(InputError, match=r"last.safetensors cannot be resumed bit for bit: the RNG state differs"):
        Run.resume(setup, run.directory)


def test_a_setup_trains_on_what_is_not_held_out(small):
    setup = Setup("small_momentum", RECIPES["small_momentum"], [mx.cpu()], seed=0)
    assert (setup.data.train.num_examples, setup.data.validation.num_examples) == (5000, 1000)
    images = {image.tobytes() for image in setup.data.validation.images}
    assert not images & {image.tobytes() for image in setup.data.train.images}
    again = Setup("small_momentum", RECIPES["small_momentum"], [mx.cpu()], seed=1)
    assert (again.data.validation.images == setup.data.validation.images).all(), "the split is the same for every seed"


def test_a_batch_that_devices_cannot_share(small):
    recipe = replace(RECIPES["small_momentum"], batch_size=4999)
    with pytest.raises(InputError, match="batch size 4999 leaves a batch of 1 of the 5000 images for 2 devices"):
        Setup("small_momentum", recipe, [mx.cpu(0), mx.cpu(1)], seed=0)


def test_a_run_that_cannot_be_written_leaves_an_empty_directory(small, tmp_path, monkeypatch):
    setup = Setup("small_momentum", RECIPES["small_momentum"], [mx.cpu()], seed=0)
    directory = new_directory(tmp_path / "run")
    monkeypatch.setattr(checkpoint, "save", lambda *args: (_ for _ in ()).throw(InputError("no")))
    with pytest.raises(InputError, match="no"):
        Run.create(setup, directory)
    assert list(directory.path.iterdir()) == []


def test_the_best_epoch_is_the_first_of_equals_by_validation_or_the_last():
    history = [EpochResult(n, 1.0, 0.5, 0.9 - n / 10, 1.0, 0.1) for n in (1, 2, 3)]
    assert best_epoch(history).epoch == 3
    validated = [replace(result, val_acc=acc) for result, acc in zip(history, (0.8, 0.9, 0.9), strict=True)]
    assert best_epoch(validated).epoch == 2
