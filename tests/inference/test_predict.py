"""predict.py: good and bad files, and that preprocessing is the same as in training, pixel by pixel."""

import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from conftest import fails_as_bad_input, one_error_line
from gluon_lenet import predict
from gluon_lenet.data.catalogue import DATASETS
from gluon_lenet.data.datasets import load_dataset
from gluon_lenet.errors import InputError
from gluon_lenet.inference.pictures.fit import fit_clothing
from gluon_lenet.inference.pictures.forms import read_clothing
from gluon_lenet.inference.trained import Trained
from not_digits import other_pictures
from small_train import train_small


@pytest.fixture(scope="module")
def mnist():
    return load_dataset("mnist")


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """Two epochs of write-up 000's recipe on 6,000 images, enough to read digits."""
    args = ["--recipe", "relu_adam_mnist", "--epochs", "2", "--lr", "0.004"]
    return train_small(tmp_path_factory.mktemp("digits") / "run", *args)


@pytest.fixture(scope="module")
def clothes_run(tmp_path_factory):
    """The same of clothes."""
    return train_small(tmp_path_factory.mktemp("clothes") / "run", "--recipe", "small_clothes")


@pytest.fixture
def files(tmp_path, monkeypatch, mnist):
    """A folder with good and bad files, to work in."""
    monkeypatch.chdir(tmp_path)
    seven, two = mnist.test_images[:2]
    Image.fromarray(seven).save("七.png")
    large = Image.fromarray(255 - two).resize((300, 300), Image.Resampling.BICUBIC)  # dark on light
    large.convert("RGB").save("two.jpg", quality=90)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes((tmp_path / "七.png").read_bytes()[:150])
    Image.new("L", (40, 40), 255).save("blank.png")
    Image.new("1", (8000, 8000)).save("bomb.png")
    (tmp_path / "folder.png").mkdir()
    return tmp_path


BAD_FILES = {
    "empty.png": "the file is empty",
    "text.png": "not an image",
    "cut.png": "cut or broken",
    "blank.png": "a blank picture",
    "bomb.png": "too large",
    "folder.png": "a directory",
    "nowhere.png": "no such file",
}


def test_the_first_five_test_digits(digits_run, capsys):
    assert predict.main(["--run", str(digits_run), "--first", "5"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    found = [
        re.fullmatch(r"test image (\d): (\d) \(\d+\.\d%\), actual (\d)", line).groups()
        for line in captured.out.splitlines()
    ]
    assert found == [(str(i), digit, digit) for i, digit in enumerate("72104")]


def test_good_and_bad_files(run_module, digits_run, files):
    names = ["empty.png", "七.png", "text.png", "cut.png", "two.jpg", "nowhere.png"]
    process = run_module("predict", "--run", digits_run, *names)
    assert process.returncode == 1
    seven, two = process.stdout.splitlines()
    assert re.fullmatch(r"七\.png: 7 \(\d+\.\d%\)", seven)
    assert re.fullmatch(r"two\.jpg: 2 \(\d+\.\d%\)", two)
    bad = [name for name in names if name in BAD_FILES]
    for line, name in zip(process.stderr.splitlines(), bad, strict=True):
        assert line.startswith(f"error: {name}: ")
        assert BAD_FILES[name] in line


@pytest.mark.parametrize("name", BAD_FILES)
def test_each_bad_file_is_an_error_for_itself(name, digits_run, files, capsys):
    before = sorted(os.listdir())
    assert predict.main(["--run", str(digits_run), name, "七.png", "--show", "seen.png"]) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith(f"error: {name}: ")
    assert BAD_FILES[name] in line
    (line,) = captured.out.splitlines()
    assert line.startswith("七.png: 7 (")
    assert sorted([*before, "seen.png"]) == sorted(os.listdir())
    assert predict.main(["--run", str(digits_run), name, "--show", "alone.png"]) == 1
    assert capsys.readouterr().out == ""
    assert not os.path.exists("alone.png"), "there was nothing to draw"


def test_what_is_no_digit_is_an_error_and_the_others_are_predicted(digits_run, files, capsys):
    """A gradient, a page of text, noise, and a single pixel: on these a net often predicts a digit confidently."""
    noise = np.random.default_rng(0).random((100, 100)) < 0.1
    pixel = np.full((28, 28), 255, dtype=np.uint8)
    pixel[9, 14] = 0
    pictures = {
        "gradient.png": np.tile(np.linspace(0, 255, 200).astype(np.uint8), (200, 1)),
        "page.png": next(other_pictures("page of text", 1, seed=0)),
        "noise.png": np.where(noise, 0, 255).astype(np.uint8),
        "pixel.png": pixel,
    }
    for name, picture in pictures.items():
        Image.fromarray(picture).save(name)
    assert predict.main(["--run", str(digits_run), *pictures, "七.png"]) == 1
    captured = capsys.readouterr()
    assert re.fullmatch(r"七\.png: 7 \(\d+\.\d%\)\n", captured.out)
    for line, name in zip(captured.err.splitlines(), pictures, strict=True):
        assert line.startswith(f"error: {name}: this is not a drawing of one digit: ")
        assert line.endswith("; draw one digit, dark on light")


def test_json(digits_run, files, capsys):
    assert predict.main(["--run", str(digits_run), "--json", "--first", "2", "七.png", "empty.png", "two.jpg"]) == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert (found["run"], found["recipe"], found["weights"]) == (str(digits_run), "relu_adam_mnist", "last")
    rows = found["predictions"]
    assert [row["image"] for row in rows] == ["test image 0", "test image 1", "七.png", "empty.png", "two.jpg"]
    assert [row.get("predicted") for row in rows] == ["7", "2", "7", None, "2"]
    assert [row.get("actual") for row in rows] == ["7", "2", None, None, None]
    assert rows[3] == {"image": "empty.png", "error": "empty.png: the file is empty"}
    assert captured.err == "error: empty.png: the file is empty\n"
    for row in rows[:3] + rows[4:]:
        assert list(row["probabilities"]) == list("0123456789")
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert row["probability"] == max(row["probabilities"].values()) == row["probabilities"][row["predicted"]]
    assert rows[0]["probabilities"] == pytest.approx(rows[2]["probabilities"], abs=1e-6), "the same picture, as a file"


def test_show_draws_what_the_net_saw(digits_run, files, capsys):
    assert predict.main(["--run", str(digits_run), "--first", "6", "七.png", "two.jpg", "--show", "看.png"]) == 0
    with Image.open("看.png") as image:
        image.load()
        assert image.format == "PNG"
        assert 800 < image.width < 2000
        assert 300 < image.height < 1000
    assert capsys.readouterr().err == ""


def test_a_file_name_that_is_no_text(digits_run, files, capsys):
    name = os.fsdecode(b"\xff\xfe.png")
    os.rename("two.jpg", name)
    assert predict.main(["--run", str(digits_run), name]) == 0
    assert capsys.readouterr().out.startswith("\\udcff\\udcfe.png: 2 (")
    assert predict.main(["--run", str(digits_run), "--json", name, name + "x", "--show", "seen.png"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["predictions"][0]["image"] == name
    assert captured.err == "error: \\udcff\\udcfe.pngx: no such file\n"


def test_nearly_all_clothes_come_through_as_they_are(fashion):
    """Inverted or not: 9,992 of the 10,000 test images are unchanged; the median of the others' border is not black."""
    for images in (fashion.test_images, 255 - fashion.test_images):
        changed = 0
        for image, original in zip(images[:3000], fashion.test_images, strict=False):
            changed += not np.array_equal(fit_clothing(image.astype(np.float32)), original)
        assert changed <= 3


def test_clothes_on_a_large_light_picture(clothes_run, fashion, tmp_path):
    """Enlarged, inverted, off the centre of a white picture, as a JPEG: nearly the same image, and the same class."""
    trained = Trained(clothes_run)
    for i, image in enumerate(fashion.test_images[:60]):
        picture = np.full((420, 350, 3), 254, dtype=np.uint8)
        rows, columns = (np.nonzero(image.max(axis=1 - axis) > 13)[0] for axis in (0, 1))
        image = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        enlarged = np.kron(255 - image, np.ones((10, 10), dtype=np.uint8))
        height, width = enlarged.shape
        picture[70 : 70 + height, 20 : 20 + width] = np.minimum(enlarged, 254)[..., None]
        Image.fromarray(picture).save(tmp_path / f"{i}.jpg", quality=95)
    read = np.array([trained.read_image(tmp_path / f"{i}.jpg") for i in range(60)])
    assert read.max(axis=(1, 2)).min() >= 250
    difference = np.abs(read.astype(int) - fashion.test_images[:60]).mean(axis=(1, 2))
    assert np.median(difference) < 6
    predicted, expected = (trained.probabilities(images).argmax(axis=1) for images in (read, fashion.test_images[:60]))
    same = (predicted == expected).mean()
    assert same >= 0.9


def test_clothes_are_called_by_their_names(clothes_run, fashion, tmp_path, capsys):
    Image.fromarray(fashion.test_images[1]).save(tmp_path / "毛衣.png")
    status = predict.main(["--run", str(clothes_run), str(tmp_path / "毛衣.png"), "--first", "2", "--json"])
    rows = json.loads(capsys.readouterr().out)["predictions"]
    assert status == 0
    assert {row["predicted"] for row in rows} <= set(DATASETS["fashion_mnist"].classes)
    assert [row.get("actual") for row in rows] == ["ankle boot", "pullover", None]
    assert rows[1]["probabilities"] == pytest.approx(rows[2]["probabilities"], abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3), (28, 28), (100, 60)])
def test_a_blank_picture_shows_no_clothes(shape):
    for grey in (0, 100, 255):
        with pytest.raises(InputError, match="a blank picture"):
            fit_clothing(np.full(shape, grey, dtype=np.float32))


def test_clothes_from_a_bad_file(files):
    for name, says in BAD_FILES.items():
        with pytest.raises(InputError, match=rf"^{name}: .*{says}"):
            read_clothing(name)


BAD = [
    (["--run", "nowhere", "七.png"], "nowhere holds no run: config.json"),
    (["--run", "folder.png", "七.png"], "folder.png holds no run: config.json"),
    (["--run", "RUN"], "nothing to predict: name image files, or --first N"),
    (["七.png"], "--run"),
    (["--run", "RUN", "--first", "0"], "'0' is not a whole number from 1 to 2147483647"),
    (["--run", "RUN", "--first", "10001"], "--first 10001: there are 10000 test images"),
    (["--run", "RUN", "--first", "1000", "七.png", "--show", "a.png"], "--show draws at most 1000 images"),
    (["--run", "RUN", "七.png", "--show", "a.gif"], "picture a.gif: end its name in one of .png"),
    (["--run", "RUN", "七.png", "--show", "no/a.png"], "no folder no"),
    (["--run", "RUN", "七.png", "--weights", "best"], "has no best.safetensors; it has last weights"),
    (["--run", "RUN", "七.png", "--ctx", "gpu(99)"], "gpu(99) cannot be used"),
    (["--run", "RUN", "--first", "1", "--data-dir", "folder.png"], "folder.png"),
]


@pytest.mark.parametrize(("args", "says"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_bad_input_is_one_line_and_writes_nothing(args, says, digits_run, files, capsys):
    before = sorted(os.listdir())
    fails_as_bad_input(predict.main, [digits_run if arg == "RUN" else arg for arg in args], capsys, says)
    assert sorted(os.listdir()) == before


def test_no_usable_run_in_a_process_of_its_own(run_module, files, tmp_path):
    one_error_line(run_module("predict", "--run", "nowhere", "七.png"), "nowhere holds no run")
