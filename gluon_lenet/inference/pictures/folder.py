"""A folder of pictures, a subfolder for each class -> a data set: uint8 (n, 28, 28), labels, class names.

    FOLDER/cat/*.png  FOLDER/dog/*.png                     a fifth of each class is held out for testing
    FOLDER/train/cat/*.png ...  FOLDER/test/cat/*.png ...  split by the user

Classes are sorted by name, or by number if all names are numbers. Pictures are read by `forms.read_labelled`. Hidden
files are ignored; everything else that is not such a picture is an error, which names it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gluon_lenet.data.datasets import Dataset
from gluon_lenet.errors import InputError, printable
from gluon_lenet.inference.pictures.fit import FIELD
from gluon_lenet.inference.pictures.forms import read_labelled

TEST_SHARE = 0.2  # of each class, if the folder is not split
MOST_CLASSES = 256
_SEED = 1998  # of the split, which is the same for every run
_IGNORED = {"Thumbs.db", "desktop.ini", "__MACOSX"}  # that Windows and macOS add to folders and archives


@dataclass(frozen=True, eq=False)
class Pictures:
    """The pictures of one folder with class folders."""

    images: np.ndarray  # uint8 (n, 28, 28), by class, then by file name
    labels: np.ndarray  # uint8 (n,), positions in classes

    def part(self, rows: np.ndarray) -> Pictures:
        """Some of them; read-only."""
        images, labels = self.images[rows], self.labels[rows]
        images.flags.writeable = labels.flags.writeable = False
        return Pictures(images, labels)

    @property
    def sha256(self) -> str:
        """Of what a net is trained on: labels and pixels. It changes if a picture is added, changed or sorted anew."""
        return hashlib.sha256(self.labels.tobytes() + self.images.tobytes()).hexdigest()


def load_folder(folder: str | os.PathLike, form: str) -> Dataset:
    """The pictures to train and to test with.

    Args:
        folder: with a subfolder for each class, or with the folders `train` and `test`, each with those.
        form: how pictures are read, a name in `forms.FORMS`.

    Raises:
        InputError: there is no such folder, it or a class is empty or has too few pictures, or holds a link, a picture
            that cannot be read, or something else; one line that names the file.
    """
    folder = Path(folder)
    parts = _parts(folder)
    classes = _classes(parts["train"])
    if len(classes) < 2:
        raise InputError(f"{_shown(parts['train'])} has one class, {classes[0]}; a net needs two or more to tell apart")
    if "test" in parts:
        train, test = (_read(parts[part], form, classes) for part in ("train", "test"))
    else:
        train, test = _split(_read(folder, form, classes), folder, classes)
    return _dataset(folder, classes, train, test)


def load_to_score(folder: str | os.PathLike, form: str, classes: tuple[str, ...], trained_on: dict) -> Dataset:
    """The pictures of a folder to test a net with: a data set without training images.

    Args:
        folder: as for `load_folder`; it may lack some of the classes.
        form: how pictures are read.
        classes: of the net; the subfolders must be named so.
        trained_on: the SHA-256 of the parts of the net's own data set.

    Returns:
        The part `test` of a folder that is split; the held-out pictures of the folder that the net was trained on; all
        pictures of any other folder.

    Raises:
        InputError: as `load_folder`, or a subfolder is not named like a class.
    """
    folder = Path(folder)
    parts = _parts(folder)
    test = _read(parts.get("test", folder), form, classes)
    if "test" not in parts and len(set(test.labels.tolist())) == len(classes):
        try:
            train, held_out = _split(test, folder, classes)
        except InputError:  # too few pictures to be split, so it is another folder
            pass
        else:
            test = held_out if _sha256(train, held_out) == trained_on else test
    nothing = Pictures(np.zeros((0, FIELD, FIELD), np.uint8), np.zeros(0, np.uint8))
    return _dataset(folder, classes, nothing, test)


def _dataset(folder: Path, classes: tuple[str, ...], train: Pictures, test: Pictures) -> Dataset:
    return Dataset(
        name=os.fspath(folder),
        train_images=train.images,
        train_labels=train.labels,
        test_images=test.images,
        test_labels=test.labels,
        classes=classes,
        sha256=_sha256(train, test),
        is_folder=True,
    )


def _sha256(train: Pictures, test: Pictures) -> dict[str, str]:
    return {"train": train.sha256, "test": test.sha256}


def _parts(folder: Path) -> dict[str, Path]:
    """The folders with the classes: `train` and `test`, if the folder holds these two and nothing else."""
    if {path.name for path in _entries(folder)} == {"train", "test"}:
        return {part: folder / part for part in ("train", "test")}
    return {"train": folder}


def _classes(folder: Path) -> tuple[str, ...]:
    """The names of the subfolders, in order."""
    names = []
    for path in _entries(folder):
        if not path.is_dir():
            raise InputError(f"{_shown(path)} lies beside the folders of the classes; move it into one of them")
        if os.fsencode(path.name).decode("utf-8", "replace") != path.name:
            raise InputError(f"{_shown(path)}: the name of a class must be valid text")
        names.append(path.name)
    if not names:
        raise InputError(f"{_shown(folder)} is empty; it must hold a folder of pictures for each class")
    if len(names) > MOST_CLASSES:
        raise InputError(f"{_shown(folder)} has {len(names)} classes; it may have {MOST_CLASSES}")
    if all(name.isascii() and name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _read(folder: Path, form: str, classes: tuple[str, ...]) -> Pictures:
    """All pictures of the folders of the classes; some classes may have none."""
    files = []
    for name in _classes(folder):
        if name not in classes:
            raise InputError(
                f"{_shown(folder / name)}: there is no class {name!r}; the classes are {', '.join(classes)}"
            )
        inside = _entries(folder / name)
        if not inside:
            raise InputError(f"{_shown(folder / name)} holds no pictures")
        files += [(path, classes.index(name)) for path in inside]
    images = np.empty((len(files), FIELD, FIELD), np.uint8)
    for row, (path, _) in enumerate(tqdm(files, desc=_shown(folder), unit=" pictures", leave=False, disable=None)):
        if path.is_dir():
            raise InputError(f"{_shown(path)} is a folder within a class; put its pictures into {_shown(path.parent)}")
        images[row] = read_labelled(path, form)
    return Pictures(images, np.array([label for _, label in files], np.uint8)).part(np.arange(len(files)))


def _split(pictures: Pictures, folder: Path, classes: tuple[str, ...]) -> tuple[Pictures, Pictures]:
    """Training and test pictures: the same share of each class is held out, the same for the same pictures."""
    train, test = [], []
    for label, name in enumerate(classes):
        rows = np.flatnonzero(pictures.labels == label)
        if len(rows) < 2:
            raise InputError(
                f"{_shown(folder / name)} holds one picture; a class needs two or more, one of them to test"
            )
        order = np.random.default_rng([_SEED, label]).permutation(rows)
        num_test = max(1, round(TEST_SHARE * len(rows)))
        test.append(order[:num_test])
        train.append(order[num_test:])
    return tuple(pictures.part(np.sort(np.concatenate(rows))) for rows in (train, test))


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, by name, without hidden files; raises InputError for links."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.name[0] != "." and path.name not in _IGNORED)
    except OSError as error:
        raise InputError(f"{_shown(folder)} cannot be read as a folder of pictures: {error.strerror}") from None
    for path in paths:
        if path.is_symlink():
            raise InputError(f"{_shown(path)} is a link; put the file itself there")
    return paths


def _shown(path: Path) -> str:
    return printable(os.fspath(path))
