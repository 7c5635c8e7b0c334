"""Bytes, JSON -> the same with a few errors, as made by an editor, a broken disk or a forger."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")

# Limits of the fields in file formats, and numbers with a special meaning there.
EDGES = [
    *(0, 1, 2, 3, 8, 16, 27, 28, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x10000),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1),
]


class Tape:
    """Bytes drawn by hypothesis -> the choices that make up a case; zeros and first choices when they are used up.

    Hypothesis takes 30 us for each value it draws, and a case needs about twenty. So it draws one tape for each case,
    and shrinks the tape if the case fails.
    """

    def __init__(self, data: bytes):
        self._data, self._at = data, 0

    def data(self, size: int) -> bytes:
        """The given number of bytes."""
        self._at += size
        return self._data[self._at - size : self._at].ljust(size, b"\0")

    def number(self, least: int, most: int) -> int:
        """A number, nearly uniform."""
        span = most - least + 1
        return least + int.from_bytes(self.data((span.bit_length() + 7) // 8), "big") % span

    def one(self, choices: Sequence[T]) -> T:
        """One of `choices`, nearly uniform."""
        return choices[self.number(0, len(choices) - 1)]

    def chance(self, of: int) -> bool:
        """True once in the given number of times; never if the tape is all zeros."""
        return self.number(0, of - 1) == of - 1

    def text(self) -> str:
        """Up to three characters from all of Unicode, half of them from its first 128."""
        return "".join(chr(self.one([self.number(0, 127), self.number(0, 0x10FFFF)])) for _ in range(self.number(0, 3)))


def cases(make: Callable[[Tape], T], size: int = 60) -> st.SearchStrategy[T]:
    """The results of `make` for tapes of a fixed length: drawing a length would take longer than the rest."""
    return st.binary(min_size=size, max_size=size).map(lambda data: make(Tape(data)))


def _overwrite(data, at, piece):
    return data[:at] + piece + data[at + len(piece) :]


def _insert(data, at, piece):
    return data[:at] + piece + data[at:]


def _delete(data, at, piece):
    return data[:at] + data[at + len(piece) :]


def _cut(data, at, piece):
    return data[:at]


def _append(data, at, piece):
    return data + piece


def _repeat(data, at, piece):
    return data[:at] + data[at : at + 64 * len(piece)] + data[at:]


_EDITS = [_overwrite, _overwrite, _overwrite, _insert, _delete, _cut, _append, _repeat]


def damage(tape: Tape, data: bytes) -> bytes:
    """One to three edits of the bytes, half of them in the first 64: where many formats have their header."""
    for _ in range(tape.number(1, 3)):
        edit = tape.one(_EDITS)
        at = tape.number(0, 63) if tape.chance(2) else tape.number(0, 0xFFFF)
        size = tape.one([1, 2, 4, 8])
        if tape.chance(2):
            piece = tape.data(size)
        else:
            piece = (tape.one(EDGES) % 256**size).to_bytes(size, tape.one(["big", "little"]))
        data = edit(data, at % (len(data) + 1), piece)
    return data


_DEEP = "[" * 100_000  # too deep for a recursive parser
# Valid, unusual and invalid JSON.
_TEXTS = [
    *("null", "true", "false", '""', '"a"', '"\\u0000"', '"\\ud800"', '"数"', '"\\n"', "[]", "{}", "[1]"),
    *('{"a": 1}', "[[[]]]", "0", "-0", "-0.0", "1", "-1", "5.0", "1.5", "0.5", "1e-400", "1e400", "-1e308"),
    *("NaN", "Infinity", "nan", "01", "+1", "2147483647", "2147483648", "9007199254740993"),
    *("18446744073709551616", "1" * 400, "1" * 5000, "1e5", "1E+2", "0x10", '"cpu(0)"', '["cpu(0)"]'),
    *('["cpu(1)", "gpu(999)"]', '"sgd"', '"adam"', '"' + "f" * 32 + '"', '"' + "g" * 32 + '"', _DEEP),
    *(_DEEP + "]" * 100_000, '{"a":' * 2000 + "1" + "}" * 2000, "'a'", "", "[1,]", "//", '"a', "\x00"),
    *("\ufeff1",),
]


def _value(tape: Tape) -> str:
    """JSON, sometimes invalid."""
    return tape.one(
        [
            tape.one(_TEXTS),
            tape.one(_TEXTS),
            tape.one(_TEXTS),
            str(tape.number(-(2**31), 2**33)),
            repr(struct.unpack("d", tape.data(8))[0]),
            json.dumps(tape.text()),
        ]
    )


_KINDS = ["value", "value", "value", "delete", "add", "rename", "twice"]


def damage_json(tape: Tape, value: dict) -> bytes:
    """The JSON of `value`, which is an object, with one to three fields changed, and sometimes damaged bytes."""
    value, texts = json.loads(json.dumps(value)), []
    for k in range(tape.number(1, 3)):
        parent, key = tape.one(list(_fields(value)) or [(value, "")])
        kind, text, mark = tape.one(_KINDS), _value(tape), f"@{k}@"
        if kind == "delete":
            parent.pop(key, None)
        elif kind == "rename":
            parent[tape.one(["", "a", f"{key}s", "值", "\n"])] = parent.pop(key, 0)
        elif kind == "twice":  # put first under the name `mark`, which is renamed in the text
            items = dict(parent)
            parent.clear()
            parent[mark] = mark
            parent.update(items)
            texts.append((json.dumps(mark) + ": ", json.dumps(key) + ": "))
            texts.append((json.dumps(mark), text))
        else:
            parent[key if kind == "value" else "new"] = mark
            texts.append((json.dumps(mark), text))
    data = json.dumps(value)
    for mark, text in texts:
        data = data.replace(mark, text, 1)
    data = data.encode("utf-8", "surrogatepass")
    return damage(tape, data) if tape.chance(10) else data


def _fields(value) -> Iterator[tuple[dict, str]]:
    """The fields of an object and of the objects within it: each as the object and the name."""
    for name, field in value.items():
        yield value, name
        if isinstance(field, dict):
            yield from _fields(field)


# --- the expected value -----------------------------------------------------------------------------------------------


class TwiceError(ValueError):
    """A JSON object with two fields of one name."""


def loads(data: bytes):
    """The value of the JSON, by Python's own parser; ValueError for invalid JSON, TwiceError for duplicate fields."""

    def once(pairs):
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise TwiceError(names)
        return dict(pairs)

    def no_constant(name):
        raise ValueError(name)

    return json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_constant=no_constant)


def same(raw, value) -> bool:
    """Whether the object matches the JSON: all fields are present, and no number became a bool."""
    if isinstance(raw, dict):
        return isinstance(value, dict) and all(name in value and same(raw[name], value[name]) for name in raw)
    if isinstance(raw, list):
        return isinstance(value, list) and len(raw) == len(value) and all(map(same, raw, value))
    if isinstance(value, float) and type(raw) in (int, float):
        return float(raw) == value
    return isinstance(raw, bool) == isinstance(value, bool) and raw == value
