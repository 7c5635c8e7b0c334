"""config.json and the headers of checkpoints <-> typed objects: a run's settings, and which checkpoints are its own.

Formats of config.json: 1 has neither version nor id; its checkpoints do not tell which run they belong to, so that such
a run can be evaluated but not resumed. 2 is today's.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gluon_lenet.compat import MOST_THREADS
from gluon_lenet.errors import InputError
from gluon_lenet.fields import Count, Device, Text, decode
from gluon_lenet.metrics import Progress
from gluon_lenet.recipes import Recipe

VERSION = 2
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
        version = decode(data, dict[str, Any], str(path)).get("version", 1)
        if isinstance(version, int) and version > VERSION:
            raise InputError(f"{path}: format {version} is of a newer version of gluon_lenet; this one reads {VERSION}")
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
        settings = {name: value for name, value in asdict(self.settings).items() if name not in _NO_DECISION}
        others = ("seed", "ctx", "threads", "backprop", "data_sha256")
        return settings | {name: getattr(self, name) for name in others}

    def check_resumable(self, path: object) -> None:
        """Raise InputError, with the `path` of the file, if the run is of a version that did not mark checkpoints."""
        if self.id is None:
            raise InputError(
                f"{path} is of an older version of gluon_lenet, whose checkpoints do not tell their run: it can be "
                "evaluated, but not resumed"
            )

    def check_owns(self, path: object, header: Header) -> None:
        """Raise InputError unless the checkpoint in `path`, with this header, was written by this run as it is set."""
        if header.run != self.id:
            raise InputError(f"{path} belongs to another run than the config.json beside it")
        was = {"net": header.net, "seed": header.seed} if header.decisions is None else header.decisions
        for name, value in self.decisions.items():
            if name in was and was[name] != value:
                raise InputError(f"{path} was trained with {name} {was[name]!r:.60}, the run's is {value!r}")


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
