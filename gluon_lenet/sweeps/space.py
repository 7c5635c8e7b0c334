"""`lr=0.1,0.3`, or a file that says the same in JSON -> the trials of a sweep."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from gluon_lenet.atomic import read_regular
from gluon_lenet.data.catalogue import get_entry
from gluon_lenet.errors import InputError
from gluon_lenet.fields import Count, Natural, Text, decode
from gluon_lenet.sweeps.trials import Trial
from gluon_lenet.training.config import Threads
from gluon_lenet.training.recipes import DEFAULT_RECIPE, VARIANT, Recipe, get_recipe
from gluon_lenet.training.settings import Variant

_LARGEST = 2**20  # bytes of a file
_MOST = 100_000  # trials
_WIDEST = 1e100  # of a range's bounds, and of their reciprocals if it is logarithmic: no step to infinity
_NET = "net."  # before the arguments of lenet_variant
_BY_NAME = ("init", "loss", "schedule")  # settings that are objects; their "type" alone will do


Bound = Annotated[int | float, Meta(description="a finite number")]


class Range(msgspec.Struct, frozen=True, tag_field="draw", tag="uniform"):
    """Numbers between two bounds, for random samples; whole numbers if both bounds are written without a point."""

    low: Bound
    high: Bound

    def draw(self, generator: np.random.Generator) -> float | int:
        """One number."""
        share = generator.uniform()
        if isinstance(self.low, int) and isinstance(self.high, int):  # a whole number has all up to the next one
            return min(self.high, math.floor(self._between(share, self.high + 1)))
        return self._between(share, self.high)

    def _between(self, share: float, high: float) -> float:
        return self.low + share * (high - self.low)


class LogRange(Range, frozen=True, tag="log"):
    """The same, with uniformly distributed logarithms; the bounds must be above 0."""

    def _between(self, share: float, high: float) -> float:
        return self.low * (high / self.low) ** share


Choices = Annotated[list[Any], Meta(min_length=1, description="a list of at least one value")]


class Space(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep varies: a grid of values, or a random sample of it, times seeds."""

    recipe: Text = DEFAULT_RECIPE
    set: dict[str, Choices | Range | LogRange] = {}  # by the name of a recipe's setting, "lr", "net.activation"
    seeds: Natural = 1  # 0, 1, ... of each combination
    sample: Natural | None = None  # how many combinations to draw; None takes the whole grid
    sample_seed: Count = 0
    threads: Threads = 1
    ctx: Text = "cpu"
    backprop: Literal["auto", "autograd", "fused"] = "auto"
    data_dir: Text | None = None

    @classmethod
    def from_file(cls, path: str) -> Space:
        """The space that a JSON file describes; raises InputError if it does not."""
        return decode(read_regular(path, _LARGEST), cls, path)

    def trials(self) -> list[Trial]:
        """All trainings, each once, those that differ only in the seed one after the other.

        Raises:
            InputError: a setting does not exist or cannot have a value, or there are too many combinations.
        """
        recipe = get_recipe(self.recipe)
        made = [(changes, _changed(recipe, changes)) for changes in self._combinations()]
        others = {"threads": self.threads, "ctx": self.ctx, "backprop": self.backprop, "data_dir": self.data_dir}
        trials = (
            Trial(name=self.recipe, recipe=settings, changes=changes, seed=seed, **others)
            for changes, settings in made
            for seed in range(self.seeds)
        )
        found = {}
        for trial in trials:  # a value may stand in a list twice, or be drawn twice: that is no second run
            found.setdefault(trial.key, trial)
        return list(found.values())

    def _combinations(self) -> Iterator[dict[str, Any]]:
        for name, values in self.set.items():
            _check(name, values, self.sample is not None)
        count = self.sample or math.prod(map(len, self.set.values()))
        if (count := count * self.seeds) > _MOST:
            what, how = ("sample", "draw fewer") if self.sample else ("grid", "draw some by --sample")
            raise InputError(f"the {what} has {count:,} trainings; at most {_MOST:,} are possible: {how}")
        if self.sample is not None:
            generator = np.random.default_rng(self.sample_seed)
            for _ in range(self.sample):
                yield {name: _draw(values, generator) for name, values in self.set.items()}
            return
        for values in itertools.product(*self.set.values()):
            yield dict(zip(self.set, values, strict=True))


def parse_sets(texts: Iterable[str]) -> dict[str, list | Range]:
    """Names and values by `parse_set`; raises InputError also if a name occurs twice."""
    found = {}
    for name, values in map(parse_set, texts):
        if name in found:
            raise InputError(f"--set {name} is given twice; name all its values in one, separated by commas")
        found[name] = values
    return found


def parse_set(text: str) -> tuple[str, list | Range]:
    """`lr=0.1,0.3`, `net.channels=[6,16],[12,32]`, `lr=log(0.01,1)` -> the name and its values.

    Raises:
        InputError: it has another form.
    """
    name, equals, values = text.partition("=")
    if not (name and equals and values):
        raise InputError(f"--set {text}: must be NAME=VALUE,VALUE,... or NAME=log(LOW,HIGH) or NAME=uniform(LOW,HIGH)")
    if match := re.fullmatch(r"(log|uniform)\((.*),(.*)\)", values):
        raw = {"draw": match[1], "low": _value(match[2]), "high": _value(match[3])}
        return name, decode(msgspec.json.encode(raw), Range | LogRange, f"--set {text}")
    return name, [_value(part) for part in re.split(r",(?![^\[{]*[\]}])", values)]  # not at commas within brackets


def _value(text: str) -> Any:
    """A JSON value; any other text stands for itself, also NaN."""
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return text


def _check(name: str, values, is_sample: bool) -> None:
    if isinstance(values, Range):
        if not is_sample:
            raise InputError(f"{name} has a range, of which a grid is made by no number: draw some by --sample N")
        if values.low >= values.high or (isinstance(values, LogRange) and values.low <= 0):
            raise InputError(f"{name}: a range must go from a number to a larger one, by logarithms both above 0")
        least = 1 / _WIDEST if isinstance(values, LogRange) else -_WIDEST
        if values.low < least or values.high > _WIDEST:
            raise InputError(f"{name}: a range must lie between {least:g} and {_WIDEST:g}")


def _draw(values, generator: np.random.Generator) -> Any:
    return values.draw(generator) if isinstance(values, Range) else values[generator.integers(len(values))]


def _changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with other settings."""
    raw = msgspec.json.decode(msgspec.json.encode(asdict(recipe)))
    known = [field.name for field in fields(Recipe) if field.name not in ("source", "published", "variant")]
    known += [_NET + name for name in Variant.__struct_fields__]
    inner_ones = [name for name in changes if name.startswith(_NET)]
    if inner_ones and changes.get("net", VARIANT) != VARIANT:
        raise InputError(f"net={changes['net']} has no {inner_ones[0]}, which is an argument of {VARIANT}; drop one")
    for name, value in sorted(changes.items(), key=lambda item: "." in item[0]):  # schedule before schedule.factor
        outer, _, inner = name.partition(".")
        if (name if outer == "net" else outer) not in known:
            raise InputError(f"unknown setting {name!r}; choose from {', '.join(known)}")
        if name.startswith(_NET):
            raw["net"] = VARIANT
            raw["variant"] = {**(raw["variant"] or {}), inner: value}
        elif inner:
            raw[outer] = {**(raw[outer] if isinstance(raw[outer], dict) else {}), inner: value}
        elif outer in _BY_NAME and isinstance(value, str):
            raw[outer] = {"type": value}
        elif outer == "augment" and value is True:
            raw[outer] = msgspec.to_builtins(get_entry(recipe.dataset).augmentation)
        else:
            raw[outer] = value
    said = ", ".join(f"{name}={value}" for name, value in changes.items())
    changed = decode(msgspec.json.encode(raw), Recipe, f"the setting {said:.200}" if said else "the recipe")
    get_entry(changed.dataset)  # raises InputError if there is none
    return changed
