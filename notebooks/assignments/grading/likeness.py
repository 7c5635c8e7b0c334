"""Submissions -> pairs that are nearly the same, also if names, comments and spaces were changed."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from itertools import combinations

LIKE = 0.9  # the share of common pieces from which two submissions are nearly the same
PIECE, LETTERS = 6, 12  # tokens of code, letters of text in a piece
FEWEST = 60  # pieces that say anything
MANY = 10  # submissions that may have a piece by chance
# Like Python's own tokenizer, but an unclosed string is a token, too: so no text takes longer than its length (before
# Python 3.12, the module tokenize takes minutes for a line of backslashes and quotes).
_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
    | [rbuf]{0,2} (?P<quotes>\"{3}|'{3}) (?:\\.|(?!(?P=quotes)).)* (?P=quotes)?
    | [rbuf]{0,2} (?:"(?:\\.|[^"\\\n])*"? | '(?:\\.|[^'\\\n])*'?)
    | (?P<name>[^\W\d]\w*)
    | \d(?:[\w.]|(?<=e)[+-])*
    | -> | (?:\*\*|//|<<|>>|[-+*/%@&|^<>=!:])=? | [^\w\s]""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def pieces(cells: list[tuple[str, str]], known: frozenset = frozenset()) -> frozenset[int]:
    """What a submission consists of: overlapping pieces of its answers, as hashes.

    Args:
        cells: kind ("code" or "markdown") and source of each answer.
        known: pieces that everybody has, from the released notebook.
    """
    found = set()
    for kind, source in cells:
        items, size = (_tokens(source), PIECE) if kind == "code" else (re.sub(r"\W", "", source), LETTERS)
        found |= {hash(tuple(items[place : place + size])) for place in range(len(items) - size + 1)}
    return frozenset(found - known)


def _tokens(source: str) -> list[str]:
    """The tokens of code, each name by where it first came up, so that renaming changes nothing."""
    names: dict[str, str] = {}
    tokens = []
    for match in _TOKEN.finditer(source):
        name = match["name"]
        if name and not keyword.iskeyword(name):
            tokens.append(names.setdefault(name, f"name {len(names)}"))
        elif not match["comment"]:
            tokens.append(match[0])
    return tokens


def likeness(one: frozenset, other: frozenset) -> float:
    """The share of pieces that two submissions have in common, 0 to 1; 0 if one of them has too few to tell."""
    if min(len(one), len(other)) < FEWEST:
        return 0.0
    return len(one & other) / len(one | other)


def share(one: frozenset, other: frozenset) -> float:
    """The share of one's pieces that the other has, too, 0 to 1; 0 if there are too few to tell.

    Unlike `likeness`, this finds what was copied from a text that has more: short answers look alike by chance, so at
    least a third of the other's pieces must be there.
    """
    common = len(one & other)
    return common / len(one) if len(one) >= FEWEST and 3 * common >= len(other) else 0.0


def nearly_same(submissions: dict[str, frozenset]) -> list[tuple[str, str, float]]:
    """Pairs of students whose submissions are nearly the same, and how much.

    What many have written does not count: there is one right answer to some questions.
    """
    numbers = Counter(piece for pieces in submissions.values() for piece in pieces)
    many = max(MANY, len(submissions) // 10)
    submissions = {
        student: frozenset(piece for piece in pieces if numbers[piece] <= many)
        for student, pieces in submissions.items()
    }
    pairs = ((a, b, likeness(submissions[a], submissions[b])) for a, b in combinations(sorted(submissions), 2))
    return [pair for pair in pairs if pair[2] >= LIKE]
