"""Submissions -> pairs that are nearly the same, also if names, comments and spaces were changed."""

from __future__ import annotations

import io
import keyword
import re
import token
import tokenize
from collections import Counter
from itertools import combinations

LIKE = 0.9  # the share of common pieces from which two submissions are nearly the same
PIECE, LETTERS = 6, 12  # tokens of code, letters of text in a piece
FEWEST = 60  # pieces that say anything
MANY = 10  # submissions that may have a piece by chance
_SKIPPED = (token.NEWLINE, tokenize.NL, token.INDENT, token.DEDENT, tokenize.COMMENT, token.ENDMARKER)


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
    try:
        for item in tokenize.generate_tokens(io.StringIO(source).readline):
            if item.type == token.NAME and not keyword.iskeyword(item.string):
                tokens.append(names.setdefault(item.string, f"name {len(names)}"))
            elif item.type not in _SKIPPED:
                tokens.append(item.string)
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        pass  # what came before the mistake
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
