"""Trained nets -> the page, one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from mxnet.gluon import nn

from gluon_lenet import __version__
from gluon_lenet.data.catalogue import DATASETS, DatasetEntry, get_entry
from gluon_lenet.data.transforms import Transform
from gluon_lenet.errors import InputError, printable
from gluon_lenet.web import samples, sources
from gluon_lenet.web.describe import describe_net
from gluon_lenet.web.samples import SIDE, sample_images


@dataclass(frozen=True)
class Shown:
    """A trained net for the page, and what the page says of it."""

    net: nn.Sequential | nn.HybridSequential  # initialized
    name: str  # of the net, as in nets.zoo.NETS
    recipe: str
    transform: Transform
    entry: DatasetEntry
    label: str = ""  # tells two runs of one net apart: the run's folder

    def describe(self) -> dict:
        """The net for the page's script.

        Raises:
            InputError: the page cannot compute it.
        """
        shape, entry = self.transform.image_shape(np.zeros((1, SIDE, SIDE), np.uint8)), self.entry
        try:
            described = describe_net(self.net, shape)
            outputs, classes = described["layers"][-1]["out"], len(entry.classes)
            if outputs != [classes, 1, 1]:
                raise InputError(f"its outputs have the shape {outputs}, and {entry.name} has {classes} classes")
        except InputError as error:
            raise InputError(f"{self.label or self.recipe}: {self.name}: {error}") from None
        return {
            **{"net": self.name, "recipe": self.recipe, "label": [self.label] if self.label else []},
            **{"transform": asdict(self.transform), "form": entry.form},
            **{"data": _title(entry), "names": _names(entry)},
            **described,
        }


def page(nets: Sequence[Shown]) -> str:
    """The page that shows the nets; the first is open at the start.

    Raises:
        InputError: the page cannot compute one of the nets.
    """
    data = {"nets": [net.describe() for net in nets], "samples": _samples(), "texts": sources.texts()}
    script, style = sources.script("page"), sources.style()
    policy = "; ".join(
        [
            *("default-src 'none'", "img-src data: blob:", "base-uri 'none'", "form-action 'none'"),
            *(f"script-src 'sha256-{_digest(script)}'", f"style-src 'sha256-{_digest(style)}'"),
        ]
    )
    html = (sources.CLIENT / "page.html").read_text(encoding="utf-8")
    parts = {"policy": policy, "version": __version__, "style": style, "script": script, "data": _json(data)}
    before, *rest = html.split("{{")
    pieces = [before]
    for piece in rest:
        name, after = piece.split("}}", 1)
        pieces += [parts[name], after]
    return "".join(pieces)


def _samples() -> list[dict]:
    """The test images in the page: of each data set one of each class."""
    return [
        {
            **{"title": _title(entry), "form": entry.form, "names": _names(entry)},
            "images": base64.b64encode(sample_images(entry.name).tobytes()).decode(),
            "labels": list(range(len(entry.classes))),
        }
        for entry in map(get_entry, samples.DATASETS)
    ]


def _title(entry: DatasetEntry) -> str:
    """Of a user's folder its name alone: the page may be given to others."""
    if entry.name not in DATASETS:
        return printable(Path(entry.name).name)
    return entry.title.split(" (")[0]


def _names(entry: DatasetEntry) -> dict[str, tuple[str, ...]]:
    return {"en": entry.classes, "zh": entry.classes_zh}


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(data: dict) -> str:
    """JSON for a script element, which any `</script>` in a name would end."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
