"""A test cell of the source notebook and a student's session -> points, and lines that explain them.

The cell's hidden part runs here, in a process of ours. From the student it gets plain values only, through `student`.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
from dataclasses import dataclass, field

import numpy as np

from gluon_lenet.data.datasets import load_dataset
from grading import reference
from grading.session import Session, SessionEnded, StudentError, StudentLate, plain_text

HIDDEN = re.compile(r"^### BEGIN HIDDEN TESTS\n(.*?)^### END HIDDEN TESTS$", re.MULTILINE | re.DOTALL)


@dataclass
class Score:
    """The points of a test cell, and a line for each of its parts."""

    points: float
    most: float
    lines: list[str] = field(default_factory=list)


def hidden_part(source: str) -> str:
    """The hidden tests of a cell."""
    match = HIDDEN.search(source)
    if match is None:
        raise ValueError("the test has no hidden part")
    return match[1]


def score(source: str, most: float, student: Session) -> Score:
    """Run the hidden tests of a cell.

    Args:
        source: of the cell, as in the source notebook.
        most: the cell's points.
        student: answers with plain values.
    """
    card, printed = _Card(most), io.StringIO()
    names = {"__name__": "hidden", "np": np, "reference": reference, "student": student, "points": card.part}
    names |= {helper.__name__: helper for helper in (same, number, array, close, gap, distance, test_set)}
    try:
        with contextlib.redirect_stdout(printed), np.errstate(all="ignore"):
            exec(compile(hidden_part(source), "hidden tests", "exec", optimize=0), names)  # 0: with its assertions
    except (AssertionError, StudentError) as error:
        card.lines.append(f"✗ {_reason(error)}")
    except Exception as error:  # what the student's code returned is not what the tests can work with
        card.lines.append(f"✗ 结果的类型或形状不对（{_reason(error)}）")
    told = [line for line in printed.getvalue().splitlines() if line.strip()]
    return Score(min(card.earned, most), most, card.lines + told)


class _Card:
    """Adds up the parts of a test."""

    def __init__(self, most: float):
        self.most, self.earned, self.lines = most, 0.0, []

    @contextlib.contextmanager
    def part(self, points: float, name: str):
        """A part of a test: whatever goes wrong in it costs its points, and no others."""
        try:
            yield
        except (SessionEnded, StudentLate) as error:
            self.lines.append(f"✗ {name}（0/{points:g} 分）")
            raise error from None
        except (AssertionError, StudentError) as error:
            self.lines.append(f"✗ {name}（0/{points:g} 分）：{_reason(error)}")
        except Exception as error:
            self.lines.append(f"✗ {name}（0/{points:g} 分）：结果的类型或形状不对（{_reason(error)}）")
        else:
            self.earned += points
            self.lines.append(f"✓ {name}（{points:g} 分）")


def _reason(error: Exception) -> str:
    return " ".join(plain_text(str(error), 600).split()) or type(error).__name__


# What the hidden tests call besides `student` and `points`


def same(value: object, want: object) -> bool:
    """Whether a plain value is the wanted integer or tuple of integers, and of the same type."""
    if type(want) is tuple:
        return type(value) is tuple and len(value) == len(want) and all(map(same, value, want))
    return type(value) is type(want) and value == want


def number(value: object) -> float:
    """A plain number, or the only one of an array, as a float; raises AssertionError."""
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:  # np.generic: an element of an array
        value = value.reshape(-1)[0].item()
    if type(value) not in (int, float):
        raise AssertionError(f"应该是一个数，不是 {_kind(value)}")
    return float(value)


def array(value: object) -> np.ndarray:
    """An array, also from lists of numbers; raises AssertionError."""
    if type(value) in (list, tuple):
        try:
            value = np.array(value)
        except ValueError:
            raise AssertionError("应该是一个数组，不是长短不一的列表") from None
    if type(value) is not np.ndarray or value.dtype.kind not in "biuf":
        raise AssertionError(f"应该是一个数组，不是 {_kind(value)}")
    return value


def close(value: np.ndarray, want: np.ndarray, tolerance: float) -> bool:
    """Whether the shapes are equal and no element is further off than `tolerance`; NaN is never close."""
    value, want = np.asarray(value, np.float64), np.asarray(want, np.float64)
    return value.shape == want.shape and bool((abs(value - want) <= tolerance).all())


def gap(value: np.ndarray, want: np.ndarray) -> str:
    """The largest difference, to be read."""
    if value.shape != want.shape:
        return "无法比较（形状不同）"
    return f"{np.max(abs(np.asarray(value, np.float64) - want), initial=0):.3g}"


def distance(params, want, other) -> float:
    """How far parameters are from `want`, relative to how far `want` is from `other`; infinite for other shapes."""
    params = [array(values) for values in params]
    if [values.shape for values in params] != [np.shape(values) for values in want]:
        return float("inf")
    off, scale = (
        np.sqrt(sum(((np.asarray(a, np.float64) - b) ** 2).sum() for a, b in zip(one, two, strict=True)))
        for one, two in ((params, want), (want, other))
    )
    return float(off / scale) if np.isfinite(off) else float("inf")


def test_set() -> tuple[np.ndarray, np.ndarray]:
    """The test images, uint8 (10000, 28, 28), and their labels, which no student's process holds."""
    data = load_dataset("fashion_mnist")
    return data.test_images, data.test_labels


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__


def checked(source: str) -> None:
    """Raise ValueError if a test cell has no hidden part, or one that is no Python."""
    try:
        ast.parse(hidden_part(source))
    except SyntaxError as error:
        raise ValueError(f"the hidden part is no Python: {error}") from None
