"""A run's files in adverse conditions: links, FIFOs, devices, full disks, other runs' files, forgery."""

import fcntl
import json
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest
from safetensors import numpy as safetensors
from safetensors import safe_open

from conftest import ROOT, fails_as_bad_input, module_env, new_directory, same_run
from gluon_lenet import evaluate, params, predict, train
from gluon_lenet.errors import InputError
from gluon_lenet.training import checkpoint
from gluon_lenet.training.config import RunConfig
from gluon_lenet.training.recipes import RECIPES
from gluon_lenet.training.run import Run
from gluon_lenet.training.settings import Cosine, Step
from gluon_lenet.training.setup import Setup
from small_train import train_small

SMALL = ["--recipe", "small_momentum", "--batch-size", "50", "--seed", "3", "--quiet"]
FORMAT_2 = json.loads((ROOT / "tests" / "samples" / "configs" / "format_2.json").read_text())


@pytest.fixture(autouse=True)
def never_hangs():
    """End a test that hangs, as it would if the process waited for a FIFO."""

    def end(number, frame):
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(240)  # long enough for a busy machine
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def small(small, monkeypatch, tmp_path):
    """The same in an empty folder."""
    monkeypatch.chdir(tmp_path)


def untrained(path, **settings):
    """The folder of a run that has not begun."""
    recipe = replace(RECIPES["d2l_v1_fashion"], **settings)
    Run.create(Setup("d2l_v1_fashion", recipe, [mx.cpu()], seed=1), new_directory(path))
    return path


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("files") / "run")


@pytest.fixture
def run(original, tmp_path):
    """A run's folder, to damage."""
    return shutil.copytree(original, tmp_path / "run")


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    return train_small(tmp_path_factory.mktemp("two_epochs") / "run", *SMALL, "--epochs", "2")


@contextmanager
def after_epochs(number, metrics, action):
    """While the block trains, call `action` in another thread when `metrics` has the given number of epochs."""

    def wait():
        while not ended.is_set():
            if metrics.exists() and len(metrics.read_text().splitlines()) >= number:
                return action()
            time.sleep(0.002)

    ended = threading.Event()
    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def contents(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in sorted(folder.rglob("*"))}


# --- what is written --------------------------------------------------------------------------------------------------


def test_a_device_is_written_into_and_a_link_to_it_stays(run, tmp_path, capsys):
    (tmp_path / "null").symlink_to("/dev/null")
    assert params.main(["export", "--run", str(run), str(tmp_path / "null")]) == 0
    assert (tmp_path / "null").is_symlink()
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_params_file_through_the_standard_output_is_the_file_alone(run, run_module, tmp_path):
    with (tmp_path / "piped.params").open("wb") as file:
        command = [sys.executable, "-m", "gluon_lenet.params", "export", "--run", run, "/dev/stdout"]
        subprocess.run(command, env=module_env(), stdout=file, check=True, timeout=60)
    assert params.main(["export", "--run", str(run), str(tmp_path / "file.params")]) == 0
    assert (tmp_path / "piped.params").read_bytes() == (tmp_path / "file.params").read_bytes()


def test_a_link_is_written_through_and_permissions_stay(run, tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "target").chmod(0o640)
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("new")
    for link, target in (("link", "target"), ("dangling", "new")):
        assert params.main(["export", "--run", str(run), str(tmp_path / link)]) == 0
        assert (tmp_path / link).is_symlink()
        assert (tmp_path / target).stat().st_size > 100_000
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == 0o640


def test_a_fifo_without_a_reader_is_refused_and_with_one_is_written(run, tmp_path, capsys):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    fails_as_bad_input(params.main, ["export", "--run", run, fifo], capsys, "it is a FIFO that nobody reads")
    assert fifo.is_fifo()
    received = []
    reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()))
    reader.start()
    while params.main(["export", "--run", str(run), str(fifo)]) != 0:  # until the reader is there
        time.sleep(0.01)
    reader.join()
    assert params.main(["export", "--run", str(run), str(tmp_path / "file")]) == 0
    assert received == [(tmp_path / "file").read_bytes()]
    assert fifo.is_fifo()


@pytest.mark.parametrize("option", ["--confusion", "--grid"])
def test_pictures_are_written_through_links_too(option, run, tmp_path, capsys):
    (tmp_path / "link.png").symlink_to("picture")
    assert evaluate.main(["--run", str(run), option, str(tmp_path / "link.png")]) == 0
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "picture").read_bytes().startswith(b"\x89PNG")


def test_a_full_disk_is_one_line_with_the_file(run, tmp_path, capsys):
    (tmp_path / "full").symlink_to("/dev/full")  # every write fails: No space left on device
    assert params.main(["export", "--run", str(run), str(tmp_path / "full")]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'full'} cannot be written: No space left on device\n"


@contextmanager
def room_for(size):
    """A disk that accepts no files larger than this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_loses_nothing_and_the_run_goes_on_to_the_same_bits(small, tmp_path, capsys):
    assert train.main([*SMALL, "--epochs", "4", "--run-dir", "whole"]) == 0
    capsys.readouterr()
    with room_for(100_000) as fill, after_epochs(2, tmp_path / "run" / "metrics.jsonl", fill):
        assert train.main([*SMALL, "--epochs", "4", "--run-dir", "run"]) == 1
    line = capsys.readouterr().err
    assert re.fullmatch(
        r"error: run/(last|best)\.safetensors cannot be written: File too large; run/last\.safetensors is safe and "
        r"stands at epoch \d, batch 0; once the disk can be written to, continue with --resume run\n",
        line,
    )
    progress = checkpoint.read_header(tmp_path / "run" / "last.safetensors").progress
    assert f"stands at epoch {progress.epoch}, batch {progress.batch}" in line
    assert not list((tmp_path / "run").glob("*.tmp"))
    assert train.main(["--resume", "run", "--quiet"]) == 0
    same_run(tmp_path / "run", tmp_path / "whole")


def test_a_disk_that_is_full_from_the_beginning(small, tmp_path, capsys):
    with room_for(10_000) as fill:
        fill()
        assert train.main([*SMALL, "--run-dir", "run"]) == 1
    assert capsys.readouterr().err == "error: run/last.safetensors cannot be written: File too large\n"
    assert os.listdir(tmp_path / "run") == [], "the same command must work once there is room"


def test_a_disk_that_is_full_when_a_run_is_resumed(small, two_epochs, tmp_path, capsys):
    shutil.copytree(two_epochs, "run")
    before = contents(tmp_path / "run")
    with room_for(10) as fill:
        fill()
        assert train.main(["--resume", "run", "--epochs", "3", "--quiet"]) == 1
    assert capsys.readouterr().err == (
        "error: run/metrics.jsonl cannot be written: File too large; run/last.safetensors is safe and stands at "
        "epoch 3, batch 0; once the disk can be written to, continue with --resume run\n"
    )
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("replaced", [False, True])
def test_a_directory_that_goes_during_training_is_named(replaced, small, tmp_path, capsys):
    def take_away():
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        if replaced:
            (tmp_path / "run").mkdir()

    with after_epochs(2, tmp_path / "run" / "metrics.jsonl", take_away):
        assert train.main([*SMALL, "--epochs", "300", "--run-dir", "run"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "run directory run was deleted, moved or replaced during training" in line
    assert "continue with --resume" in line
    done = len((tmp_path / "elsewhere" / "metrics.jsonl").read_text().splitlines())
    assert train.main(["--resume", "elsewhere", "--epochs", str(done + 1), "--quiet"]) == 0, "it was only moved"


# --- whose directory it is --------------------------------------------------------------------------------------------


def test_who_comes_second_to_a_new_directory_changes_nothing(small, tmp_path, capsys):
    """Another process has created and locked the folder, but has written nothing yet."""
    (tmp_path / "run").mkdir()
    folder = os.open(tmp_path / "run", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        fails_as_bad_input(train.main, [*SMALL, "--run-dir", "run"], capsys, "another process is training there")
        params.main(["import", "x", "--recipe", "small_momentum", "--run-dir", "run"])
        assert os.listdir(tmp_path / "run") == []
    finally:
        os.close(folder)
    assert train.main([*SMALL, "--epochs", "1", "--run-dir", "run"]) == 0


def test_nothing_is_read_or_written_before_the_directory_is_held(run, capsys):
    (run / "config.json").write_text("not even JSON")
    (run / ".last.safetensors.1.tmp").write_text("of the process that trains there")
    before = contents(run)
    folder = os.open(run, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        fails_as_bad_input(train.main, ["--resume", run], capsys, "another process is training there")
    finally:
        os.close(folder)
    assert contents(run) == before


def test_new_epochs_are_written_down_before_training_goes_on(small, two_epochs, tmp_path, capsys):
    """After an interruption, the command that the message names resumes the run to its new end."""
    metrics = tmp_path / "run" / "metrics.jsonl"
    shutil.copytree(two_epochs, "run")
    with after_epochs(3, metrics, interrupt):
        assert train.main(["--resume", "run", "--epochs", "300", "--quiet"]) == 130
    done = len(metrics.read_text().splitlines())
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["num_epochs"] == 300
    capsys.readouterr()
    with after_epochs(done + 1, metrics, interrupt):
        assert train.main(["--resume", "run", "--quiet"]) == 130
    assert len(metrics.read_text().splitlines()) > done
    assert capsys.readouterr().err == "interrupted; continue with --resume run\n"


def test_fewer_epochs_than_are_done_are_refused(small, tmp_path, capsys):
    """The smaller number used to be stored beside the results of more epochs, and nothing was trained."""
    assert train.main([*SMALL, "--epochs", "3", "--run-dir", "run"]) == 0
    before = contents(tmp_path / "run")
    capsys.readouterr()
    fails_as_bad_input(train.main, ["--resume", "run", "--epochs", "2"], capsys, "--epochs 2", "is in epoch 3 already")
    assert contents(tmp_path / "run") == before
    assert train.main(["--resume", "run", "--epochs", "3", "--quiet"]) == 0
    capsys.readouterr()
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().rstrip("\n"))  # as some editors leave it
    fails_as_bad_input(train.main, ["--resume", "run", "--epochs", "4"], capsys, "its last line", "has no end of line")


def test_a_link_that_leads_nowhere_is_no_run_directory(small, tmp_path, capsys):
    (tmp_path / "link").symlink_to("nowhere")
    fails_as_bad_input(train.main, [*SMALL, "--run-dir", "link"], capsys, "is a link that leads to nowhere")
    assert os.listdir(tmp_path) == ["link"]


def test_a_cosine_follows_the_new_number_of_epochs(small, monkeypatch):
    """The learning rate continues along the cosine of the new length; a step schedule keeps its steps."""
    from gluon_lenet.training import recipes

    for schedule, expected in ((Cosine(), 0.01 * (1 + np.cos(np.pi * 1 / 4)) / 2), (Step(), 0.01)):
        recipe, schedule = replace(recipes.RECIPES["small_momentum"], schedule=schedule), type(schedule).__name__
        monkeypatch.setitem(recipes.RECIPES, schedule, recipe)
        args = ["--recipe", schedule, "--batch-size", "500", "--quiet", "--run-dir", schedule]
        assert train.main([*args, "--epochs", "1"]) == 0
        recipe = replace(recipes.RECIPES[schedule], batch_size=500, num_epochs=4)
        setup = Setup(schedule, recipe, [mx.cpu()], seed=0)
        checkpoint.load(f"{schedule}/last.safetensors", setup.net, setup.trainer)
        assert setup.trainer.learning_rate == pytest.approx(expected)


def fails_to_load(run_dir, capsys, *says):
    """Evaluating, predicting and resuming give one line of error each, and the files are unchanged."""
    before = contents(run_dir)
    for main, args in (
        (evaluate.main, ["--run", run_dir]),
        (predict.main, ["--run", run_dir, "--first", 5, "--json"]),
        (train.main, ["--resume", run_dir]),
    ):
        fails_as_bad_input(main, args, capsys, *says)
    assert contents(run_dir) == before


@pytest.mark.parametrize("settings", [{"lr": 0.1}, {}], ids=["another learning rate", "the same settings"])
def test_a_checkpoint_of_another_run_is_refused(settings, run, tmp_path, capsys):
    """Although the net, the seed and all shapes are the same."""
    other = untrained(tmp_path / "other", **settings)
    shutil.copy(other / "last.safetensors", run)
    fails_to_load(run, capsys, f"{run / 'last.safetensors'} belongs to another run than the config.json beside it")


def test_settings_that_were_changed_are_named(run, capsys):
    config = json.loads((run / "config.json").read_text())
    config["settings"]["lr"] = 0.1
    (run / "config.json").write_text(json.dumps(config))
    fails_to_load(run, capsys, "last.safetensors was trained with lr 0.9, the run's is 0.1")


def test_a_directory_may_be_copied_and_renamed(small, two_epochs, tmp_path):
    shutil.copytree(two_epochs, "run")
    shutil.copytree("run", "copy")
    os.rename("run", "renamed")
    for name in ("copy", "renamed"):
        assert evaluate.main(["--run", name]) == 0
        assert train.main(["--resume", name, "--epochs", "3", "--quiet"]) == 0
    same_run(tmp_path / "copy", tmp_path / "renamed")


def make_older(run, **settings):
    """Convert the run to the format without ids, which cannot show that settings were changed."""
    config = json.loads((run / "config.json").read_text())
    del config["version"], config["id"]
    config["settings"] = FORMAT_2["d2l_v1_fashion"]["settings"] | settings
    (run / "config.json").write_text(json.dumps(config))

    def old(header):
        del header["run"], header["decisions"]

    sign_again(run / "last.safetensors", old)


def test_a_run_of_an_older_version_is_evaluated_but_not_resumed(run, capsys):
    make_older(run)
    assert evaluate.main(["--run", str(run)]) == 0
    assert predict.main(["--run", str(run), "--first", "3"]) == 0
    capsys.readouterr()
    fails_as_bad_input(train.main, ["--resume", run], capsys, "the run can be evaluated, but not resumed")


@pytest.mark.parametrize("name", FORMAT_2)
def test_recipes_as_an_older_version_wrote_them_are_todays(name):
    config = RunConfig.from_json(json.dumps(FORMAT_2[name]).encode(), "config.json")
    texts = {"source": config.settings.source, "published": config.settings.published}
    assert config.settings == replace(RECIPES[name], **texts)
    with pytest.raises(InputError, match=r"config.json is of an older version of gluon_lenet \(format 2\)"):
        config.check_resumable("config.json")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"augment": "twist"}, "settings.augment must be one of handwriting, lecun1998, clothing, not 'twist'"),
        ({"loss": "hinge"}, "settings.loss.type must be one of cross_entropy, map, not 'hinge'"),
        ({"std": 0}, "settings.transform.std must be a number above 0, not 0"),
    ],
)
def test_what_no_older_version_wrote_is_named(settings, says):
    config = FORMAT_2["better_fashion"] | {"settings": FORMAT_2["better_fashion"]["settings"] | settings}
    with pytest.raises(InputError, match=re.escape(f"config.json: {says}")):
        RunConfig.from_json(json.dumps(config).encode(), "config.json")


@pytest.mark.parametrize("settings", [{"resize": 1}, {"optimizer": "adam", "momentum": 0.5}])
def test_settings_that_no_run_can_have_are_no_traceback(settings, run, capsys):
    make_older(run, **settings)
    if "resize" in settings:
        says = f"{run}/config.json: lenet5_sigmoid_maxpool takes no images of shape (1, 1, 1)"
        fails_as_bad_input(evaluate.main, ["--run", run], capsys, says)
    fails_as_bad_input(train.main, ["--resume", run], capsys, f"{run}/config.json is of an older version")


# --- numbers that are none --------------------------------------------------------------------------------------------


def export_with(run, path, number):
    """Export the run's weights, one of them changed."""
    assert params.main(["export", "--run", str(run), str(path)]) == 0
    arrays = mx.nd.load(str(path))
    arrays["4.weight"][3, 5] = number
    mx.nd.save(str(path), arrays)


@pytest.mark.parametrize(
    ("number", "says"), [(3e38, "a number of size 3e+38"), (np.nan, "NaN or infinite"), (-np.inf, "NaN or infinite")]
)
def test_weights_that_cannot_be_computed_with_are_refused(number, says, run, tmp_path, capsys):
    path = tmp_path / "w.params"
    export_with(run, path, number)
    capsys.readouterr()
    args = ["import", path, "--recipe", "d2l_v1_fashion", "--run-dir", tmp_path / "new"]
    fails_as_bad_input(params.main, args, capsys, f"{path}: 4.weight has", says)
    assert not (tmp_path / "new").exists()

    def forge(arrays):
        arrays["weights/4.weight"][3, 5] = number

    sign_again(run / "last.safetensors", change_arrays=forge)
    fails_to_load(run, capsys, f"{run / 'last.safetensors'}: weights/4.weight has", says)


def test_outputs_that_overflow_are_an_error_and_no_nan(tmp_path, capsys):
    """Each single weight is usable."""
    run = untrained(tmp_path / "run", net="lenet5_relu_maxpool")

    def forge(arrays):
        for name in arrays:
            if name.endswith("weight"):
                arrays[name][:] = 1e19

    sign_again(run / "last.safetensors", change_arrays=forge)
    for main, args in ((evaluate.main, ["--run", run]), (predict.main, ["--run", run, "--first", 5, "--json"])):
        fails_as_bad_input(main, args, capsys, f"{run}/last.safetensors: the net's outputs are NaN or infinite")


# --- what is read -----------------------------------------------------------------------------------------------------


def put_fifo(path):
    os.mkfifo(path)


def put_device(path):
    path.symlink_to("/dev/zero")


def put_folder(path):
    path.mkdir()


@pytest.mark.parametrize("put", [put_fifo, put_device, put_folder])
@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "last.safetensors"])
def test_what_is_no_file_is_refused_at_once(name, put, run, capsys):
    (run / name).unlink(missing_ok=True)
    put(run / name)
    for main, args in ((train.main, ["--resume", run]), (evaluate.main, ["--run", run])):
        if name != "metrics.jsonl" or main is train.main:
            fails_as_bad_input(main, args, capsys, f"{run / name} cannot be read: ")


@pytest.mark.parametrize("put", [put_fifo, put_device, put_folder])
def test_params_that_are_no_file_are_refused_at_once(put, tmp_path, capsys):
    put(tmp_path / "w.params")
    args = ["import", tmp_path / "w.params", "--recipe", "d2l_v1_fashion", "--run-dir", tmp_path / "new"]
    fails_as_bad_input(params.main, args, capsys, f"{tmp_path / 'w.params'} cannot be read: ")


CONFIGS = {  # changes of config.json -> message
    "a seed that is text": ({"seed": "a"}, "seed must be an integer from 0 to 2147483647, not 'a'"),
    "a seed of 100 digits": ({"seed": 10**100}, "seed must be an integer from 0 to 2147483647, not 1000"),
    "a truth as seed": ({"seed": True}, "seed must be an integer from 0 to 2147483647, not True"),
    "a text as devices": ({"ctx": "cpu(0)"}, "ctx must be a list of devices, not 'cpu(0)'"),
    "no device": ({"ctx": []}, "ctx must be a list of devices, not []"),
    "a number as device": ({"ctx": [0]}, "ctx[0] must be a device: cpu(0), gpu(1), not 0"),
    "another device": ({"ctx": ["cpu(0)", "tpu(0)"]}, "ctx[1] must be a device: cpu(0), gpu(1), not 'tpu(0)'"),
    "no threads": ({"threads": 0}, "threads must be a number of threads from 1 to 256, not 0"),
    "half a thread": ({"threads": 0.5}, "threads must be a number of threads from 1 to 256, not 0.5"),
    "other kernels": ({"backprop": "magic"}, "backprop must be one of autograd, fused, not 'magic'"),
    "a list as recipe": ({"recipe": [1]}, "recipe must be a text, not [1]"),
    "a number as folder": ({"data_dir": 7}, "data_dir must be a text, not 7"),
    "a hash that is none": ({"data_sha256": {"x": 3}}, "data_sha256[...] must be a text"),
    "settings that are none": ({"settings": 3}, "settings must be an object, not 3"),
    "a rate that is text": ({"settings": {"lr": "0.9"}}, "settings.lr must be a number above 0, not '0.9'"),
    "a negative rate": ({"settings": {"lr": -1}}, "settings.lr must be a number above 0, not -1"),
    "no epochs": ({"settings": {"num_epochs": None}}, "settings.num_epochs must be an integer from 1 to"),
    "another schedule": ({"settings": {"schedule": "x"}}, "settings.schedule must be an object, not 'x'"),
    "a schedule unknown": (
        {"settings": {"schedule": {"type": 1}}},
        "settings.schedule.type must be one of step, cosine",
    ),
    "another optimizer": ({"settings": {"optimizer": []}}, "settings.optimizer must be one of sgd, adam, not []"),
    "a setting unknown": ({"settings": {"warmup": 3}}, "the field 'settings.warmup' is unknown; was it written by a"),
    "a field unknown": ({"shard": 3}, "the field 'shard' is unknown; was it written by a newer version?"),
    "a newer format": ({"version": 99, "shard": 3}, "format 99 is of a newer version of gluon_lenet"),
    "a version that is text": ({"version": "2"}, "version must be an integer from 0 to 2147483647, not '2'"),
    "a number of threads that is none": ({"threads": 100_000}, "threads must be a number of threads from 1 to 256"),
    "an id that is none": ({"id": "run"}, "id must be 32 hexadecimal digits, not 'run'"),
}


@pytest.mark.parametrize("wrong", sorted(CONFIGS))
def test_every_field_of_the_configuration_has_a_type(wrong, run, capsys):
    changes, says = CONFIGS[wrong]
    config = json.loads((run / "config.json").read_text())
    for name, value in changes.items():
        config[name] = {**config[name], **value} if name == "settings" and isinstance(value, dict) else value
    (run / "config.json").write_text(json.dumps(config))
    fails_to_load(run, capsys, f"{run / 'config.json'}: ", says)


BYTES = {
    "empty": b"",
    "a list": b"[1]",
    "a null": b"null",
    "no UTF-8": b'{"recipe": "\xff"}',
    "100,000 brackets": b"[" * 100_000,
    "100,000 objects": b'{"a":' * 100_000,
    "300 objects": b'{"version": ' + b'{"a":' * 300 + b"1" + b"}" * 301,
    "900 objects": b'{"version": ' + b'{"a":' * 900 + b"1" + b"}" * 901,
    "1,900 objects": b'{"version": ' + b'{"a":' * 1900 + b"1" + b"}" * 1901,
    "NaN": b'{"seed": NaN}',
    "5,000 digits": b'{"seed": ' + b"1" * 5000 + b"}",
    "a field twice": b'{"seed": 1, "settings": {"lr": 0.1, "lr": 0.9}}',
}


@pytest.mark.parametrize("wrong", sorted(BYTES))
def test_a_configuration_that_is_no_object_of_json(wrong, run, capsys):
    (run / "config.json").write_bytes(BYTES[wrong])
    fails_to_load(run, capsys, str(run / "config.json"))


LINE = '{"epoch": 1, "train_loss": 1.0, "train_acc": 0.5, "test_acc": 0.5, "train_seconds": 1.0, "eval_seconds": 0.1}\n'
METRICS = {
    "no UTF-8": (LINE.encode()[:-2] + b', "\xff": 1}\n', "line 1"),
    "an epoch that is text": (LINE.replace("1,", '"a",', 1).encode(), "line 1: epoch must be an integer from 1"),
    "NaN": (LINE.replace("1.0", "NaN", 1).encode(), "line 1 is not JSON"),
    "an accuracy of 2": (LINE.replace("0.5", "2", 1).encode(), "line 1: train_acc must be a number from 0 to 1, not 2"),
    "an epoch too few": (LINE.replace('"epoch": 1, ', "").encode(), "line 1: object missing required field epoch"),
    "a field too many": (LINE.replace("}", ', "x": 1}').encode(), "line 1: the field 'x' is unknown"),
    "a field twice": (LINE.replace("{", '{"epoch": 2, ').encode(), "line 1: the field 'epoch' occurs twice"),
    "a line twice": (2 * LINE.encode(), "line 2: epoch must be 2, not 1"),
    "another epoch": (LINE.replace("1,", "2,", 1).encode(), "line 1: epoch must be 1, not 2"),
    "100,000 brackets": (b"[" * 100_000 + b"\n", "line 1"),
}


@pytest.mark.parametrize("wrong", sorted(METRICS))
def test_every_line_of_the_metrics_has_its_fields(wrong, run, capsys):
    data, says = METRICS[wrong]
    (run / "metrics.jsonl").write_bytes(data)
    before = contents(run)
    fails_as_bad_input(train.main, ["--resume", run], capsys, f"{run / 'metrics.jsonl'}, {says}")
    assert contents(run) == before


def test_a_line_that_was_cut_by_a_kill_is_no_error(small, two_epochs, tmp_path):
    shutil.copytree(two_epochs, "run")
    with open("run/metrics.jsonl", "a") as file:
        file.write('{"epoch": 3, "train_lo')
    assert train.main(["--resume", "run", "--quiet"]) == 0
    same_run(tmp_path / "run", two_epochs)


def sign_again(path, change_header=None, change_arrays=None):
    """Change a checkpoint and update its hash."""
    arrays = {name: array.copy() for name, array in safetensors.load_file(path).items()}
    with safe_open(path, framework="numpy") as file:
        header = json.loads(json.loads(file.metadata()["gluon_lenet"])["header"])
    if change_header is not None:
        change_header(header)
    if change_arrays is not None:
        change_arrays(arrays)
    text = json.dumps(header)
    entry = json.dumps({"header": text, "sha256": checkpoint._digest(arrays, text)})
    safetensors.save_file(arrays, path, {"gluon_lenet": entry})


def changed(*place, to=None):
    """Set a field of the header; remove it if `to` is None."""

    def change(header):
        for name in place[:-1]:
            header = header[name]
        if to is None:
            del header[place[-1]]
        else:
            header[place[-1]] = to

    return change


def test_a_tensor_that_is_neither_weight_nor_state(run, capsys):
    sign_again(run / "last.safetensors", change_arrays=lambda arrays: arrays.update(weight=arrays["weights/0.weight"]))
    before = contents(run)
    fails_to_load(run, capsys, f"{run / 'last.safetensors'} holds 'weight', which is not a weight or state")
    assert contents(run) == before


HEADERS = {
    "no progress": (changed("progress"), "missing required field progress"),
    "no counts": (changed("updates", "counts"), "missing required field counts in updates"),
    "no num_update": (changed("updates", "num_update"), "missing required field num_update in updates"),
    "no updates": (changed("updates"), "holds no states of the optimizer SGD"),
    "no rng": (changed("rng"), "missing required field rng"),
    "a count below 0": (changed("updates", "counts", "0.weight", to=-1), "updates.counts[...] must be an integer"),
    "a count of no parameter": (changed("updates", "counts", "9.weight", to=1), "updates.counts names '9.weight'"),
    "an epoch that is text": (changed("progress", "epoch", to="a"), "progress.epoch must be an integer from 1 to"),
    "an epoch far off": (changed("progress", "epoch", to=7), "cannot be resumed bit for bit"),
    "a batch far off": (changed("progress", "batch", to=10**6), "progress.batch must be at most 235"),
    "a generator that is none": (changed("rng", "dropout", to=3), "rng[...] must be an object"),
    "a seed that is text": (changed("seed", to="a"), "seed must be an integer from 0 to 2147483647, not 'a'"),
    "a net that is none": (changed("net", to=[]), "net must be a text, not []"),
    "decisions of another run": (changed("decisions", "lr", to=0.1), "was trained with lr 0.1, the run's is 0.9"),
    "a field too many": (changed("shard", to=3), "the field 'shard' is unknown"),
}


@pytest.mark.parametrize("wrong", sorted(HEADERS))
def test_every_field_of_a_checkpoints_header_has_a_type(wrong, run, capsys):
    change, says = HEADERS[wrong]
    sign_again(run / "last.safetensors", change)
    before = contents(run)
    fails_as_bad_input(train.main, ["--resume", run], capsys, f"{run / 'last.safetensors'}", says)
    assert contents(run) == before
