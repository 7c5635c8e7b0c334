"""A recipe's name -> its trained weights, as they come with the package, and the card that describes them.

`gluon_lenet/pretrained/` holds three files for a recipe, written by `make reproduce`: RECIPE.safetensors, the weights
by structural name ("0.weight"); RECIPE.json, the card; RECIPE.md, the card for people. Weights are read from there,
without a network, and only if their SHA-256 is that of the card; safetensors holds numbers and no code.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from mxnet.gluon import Block
from safetensors import numpy as safetensors

from gluon_lenet.atomic import read_regular, write_atomically
from gluon_lenet.data.catalogue import get_entry
from gluon_lenet.errors import InputError
from gluon_lenet.fields import Count, Natural, Text, decode
from gluon_lenet.nets.weights import check_fit, check_numbers, parameters, set_weights

FOLDER = Path(__file__).resolve().parents[1] / "pretrained"
_LARGEST = 2**24  # bytes of a file

# What `get_net(NET, pretrained=True)` loads where several recipes train a net: the one of the net's own source.
DEFAULTS = {
    "lenet5_sigmoid_maxpool": "d2l_v1_fashion",
    "lenet5_sigmoid_avgpool": "d2l_v2_fashion",
    "lenet5_relu_maxpool": "relu_adam_mnist",
    "lenet5_relu_maxpool_wide": "better_fashion",
    "lenet5_relu_maxpool_wide_c5": "best_fashion",
    "lenet5_relu_maxpool_deep": "best_mnist",
    "lenet5_sigmoid_avgpool_c5": "sgd_step_mnist",
    "lenet5_tanh_avgpool": "tanh_adam_mnist",
    "lenet5_1998": "lecun1998_mnist",
}


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a recipe's weights."""

    recipe: Text
    net: Text
    dataset: Text
    seed: Count
    epoch: Natural  # after which the weights were kept
    num_correct: Count  # test images
    num_examples: Natural  # of the test set
    command: Text  # that trained them
    settings: dict[str, Any]  # the recipe, as in config.json
    data_sha256: dict[str, str]
    versions: dict[str, str]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="64 hexadecimal digits")]  # of the weights' file

    @property
    def accuracy(self) -> float:
        """The fraction of test images predicted correctly."""
        return self.num_correct / self.num_examples

    def to_json(self) -> bytes:
        """The file's bytes, indented."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def to_markdown(self) -> str:
        """The card for people."""
        data = get_entry(self.dataset)
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"""# {self.recipe}

Weights of `{self.net}`, trained by the recipe `{self.recipe}`; written by `make reproduce`.

| | |
|---|---|
| source | {self.settings["source"]} |
| data | {data.title}, {data.home} |
| test accuracy | {self.accuracy:.4f}, {self.num_correct:,} of {self.num_examples:,} images |
| seed | {self.seed}, the first of those that `make reproduce` measures; it was not selected by its result |
| weights | float32, of epoch {self.epoch} |
| command | `{self.command}` |
| versions | {versions} |
| SHA-256 | `{self.sha256}` |
| licence | of the weights: Apache-2.0, as the package; of the data: {data.licence} |

Use: `get_net("{self.net}", pretrained="{self.recipe}")`, or `--run pretrained:{self.recipe}`.

Limits: the net knows the {len(data.classes)} classes of {self.dataset} and nothing else: it gives every picture one of
them, often with a high probability, whatever the picture shows. The accuracy is that of the data set's own test images;
on pictures from elsewhere it may be much lower, and was not measured. It is made for learning and teaching.
"""


def recipes() -> list[str]:
    """The recipes that have weights in the package."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_card(recipe: str) -> Card:
    """The card of a recipe's weights.

    Raises:
        InputError: the package has no weights of that recipe (the message lists those it has), or the card is damaged.
    """
    if recipe not in recipes():
        raise InputError(f"there are no pretrained weights {recipe!r}; choose from {', '.join(recipes())}")
    path = FOLDER / f"{recipe}.json"
    return decode(read_regular(path, _LARGEST), Card, str(path))


def find(net: str, recipe: str | bool) -> Card:
    """The card of weights for the net called `net`.

    Args:
        net: a name in `zoo.NETS`.
        recipe: one that trains this net; True is the one of DEFAULTS, or the only one.

    Raises:
        InputError: there are none, or none of that recipe for this net; the message lists those there are.
    """
    cards = {card.recipe: card for card in map(read_card, recipes()) if card.net == net}
    if not cards:
        raise InputError(f"there are no pretrained weights for the net {net!r}; there are of {', '.join(recipes())}")
    if recipe is True:
        recipe = DEFAULTS.get(net) or (next(iter(cards)) if len(cards) == 1 else True)
    if recipe not in cards:
        raise InputError(
            f"there are no pretrained weights {recipe!r} for the net {net!r}; choose from {', '.join(cards)}"
        )
    return cards[recipe]


def load(card: Card, net: Block) -> None:
    """Load the weights of a card into its net, initialized, whose shapes are known.

    Raises:
        InputError: the file was changed, or is another net's.
    """
    path = FOLDER / f"{card.recipe}.safetensors"
    data = read_regular(path, _LARGEST)
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise InputError(
            f"{path} is damaged: its SHA-256 is not the one in {card.recipe}.json; install the package again"
        )
    weights = safetensors.load(data)
    check_fit(path, weights, parameters(net))
    check_numbers(path, weights)
    set_weights(net, weights)


def save(card: Card, weights: dict[str, np.ndarray]) -> None:
    """Write the three files of a recipe; the card's SHA-256 is set here. For `make reproduce`."""
    data = safetensors.save(dict(sorted(weights.items())))
    card = msgspec.structs.replace(card, sha256=hashlib.sha256(data).hexdigest())
    FOLDER.mkdir(exist_ok=True)
    write_atomically(FOLDER / f"{card.recipe}.safetensors", data)
    write_atomically(FOLDER / f"{card.recipe}.json", card.to_json())
    write_atomically(FOLDER / f"{card.recipe}.md", card.to_markdown().encode())
