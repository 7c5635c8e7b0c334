"""JSON and the type declared for it -> an object of that type, or one line that names file, field and value.

Everything read from a run's directory passes through `decode`; a field's type and range stand in its declaration.
"""

from __future__ import annotations

import json
import re
import types
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from gluon_lenet.errors import InputError

LARGEST_INT = 2**31 - 1  # MXNet passes it as a C int

Count = Annotated[int, Meta(ge=0, le=LARGEST_INT, description=f"an integer from 0 to {LARGEST_INT}")]
Natural = Annotated[int, Meta(ge=1, le=LARGEST_INT, description=f"an integer from 1 to {LARGEST_INT}")]
Pixels = Annotated[int, Meta(ge=0, le=1024, description="an integer from 0 to 1024")]
Number = Annotated[float, Meta(description="a finite number")]  # JSON has no NaN or infinity
Positive = Annotated[float, Meta(gt=0, description="a number above 0")]
NotNegative = Annotated[float, Meta(ge=0, description="a number of at least 0")]
Share = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
Text = Annotated[str, Meta(pattern=r"^[^\x00]*$", description="a text")]  # a path cannot contain a NUL
Device = Annotated[str, Meta(pattern=r"^(cpu|gpu)\(\d{1,3}\)$", description="a device: cpu(0), gpu(1)")]

T = TypeVar("T")


def decode(data: bytes, kind: type[T], where: str) -> T:
    """The object of type `kind` that the JSON in `data` describes.

    Raises:
        InputError: it is not JSON, or a field is missing, unknown, duplicated, of a wrong type or out of range; the
            line begins with `where`.
    """
    try:
        return _decode(data, kind, where)
    except RecursionError:
        raise InputError(f"{where} cannot be read: its JSON objects are nested too deeply") from None


def _decode(data, kind, where):
    twice = []

    def note_twice(pairs: list[tuple[str, Any]]) -> None:
        twice.extend(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)

    try:
        raw = msgspec.json.decode(data)
        json.loads(data, object_pairs_hook=note_twice)  # msgspec silently takes the last of two fields
    except ValueError as error:  # also UnicodeDecodeError
        raise InputError(f"{where} is not JSON: {error}") from None
    if twice:
        raise InputError(f"{where}: the field {twice[0]!r:.100} occurs twice; delete one")
    try:
        value = msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {_explain(error, raw, kind)}") from None
    for name in _unknown(raw, msgspec.to_builtins(value)):
        raise InputError(f"{where}: the field {name!r:.100} is unknown; was it written by a newer version?")
    return value


def _unknown(raw: dict, known: dict, prefix: str = "") -> Iterator[str]:
    """The names in `raw` that are not in `known`, including those in nested objects."""
    for name, value in raw.items():
        if name not in known:
            yield prefix + name
        elif isinstance(value, dict):
            yield from _unknown(value, known[name], f"{prefix}{name}.")


def _explain(error: msgspec.ValidationError, value: Any, kind: Any) -> str:
    """msgspec's message with the value: "seed must be an integer from 0 to 2147483647, not 'a'"."""
    problem, _, place = str(error).partition(" - at `$")
    place = place.strip("`.")
    if not place or "required field" in problem:
        return f"{problem[0].lower()}{problem[1:]}".replace("`", "") + (f" in {place}" if place else "")
    for name, index in re.findall(r"(\w+)|\[(\d+|\.\.\.)\]", place):
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        if name == "type":  # the tag of a union
            tags = [choice.__struct_config__.tag for choice in get_args(kind) if hasattr(choice, "__struct_config__")]
            return f"{place} must be one of {', '.join(tags)}, not {value[name]!r:.60}"
        if name:
            kind = next(choice for choice in _choices(kind) if name in get_type_hints(choice))
            kind, value = get_type_hints(kind, include_extras=True)[name], value[name]
        elif index == "...":  # a value of a dict; msgspec does not say which
            if not place.endswith("[...]"):
                return f"{problem[0].lower()}{problem[1:]} in {place}"
            return f"{place} must be {_describe(get_args(kind)[-1])}"
        else:
            kind, value = get_args(kind)[0], value[int(index)]
        if get_origin(kind) in (Union, types.UnionType) and len(get_args(kind)) == 2 and type(None) in get_args(kind):
            kind = get_args(kind)[0]
    return f"{place} must be {_describe(kind)}, not {value!r:.60}"


def _choices(kind: Any) -> tuple:
    """The types that a value may have."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _describe(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        return kind.__metadata__[0].description
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if len(_choices(kind)) > 1:
        return " or ".join(dict.fromkeys(map(_describe, _choices(kind))))
    names = {str: "a text", list: "a list", bool: "true or false"}
    return names.get(get_origin(kind) or kind, "an object")
