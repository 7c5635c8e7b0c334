"""train and evaluate --dataset FOLDER: a user's pictures, a subfolder for each class, made from real images."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from conftest import fails_as_bad_input, module_env, same_run
from gluon_lenet import evaluate, predict, train
from gluon_lenet.data.datasets import load_dataset
from gluon_lenet.errors import InputError
from gluon_lenet.inference.pictures.folder import load_folder
from gluon_lenet.inference.pictures.forms import read_labelled
from gluon_lenet.inference.trained import Trained
from gluon_lenet.training.recipes import RECIPES
from picture_folder import write_folder

DIGITS = {digit: str(digit) for digit in range(10)}
THREE = {3: "three", 7: "seven", 8: "eight"}


@pytest.fixture(scope="module")
def mnist():
    return load_dataset("mnist")


def scan(image):
    """As a student's scan: dark on light, larger, off centre."""
    return 255 - np.pad(np.kron(image, np.ones((5, 5), np.uint8)), ((30, 90), (10, 40)))


def test_a_net_of_three_classes(tmp_path, run_module, mnist, monkeypatch, capsys):
    """The README's commands: train, evaluate, predict; nothing but the folder is read."""
    write_folder(tmp_path / "pictures", mnist.train_images, mnist.train_labels, THREE, 40, scan)
    write_folder(tmp_path / "more", mnist.test_images, mnist.test_labels, THREE, 40)
    no_data = {"GLUON_LENET_DATA": str(tmp_path / "empty")}
    command = ["--dataset", "pictures", "--epochs", 12, "--run-dir", "run", "--quiet"]
    done = run_module("train", *command, env=module_env(**no_data))
    assert (done.returncode, done.stdout, done.stderr) == (0, "run\n", "")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["recipe"] == "augmented_mnist"
    assert config["classes"] == ["eight", "seven", "three"]
    assert config["data_dir"] == str(tmp_path / "pictures")
    assert config["data_sha256"].keys() == {"train", "test"}
    assert config["settings"]["batch_size"] == 96 // 20, "four fifths of 120, in twenty batches"

    done = run_module("evaluate", "--run", "run", "--json", "--confusion", "confusion.png", "--grid", "grid.png")
    assert done.returncode == 0, done.stderr
    held_out = json.loads(done.stdout)
    assert [row["num_examples"] for row in held_out["by_class"]] == [8, 8, 8]
    assert (held_out["num_examples"], held_out["dataset"]) == (24, str(tmp_path / "pictures"))
    assert held_out["accuracy"] > 0.8

    monkeypatch.chdir(tmp_path)
    assert evaluate.main(["--run", "run", "--dataset", "more"]) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.endswith(" of 120 images of more right, by the last weights of augmented_mnist")
    assert float(first.split()[2].rstrip(":")) > 0.8
    assert predict.main(["--run", "run", "pictures/eight/0001.png", "more/seven/0000.png"]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["eight", "seven"]


def test_the_held_out_share_is_scored_of_the_folder_that_was_trained_on(tmp_path, monkeypatch, capsys, mnist, caplog):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "a", mnist.train_images, mnist.train_labels, THREE, 30)
    assert train.main(["--dataset", "a", "--epochs", "1", "--quiet", "--run-dir", "run"]) == 0
    shutil.copytree("a", "copy")
    capsys.readouterr()

    def numbers(*args):
        assert evaluate.main(["--run", "run", "--json", *args]) == 0
        return json.loads(capsys.readouterr().out)

    own = numbers()
    assert own["num_examples"] == 18
    for folder in ("a", "copy"):
        assert numbers("--dataset", folder)["confusion"] == own["confusion"]
    assert predict.main(["--run", "run", "--first", "1"]) == 0
    assert "actual eight" in capsys.readouterr().out
    assert not caplog.records

    os.rename("a/three/0000.png", "a/seven/9999.png")  # sorted anew
    (message,) = [f"{tmp_path / 'a'} has changed since the training: pictures were added, removed"]
    fails_as_bad_input(evaluate.main, ["--run", "run"], capsys, message)
    fails_as_bad_input(train.main, ["--resume", "run", "--epochs", "2"], capsys, message)
    assert numbers("--dataset", "a")["num_examples"] == 90
    assert "a has changed since the training; the net may have been trained on some" in caplog.text
    shutil.rmtree("a")
    fails_as_bad_input(train.main, ["--resume", "run"], capsys, f"{tmp_path / 'a'} cannot be read as a folder")
    assert numbers("--data-dir", "copy")["confusion"] == own["confusion"]

    config = json.loads((tmp_path / "run" / "config.json").read_text())
    for field, value, says in (
        ("data_dir", None, "data_dir must name the folder of pictures"),
        ("classes", ["one"], "classes must be a list of 2 to 256 class names"),
        ("classes", ["eight", "seven", "4"], "was trained with classes ['eight', 'seven', 'three']"),
    ):
        (tmp_path / "run" / "config.json").write_text(json.dumps(config | {field: value}))
        fails_as_bad_input(evaluate.main, ["--run", "run"], capsys, says)


def test_a_run_is_resumed_bit_for_bit(tmp_path, monkeypatch, mnist):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "a", mnist.train_images, mnist.train_labels, DIGITS, 12)
    begin = ["--dataset", "a", "--recipe", "sgd_step_mnist", "--quiet", "--epochs"]
    assert train.main([*begin, "2", "--run-dir", "whole"]) == 0
    assert train.main([*begin, "1", "--run-dir", "parts"]) == 0
    os.rename("a", "b")
    assert train.main(["--resume", "parts", "--dataset", "b", "--epochs", "2", "--quiet"]) == 0
    same_run(tmp_path / "whole", tmp_path / "parts")
    assert "val_acc" in (tmp_path / "whole" / "metrics.jsonl").read_text(), "a sixth is held out for validation"


def test_a_folder_of_test_images_gives_their_own_accuracy(tmp_path, mnist, fashion, capsys):
    """Pictures of 28x28 with background 0 are taken as they are: the same predictions as of the IDX files."""
    for data, name in ((mnist, "relu_adam_mnist"), (fashion, "d2l_v1_fashion")):
        folder = tmp_path / name
        write_folder(folder, data.test_images, data.test_labels, dict(enumerate(data.classes)), 40)
        trained = Trained(f"pretrained:{name}")
        rows = np.concatenate([(data.test_labels == label).nonzero()[0][:40] for label in range(10)])
        assert evaluate.main(["--run", f"pretrained:{name}", "--dataset", str(folder), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["num_examples"] == 400
        assert found["confusion"] == trained.score(data.test_images[rows], data.test_labels[rows])[1].confusion.tolist()


def test_some_classes_are_enough_to_score(tmp_path, mnist, capsys):
    write_folder(tmp_path / "two", mnist.test_images, mnist.test_labels, {1: "1", 4: "4"}, 5)
    for args in ([], ["--json"]):
        assert evaluate.main(["--run", "pretrained:relu_adam_mnist", "--dataset", str(tmp_path / "two"), *args]) == 0
    text, numbers = capsys.readouterr().out.rsplit("\n", 2)[:2]
    assert "\n0           0        0         -\n1           5        5    1.0000\n" in text
    assert json.loads(numbers)["by_class"][0] == {"class": "0", "num_examples": 0, "num_correct": 0, "accuracy": None}


def test_how_a_picture_is_read(tmp_path, mnist, fashion):
    """As it is, or as predict reads it; the check for one digit is left out."""
    file = tmp_path / "picture.png"
    trained = Trained("pretrained:relu_adam_mnist")
    off_centre = np.zeros((28, 28), np.uint8)
    off_centre[2:9, 20:24] = 200
    for image in (*mnist.test_images[:100], off_centre):
        Image.fromarray(image).save(file)
        assert np.array_equal(read_labelled(file, "digit"), image)
        Image.fromarray(image).convert("RGB").save(file)
        assert np.array_equal(read_labelled(file, "drawing"), image)
    for image in mnist.test_images[:50]:
        for changed in (255 - image, scan(image)):
            Image.fromarray(changed).save(file)
            assert np.array_equal(read_labelled(file, "digit"), trained.read_image(file))
    for image in fashion.test_images[:50]:
        Image.fromarray(image).save(file)
        assert np.array_equal(read_labelled(file, "clothing"), image)

    two = np.zeros((100, 300), np.uint8)
    two[20:80, 20:30] = two[20:80, 250:260] = 255
    Image.fromarray(two).save(file)
    with pytest.raises(InputError, match="not a drawing of one digit"):
        trained.read_image(file)
    assert read_labelled(file, "drawing").any(), "the user says what it is"


def test_the_split_is_stratified_and_the_same_for_the_same_pictures(tmp_path, mnist):
    write_folder(tmp_path / "a", mnist.train_images, mnist.train_labels, {0: "9", 1: "10", 2: "1"}, 23)
    data = load_folder(tmp_path / "a", "digit")
    assert data.classes == ("1", "9", "10"), "by number"
    assert np.bincount(data.train_labels).tolist() == [18, 18, 18]
    assert np.bincount(data.test_labels).tolist() == [5, 5, 5]
    every = {image.tobytes() for image in (*data.train_images, *data.test_images)}
    assert len(every) == 69, "each picture is in one part"
    again = load_folder(tmp_path / "a", "digit")
    assert again.sha256 == data.sha256
    assert np.array_equal(again.test_images, data.test_images)

    picture = tmp_path / "a" / "9" / "0003.png"
    pixels = np.array(Image.open(picture))
    pixels[14, 14] ^= 1
    Image.fromarray(pixels).save(picture)
    assert load_folder(tmp_path / "a", "digit").sha256 != data.sha256
    (tmp_path / "a" / ".DS_Store").write_bytes(b"of macOS")
    (tmp_path / "a" / "9" / "Thumbs.db").write_bytes(b"of Windows")
    load_folder(tmp_path / "a", "digit")


def test_a_folder_that_its_user_split(tmp_path, mnist, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "a" / "train", mnist.train_images, mnist.train_labels, THREE, 20)
    write_folder(tmp_path / "a" / "test", mnist.test_images, mnist.test_labels, {3: "three", 8: "eight"}, 7)
    data = load_folder("a", "digit")
    assert (data.classes, len(data.train_images), len(data.test_images)) == (("eight", "seven", "three"), 60, 14)
    assert train.main(["--dataset", "a", "--epochs", "1", "--quiet", "--run-dir", "run"]) == 0
    for args in ([], ["--dataset", "a"]):
        capsys.readouterr()
        assert evaluate.main(["--run", "run", "--json", *args]) == 0
        assert json.loads(capsys.readouterr().out)["num_examples"] == 14
    os.rename("a/test/three", "a/test/four")
    fails_as_bad_input(
        train.main,
        ["--dataset", "a"],
        capsys,
        "a/test/four: there is no class 'four'; the classes are eight, seven, thr",
    )


def test_recipes_are_fitted_to_few_pictures():
    fitted = RECIPES["tanh_adam_mnist"].fitted(120)
    assert (fitted.num_validation, fitted.batch_size) == (20, 5)
    for recipe in RECIPES.values():
        assert recipe.fitted(60_000) == recipe, "nothing changes for MNIST's own size"
        assert recipe.fitted(2).batch_size == 1


def spoil(folder, what):
    """Put something that cannot be used into the folder; returns what the error must say."""
    wrong = folder / "3" / "wrong.png"
    if what == "text":
        wrong.write_text("no picture")
        return f"{wrong}: not an image in a readable format"
    if what == "huge":
        Image.new("1", (20_000, 5_000)).save(wrong)
        return f"{wrong}: 20000 x 5000: too large"
    if what == "cut":
        wrong.write_bytes((folder / "3" / "0000.png").read_bytes()[:150])
        return f"{wrong}: the PNG image is cut or broken"
    if what == "blank":
        Image.new("L", (28, 28)).save(wrong)
        return f"{wrong}: a blank picture"
    if what == "blank scan":
        Image.new("L", (100, 50), 255).save(wrong)
        return f"{wrong}: a blank picture"
    if what == "link":
        wrong.symlink_to("0000.png")
        return f"{wrong} is a link; put the file itself there"
    if what == "link to a class":
        (folder / "9").symlink_to("3")
        return f"{folder / '9'} is a link"
    if what == "folder":
        wrong.mkdir()
        return f"{wrong} is a folder within a class"
    if what == "beside":
        (folder / "a.png").write_text("no picture")
        return f"{folder / 'a.png'} lies beside the folders of the classes"
    if what == "empty class":
        (folder / "4").mkdir()
        return f"{folder / '4'} holds no pictures"
    if what == "one picture":
        (folder / "4").mkdir()
        shutil.copy(folder / "3" / "0000.png", folder / "4")
        return f"{folder / '4'} holds one picture"
    if what == "one class":
        shutil.rmtree(folder / "5")
        return f"{folder} has one class, 3"
    if what == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
        return f"{folder} is empty"
    if what == "no text":
        (folder / os.fsdecode(b"\xff")).mkdir()
        return "\\udcff: the name of a class must be valid text"
    if what == "pipe":
        os.mkfifo(wrong)
        return f"{wrong}: not a regular file"
    shutil.rmtree(folder)
    if what == "file":
        folder.write_text("no folder")
    return f"{folder} cannot be read as a folder of pictures"


@pytest.mark.parametrize(
    "what",
    [
        *("text", "huge", "cut", "blank", "blank scan", "link", "link to a class", "folder", "beside", "empty class"),
        *("one picture", "one class", "empty", "no text", "pipe", "file", "nowhere"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(what, tmp_path, mnist, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = write_folder(tmp_path / "pictures", mnist.train_images, mnist.train_labels, {3: "3", 5: "5"}, 3)
    says = spoil(folder, what)
    fails_as_bad_input(train.main, ["--dataset", folder, "--run-dir", "run"], capsys, says)
    assert not (tmp_path / "run").exists()
    if what not in ("one class", "one picture"):  # that may be scored
        run = ["--run", "pretrained:relu_adam_mnist"]
        fails_as_bad_input(evaluate.main, [*run, "--dataset", folder], capsys, says)


def test_options_that_exclude_each_other(tmp_path, mnist, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    both = ["--dataset", "a", "--data-dir", "b"]
    for main, args in ((train.main, both), (evaluate.main, ["--run", "run", *both])):
        fails_as_bad_input(main, args, capsys, "--dataset and --data-dir both name the data")
    write_folder(tmp_path / "a", mnist.train_images, mnist.train_labels, THREE, 5)
    fails_as_bad_input(train.main, ["--dataset", "a", "--recipe", "lecun1998_mnist"], capsys, "cannot have 3 classes")
    fails_as_bad_input(
        train.main, ["--dataset", "a", "--batch-size", "20"], capsys, "batch size 20 must be between 1 and"
    )
    assert train.main(["--epochs", "1", "--quiet", "--run-dir", "run"]) == 0
    fails = ["--resume", "run", "--dataset", "a"]
    capsys.readouterr()
    fails_as_bad_input(train.main, fails, capsys, "the run in run was trained on fashion_mnist; drop it")
