"""CONTRIBUTING.md: a data set and a recipe are added by the steps it gives, and by nothing else."""

import hashlib
import json
import re

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT
from gluon_lenet import evaluate, predict, train
from gluon_lenet.data import catalogue
from gluon_lenet.data.augment import Augmentation
from gluon_lenet.data.catalogue import DatasetEntry, four_files
from gluon_lenet.data.datasets import load_dataset
from gluon_lenet.data.idx import write_idx
from gluon_lenet.data.transforms import Transform
from gluon_lenet.data.transports import Folder
from gluon_lenet.training import recipes
from gluon_lenet.training.recipes import Recipe
from gluon_lenet.training.settings import Cosine

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def halves(tmp_path, monkeypatch):
    """A made-up data set, whose classes are the halves of an image that can hold ink, and a recipe: one entry each."""
    rng, folder = np.random.default_rng(0), tmp_path / "files"
    folder.mkdir()
    arrays = {}
    for part, size in (("train", 2000), ("t10k", 300)):
        labels = rng.integers(0, 2, size).astype(np.uint8)
        images = rng.integers(0, 60, (size, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[:, 14 * label : 14 * (label + 1)] += 150
        arrays[f"{part}-images-idx3-ubyte"], arrays[f"{part}-labels-idx1-ubyte"] = images, labels
    for name, array in arrays.items():
        write_idx(folder / name, array)
    entry = DatasetEntry(
        name="halves",
        title="Halves",
        home="nowhere",
        licence="none",
        files=four_files(
            *(hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in arrays), num_train=2000, num_test=300
        ),
        sources=(Folder(folder),),
        classes=("left", "right"),
        classes_zh=("左", "右"),
        augmentation=Augmentation(shift=1),
        form="clothing",
    )
    monkeypatch.setitem(catalogue.DATASETS, "halves", entry)
    recipe = Recipe(
        source="made up",
        published="nothing",
        net="lenet5_relu_maxpool",
        dataset="halves",
        optimizer="sgd",
        lr=0.05,
        batch_size=50,
        num_epochs=2,
        schedule=Cosine(),
        transform=Transform(mean=0.5, std=0.5),
        num_validation=200,
    )
    monkeypatch.setitem(recipes.RECIPES, "halves_recipe", recipe)
    monkeypatch.setenv("GLUON_LENET_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return entry


def test_a_data_set_and_a_recipe_are_one_entry_each(halves, capsys):
    assert train.main(["--recipe", "halves_recipe", "--augment", "--quiet", "--run-dir", "run"]) == 0
    capsys.readouterr()
    assert evaluate.main(["--run", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.99
    image = load_dataset("halves").test_images[0]
    Image.fromarray(np.pad(image, 20)).save("picture.png")
    assert predict.main(["--run", "run", "picture.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["predictions"][0]["predicted"] in halves.classes


def test_every_file_it_names_is_there():
    named = set(re.findall(r"`((?:gluon_lenet|tests|benchmarks|notebooks|docs)/[\w./]+)`", TEXT))
    assert len(named) > 15
    for name in named:
        assert (ROOT / name).exists(), name


def test_every_make_target_it_names_is_there():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"`make ([a-z-]+)", TEXT)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
