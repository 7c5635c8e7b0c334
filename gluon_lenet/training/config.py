"""config.json and the headers of checkpoints <-> typed objects: a run's settings, and which checkpoints are its own.

Formats of config.json:

1  has neither version nor id, and its checkpoints do not say which run they belong to
2  has a recipe's transform, augmentation, loss, initializer and schedule as numbers and names
3  has them as objects

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
from gluon_lenet.errors import InputError
from gluon_lenet.fields import Count, Device, Text, decode
from gluon_lenet.training.metrics import Progress
from gluon_lenet.training.recipes import Recipe

VERSION = 3
# What may differ between two versions of the package, or from one `--resume` to the next, in one and the same run.
_NO_DECISION = {"source", "published", "num_epochs"}

Threads = Annotated[int, Meta(ge=1, le=MOST_THREADS, description=f"a number of threads from 1 to {MOST_THREADS}")]
RunId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$", description="32 hexadecimal digits")]


def new_id() -> RunId:
    """The name of a run that no other has."""
    return secrets.token_hex(16)


class RunConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything needed to repeat a run: config.json."""

    version: Count = 1
    id: RunId | None = None  # drawn when the run begins; its checkpoints bear it; None in format 1
    recipe: Text  # its name
    settings: Recipe
    seed: Count
    ctx: Annotated[list[Device], Meta(min_length=1, description="a list of devices")]
    threads: Threads
    backprop: Literal["autograd", "fused"]
    data_dir: Text | None
    data_sha256: dict[str, str] = {}  # of the four files, by their names
    versions: dict[str, str] = {}
    platform: str = ""
    command: list[str] = []
    started: str = ""

    @classmethod
    def from_json(cls, data: bytes, path: object) -> RunConfig:
        """What `to_json` made, or a version before it.

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
        return decode(data, cls, str(path))

    def to_json(self) -> bytes:
        """The file's bytes, indented for readers."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def with_epochs(self, num_epochs: int) -> RunConfig:
        """The same run, to be trained to the end of another epoch."""
        return msgspec.structs.replace(self, settings=replace(self.settings, num_epochs=num_epochs))

    @property
    def decisions(self) -> dict[str, Any]:
        """What decides the weights after so many batches: a run with another value in one of these has others.

        The number of epochs is not among them: a run may go on to a later one, though a cosine schedule follows it.
        """
        settings = msgspec.to_builtins(self.settings)
        settings = {name: value for name, value in settings.items() if name not in _NO_DECISION}
        others = ("seed", "ctx", "threads", "backprop", "data_sha256")
        return settings | {name: getattr(self, name) for name in others}

    def check_resumable(self, path: object) -> None:
        """Raise InputError, with the `path` of the file, if the run is of a version that did not mark checkpoints."""
        if self.version < VERSION:
            raise InputError(
                f"{path} is of an older version of gluon_lenet (format {self.version}): the run can be evaluated, but "
                "not resumed"
            )

    def check_owns(self, path: object, header: Header) -> None:
        """Raise InputError unless the checkpoint in `path`, with this header, was written by this run as it is set."""
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
    """A recipe's settings as in formats 1 and 2 -> as they are today; what is neither stays, for `decode` to refuse."""
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
    """How often each parameter was updated: Adam's bias correction and every schedule go by it."""

    optimizer: str  # its class in MXNet
    num_update: Count
    counts: dict[str, Count]  # by the parameter's place in the net


class Generator(msgspec.Struct, frozen=True):
    """Where a generator of random numbers stands: what it was seeded with last."""

    generator: str
    seed: int | list[int]


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint holds beside tensors."""

    run: RunId | None = None  # `RunConfig.id`
    recipe: Text
    net: Text
    seed: Count
    decisions: dict[str, Any] | None = None  # `RunConfig.decisions`
    progress: Progress
    rng: dict[str, Generator]
    updates: Updates | None = None  # of weights without an optimizer's states
