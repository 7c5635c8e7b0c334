"""config.json and the headers of checkpoints <-> typed objects: a run's settings, and which checkpoints are its own.

Formats of config.json:

1  no version and no id; checkpoints do not name their run
2  a recipe's transform, augmentation, loss, initializer and schedule are numbers and names
3  they are objects

Runs of formats 1 and 2 can be evaluated but not resumed.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gluon_lenet.compat.threads import MOST_THREADS
from gluon_lenet.data.augment import CLOTHING, HANDWRITING, LECUN_1998
from gluon_lenet.data.catalogue import DatasetEntry, folder_entry, get_entry
from gluon_lenet.data.datasets import Dataset
from gluon_lenet.errors import InputError
from gluon_lenet.fields import Count, Device, Natural, Text, decode
from gluon_lenet.training.metrics import Progress
from gluon_lenet.training.recipes import Recipe

VERSION = 3
# What may change within a run, between two versions of the package or from one `--resume` to the next.
_NO_DECISION = {"source", "published", "num_epochs"}

Threads = Annotated[int, Meta(ge=1, le=MOST_THREADS, description=f"a number of threads from 1 to {MOST_THREADS}")]
Classes = Annotated[list[Text], Meta(min_length=2, max_length=256, description="a list of 2 to 256 class names")]
RunId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$", description="32 hexadecimal digits")]


def new_id() -> RunId:
    """A unique id of a run."""
    return secrets.token_hex(16)


class GangConfig(msgspec.Struct, frozen=True):
    """The workers that train together; their result depends on it."""

    workers: Natural
    kvstore: Literal["dist_sync", "dist_async"] = "dist_sync"
    compression: Literal["2bit"] | None = None  # of gradients

    @property
    def is_exact(self) -> bool:
        """Whether all workers have the same weights, which one checkpoint holds."""
        return self.kvstore == "dist_sync" and self.compression is None


class RunConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything needed to repeat a run: config.json."""

    version: Count = 1
    id: RunId | None = None  # drawn when the run begins and stored in its checkpoints; None in format 1
    recipe: Text  # its name
    settings: Recipe
    seed: Count
    ctx: Annotated[list[Device], Meta(min_length=1, description="a list of devices")]
    threads: Threads
    backprop: Literal["autograd", "fused"]
    data_dir: Text | None
    gang: GangConfig | None = None  # None: one process
    # Of a folder of pictures, which `data_dir` then names; None for the data set that `settings` name.
    classes: Classes | None = None
    data_sha256: dict[str, str] = {}  # of the four files, by their names; of the parts of a folder of pictures
    versions: dict[str, str] = {}
    platform: str = ""
    command: list[str] = []
    started: str = ""

    @classmethod
    def from_json(cls, data: bytes, path: object) -> RunConfig:
        """The inverse of `to_json`; also reads older formats.

        Raises:
            InputError: a field is missing or wrong, or it comes from a newer version; the line begins with `path`.
        """
        raw = decode(data, dict[str, Any], str(path))
        version = raw.get("version", 1)
        if type(version) is int and version > VERSION:
            raise InputError(f"{path}: format {version} is of a newer version of gluon_lenet; this one reads {VERSION}")
        if type(version) is int and version < 3 and isinstance(raw.get("settings"), dict):
            raw["settings"] = with_objects(raw["settings"], path)
            data = msgspec.json.encode(raw)
        config = decode(data, cls, str(path))
        if config.classes is not None and config.data_dir is None:
            raise InputError(f"{path}: data_dir must name the folder of pictures that has these classes, not null")
        return config

    def to_json(self) -> bytes:
        """The file's bytes, indented."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def with_epochs(self, num_epochs: int) -> RunConfig:
        """The same run with another number of epochs."""
        return msgspec.structs.replace(self, settings=replace(self.settings, num_epochs=num_epochs))

    @property
    def decisions(self) -> dict[str, Any]:
        """The settings that determine the weights after a number of batches.

        The number of epochs is not among them: a resumed run may have more, although a cosine schedule depends on it.
        """
        settings = msgspec.json.decode(msgspec.json.encode(self.settings))  # lists, as a checkpoint's header has them
        settings = {name: value for name, value in settings.items() if name not in _NO_DECISION}
        others = ("seed", "ctx", "threads", "backprop", "classes", "data_sha256")
        settings |= {name: getattr(self, name) for name in others}
        return settings if self.gang is None else settings | {"gang": msgspec.to_builtins(self.gang)}

    @property
    def entry(self) -> DatasetEntry:
        """What is known of its data set; raises InputError if there is none of that name."""
        entry = get_entry(self.settings.dataset)
        return entry if self.classes is None else folder_entry(entry, self.data_dir, tuple(self.classes))

    def check_unchanged(self, dataset: Dataset) -> None:
        """Raise InputError unless a folder holds the pictures that the run was trained and tested with."""
        if (list(dataset.classes), dataset.sha256) != (self.classes, self.data_sha256):
            raise InputError(
                f"{dataset.name} has changed since the training: pictures were added, removed, changed or sorted anew"
            )

    def check_resumable(self, path: object, gang: GangConfig | None = None) -> None:
        """Raise InputError, with the `path` of the file, if the run has an older format or is of other workers."""
        if self.version < VERSION:
            raise InputError(
                f"{path} is of an older version of gluon_lenet (format {self.version}): the run can be evaluated, but "
                "not resumed"
            )
        if self.gang != gang:
            workers = "one process" if self.gang is None else f"{self.gang.workers} workers by {self.gang.kvstore}"
            raise InputError(f"{path}: the run was trained by {workers}, and only the same can resume it")

    def check_owns(self, path: object, header: Header) -> None:
        """Raise InputError unless the checkpoint in `path`, with this header, is of this run and its settings."""
        if header.run != self.id:
            raise InputError(f"{path} belongs to another run than the config.json beside it")
        was = {"net": header.net, "seed": header.seed}
        if header.decisions is not None and self.version == VERSION:
            was = header.decisions
        for name, value in self.decisions.items():
            if name in was and was[name] != value:
                raise InputError(f"{path} was trained with {name} {was[name]!r:.60}, the run's is {value!r}")


_OLD_AUGMENTATIONS = {"handwriting": HANDWRITING, "lecun1998": LECUN_1998, "clothing": CLOTHING}


def with_objects(settings: dict[str, Any], path: object) -> dict[str, Any]:
    """A recipe's settings of format 1 or 2 -> of the current format; unknown fields stay, for `decode` to reject."""
    settings = dict(settings)
    transform = {name: settings.pop(name) for name in ("resize", "pad", "mean", "std") if name in settings}
    if transform:
        settings["transform"] = transform
    name = settings.get("augment")
    if isinstance(name, str):
        if name not in _OLD_AUGMENTATIONS:
            raise InputError(f"{path}: settings.augment must be one of {', '.join(_OLD_AUGMENTATIONS)}, not {name!r}")
        settings["augment"] = msgspec.to_builtins(_OLD_AUGMENTATIONS[name])
    for field in ("loss", "init", "schedule"):
        if isinstance(settings.get(field), str):
            settings[field] = None if settings[field] == "constant" else {"type": settings[field]}
    return settings


class Updates(msgspec.Struct, frozen=True):
    """How often each parameter was updated; Adam's bias correction and every schedule depend on it."""

    optimizer: str  # its MXNet class
    num_update: Count
    counts: dict[str, Count]  # by the parameter's structural name


class Generator(msgspec.Struct, frozen=True):
    """The state of a random number generator: its last seed."""

    generator: str
    seed: int | list[int]


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint holds besides tensors."""

    run: RunId | None = None  # `RunConfig.id`
    recipe: Text
    net: Text
    seed: Count
    decisions: dict[str, Any] | None = None  # `RunConfig.decisions`
    progress: Progress
    rng: dict[str, Generator]
    updates: Updates | None = None  # None without an optimizer's states
