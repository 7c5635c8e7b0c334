"""The data on every Python: the real 70,000 images of both data sets, their classes, and the command line."""

import gzip
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from filelock import FileLock

from conftest import ROOT, module_env
from gluon_lenet.data import cache, catalogue, idx
from gluon_lenet.data.__main__ import main
from gluon_lenet.data.catalogue import DATASETS, FASHION_MNIST_LABELS
from gluon_lenet.data.datasets import load_dataset, load_training_set
from gluon_lenet.errors import InputError

SAMPLES = ROOT / "tests" / "samples"
NAMES = sorted(catalogue.DATASETS)


@pytest.fixture(scope="module")
def cached():
    """Both data sets, fetched if they are not cached."""
    return {name: load_dataset(name) for name in NAMES}


def lay(folder, name, *, without=()):
    """A folder with links to the cached files of a data set."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, found in cache.fetch(name).items():
        if file not in without:
            (folder / file).symlink_to(found.path)
    return folder


def test_the_training_set_needs_no_test_set(cached, tmp_path):
    folder = lay(tmp_path, "fashion_mnist", without=("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"))
    for images, labels in (load_training_set("fashion_mnist", folder), load_training_set("fashion_mnist")):
        assert (images == cached["fashion_mnist"].train_images).all()
        assert (labels == cached["fashion_mnist"].train_labels).all()
    with pytest.raises(InputError, match="t10k-images"):
        load_dataset("fashion_mnist", folder)


@pytest.mark.parametrize("name", NAMES)
def test_arrays_are_the_whole_data_set(cached, name):
    data = cached[name]
    assert data.name == name
    assert (data.train_images.shape, data.test_images.shape) == ((60000, 28, 28), (10000, 28, 28))
    assert (data.train_labels.shape, data.test_labels.shape) == ((60000,), (10000,))
    for array in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        assert array.dtype == np.uint8
        assert array.flags.c_contiguous
        assert not array.flags.writeable
    assert len(data.classes) == 10 == len(set(data.classes))
    assert set(np.unique(data.train_labels)) == set(np.unique(data.test_labels)) == set(range(10))
    assert data.sha256 == {file.name: file.sha256 for file in catalogue.DATASETS[name].files}


def test_what_is_known_of_the_pixels(cached):
    """Mean and standard deviation of the training pixels, as commonly used to normalize these data sets."""
    for name, mean, std in (("mnist", 0.1307, 0.3081), ("fashion_mnist", 0.2860, 0.3530)):
        histogram = np.bincount(cached[name].train_images.reshape(-1), minlength=256) / (60000 * 28 * 28)
        values = np.arange(256) / 255
        assert round(float(histogram @ values), 4) == mean
        assert round(float(np.sqrt(histogram @ values**2 - (histogram @ values) ** 2)), 4) == std
    assert np.bincount(cached["fashion_mnist"].train_labels).tolist() == [6000] * 10
    assert np.bincount(cached["fashion_mnist"].test_labels).tolist() == [1000] * 10
    assert np.bincount(cached["mnist"].test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize("name", NAMES)
def test_what_happens_to_the_files_later_changes_nothing(name, cached, tmp_path):
    """Files are changed in place or truncated. When they were mapped, training saw other pixels or was killed."""
    for path in lay(tmp_path / "links", name).iterdir():
        shutil.copy(path, tmp_path)  # copies, because the links lead to the user's own cache
    data = load_dataset(name, tmp_path)
    for path in tmp_path.glob("*ubyte"):
        with path.open("r+b") as file:
            file.seek(16)
            file.write(b"\0" * 10_000)
            file.truncate(20_000)
    for part in ("train_images", "train_labels", "test_images", "test_labels"):
        array = getattr(data, part)
        assert np.array_equal(array, getattr(cached[name], part))
        while isinstance(array, np.ndarray):
            assert not array.flags.writeable
            array = array.base
        assert memoryview(array).readonly


@pytest.mark.parametrize("name", NAMES)
def test_what_happens_to_the_cache_later_changes_nothing(name, cached, tmp_path):
    """When the files were mapped, training saw other pixels or was killed by SIGBUS; hence the subprocess."""
    for path in lay(tmp_path / "links", name).iterdir():
        (tmp_path / name).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / name)
    code = (
        "import os, sys; from pathlib import Path; from gluon_lenet.data.datasets import load_dataset\n"
        "data = load_dataset(sys.argv[1])\n"
        "before = [int(array.sum()) for array in (data.train_images, data.train_labels, data.test_images)]\n"
        "for path in Path(os.environ['GLUON_LENET_DATA'], sys.argv[1]).glob('*ubyte'):\n"
        "    with path.open('r+b') as file:\n"
        "        file.seek(16); file.write(b'\\0' * 5_000); file.truncate(10_000)\n"
        "assert before == [int(array.sum()) for array in (data.train_images, data.train_labels, data.test_images)]\n"
    )
    environment = module_env(GLUON_LENET_DATA=str(tmp_path))
    process = subprocess.run([sys.executable, "-c", code, name], env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_class_names_are_those_of_the_book():
    assert list(DATASETS["mnist"].classes) == [str(digit) for digit in range(10)]
    book = "t-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot"
    assert ", ".join(FASHION_MNIST_LABELS) == book


@pytest.mark.parametrize("name", NAMES)
def test_the_samples_are_the_first_256_of_each_part(cached, name):
    data = cached[name]
    for part, images, labels in (
        ("train", data.train_images, data.train_labels),
        ("t10k", data.test_images, data.test_labels),
    ):
        assert np.array_equal(idx.read_idx(SAMPLES / name / f"{part}-images-idx3-ubyte.gz"), images[:256])
        assert np.array_equal(idx.read_idx(SAMPLES / name / f"{part}-labels-idx1-ubyte.gz"), labels[:256])


def test_loading_from_a_named_folder_is_the_same(cached, tmp_path):
    folder = lay(tmp_path / "mnist", "mnist")
    packed = folder / "t10k-labels-idx1-ubyte"
    data = packed.read_bytes()
    packed.unlink()
    packed.with_name("t10k-labels.idx1-ubyte.gz").write_bytes(gzip.compress(data))
    for data_dir in (folder, str(tmp_path)):
        data = load_dataset("mnist", data_dir)
        assert np.array_equal(data.train_images, cached["mnist"].train_images)
        assert np.array_equal(data.test_labels, cached["mnist"].test_labels)


def test_wrong_names_and_folders_are_bad_input(tmp_path):
    with pytest.raises(InputError, match=r"^unknown data set 'lent'; choose from fashion_mnist, mnist$"):
        load_dataset("lent")
    with pytest.raises(ValueError, match="does not exist"):
        load_dataset("mnist", tmp_path / "nowhere")
    lay(tmp_path, "mnist")
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte: this is mnist's file, another data set's$"):
        load_dataset("fashion_mnist", tmp_path)


def test_data_does_not_need_mxnet():
    code = "import sys, gluon_lenet.data.__main__; print('mxnet' in sys.modules, 'pooch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False False\n"


# The command line


def run(*argv, capsys):
    status = main(list(argv))
    return status, *capsys.readouterr()


def test_fetch_says_where_the_files_lie_and_came_from(cached, capsys):
    status, out, err = run("fetch", capsys=capsys)
    assert (status, err) == (0, "")
    lines = [
        f"{name}: {cache.cache_dir() / name / file} (from cache)" for name in NAMES for file in cached[name].sha256
    ]
    assert out.splitlines() == lines


def test_info_describes_a_data_set(cached, capsys):
    status, out, err = run("info", "fashion_mnist", capsys=capsys)
    assert (status, err) == (0, "")
    for text in (
        "images (60000, 28, 28), labels (60000,)",
        "images (10000, 28, 28), labels (10000,)",
        "ankle boot: 6000 train, 1000 test",
        "licence: MIT",
        "https://github.com/zalandoresearch/fashion-mnist",
        f"{cache.cache_dir() / 'fashion_mnist' / 'train-images-idx3-ubyte'}: 47040016 bytes, SHA-256 c59f468a",
    ):
        assert text in out
    assert "mnist: MNIST" in run("info", capsys=capsys)[1]


def test_verify_hashes_again_and_fetches_nothing(cached, capsys, monkeypatch, tmp_path):
    status, out, _ = run("verify", capsys=capsys)
    assert (status, out.count(": OK\n"), len(out.splitlines())) == (0, 8, 8)

    monkeypatch.setenv("GLUON_LENET_DATA", str(tmp_path / "empty"))
    status, out, _ = run("verify", "mnist", capsys=capsys)
    assert (status, out.count("WRONG"), out.count("No such file or directory")) == (1, 4, 4)
    assert not (tmp_path / "empty").exists()
    monkeypatch.undo()

    folder = lay(tmp_path / "mine", "mnist", without=["t10k-labels-idx1-ubyte"])
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"<html>")
    (folder / "train-labels-idx1-ubyte").unlink()
    status, out, _ = run("verify", "mnist", "--data-dir", str(folder), capsys=capsys)
    assert status == 1
    assert out.splitlines() == [
        f"mnist: {folder}/train-images-idx3-ubyte: OK",
        f"mnist: WRONG: {folder}/train-labels-idx1-ubyte: No such file or directory",
        f"mnist: {folder}/t10k-images-idx3-ubyte: OK",
        f"mnist: WRONG: {folder}/t10k-labels-idx1-ubyte: a web page, not t10k-labels-idx1-ubyte",
    ]


@pytest.mark.parametrize(
    ("argv", "culprit"),
    [
        (["fetch", "lent"], "unknown data set 'lent'; choose from fashion_mnist, mnist"),
        (["fetch", "--data-dir", "/no/such/folder"], "data folder /no/such/folder does not exist"),
        (["info", "mnist", "--data-dir", __file__], f"data folder {__file__} is not a folder"),
        (["verify", "--data-dir", "/no/such/folder"], "data folder /no/such/folder does not exist"),
        (["fetch", "--data-dir", 300 * "x"], f"data folder {300 * 'x'}: File name too long"),
    ],
)
def test_bad_input_is_one_line_and_status_2(argv, culprit, capsys):
    status, out, err = run(*argv, capsys=capsys)
    assert (status, out, err) == (2, "", f"error: {culprit}\n")


@pytest.mark.parametrize("argv", [[], ["fetsch"], ["fetch", "mnist", "more"], ["fetch", "--datadir"]])
def test_a_wrong_command_line_leaves_with_status_2(argv, capsys):
    with pytest.raises(SystemExit) as leave:
        main(argv)
    out, err = capsys.readouterr()
    assert (leave.value.code, out, len(err.splitlines())) == (2, "", 1)


@pytest.mark.parametrize("action", ["fetch", "info"])
def test_a_cache_that_cannot_be_made_is_status_1(action, capsys, monkeypatch):
    monkeypatch.setenv("GLUON_LENET_DATA", "/proc/no/such/folder")
    status, out, err = run(action, "mnist", capsys=capsys)
    assert (status, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith("error: the cache /proc/no/such/folder/mnist cannot be written: ")


def test_ctrl_c_is_status_130_without_a_traceback(tmp_path):
    (tmp_path / "mnist").mkdir()
    with FileLock(tmp_path / "mnist" / ".lock"):
        process = subprocess.Popen(
            [sys.executable, "-m", "gluon_lenet.data", "fetch", "mnist"],
            env=os.environ | {"GLUON_LENET_DATA": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert "waiting for it" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
