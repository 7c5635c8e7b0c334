"""The reference in docs/ names every public name, in both languages; `make docs` builds it and checks its links."""

import re

import pytest

import gluon_lenet
from conftest import ROOT

PATTERNS = {"reference.md": r"^\.\. [\w:]+:: gluon_lenet\.(\w+)$", "reference.zh-CN.md": r"`(\w+)(?:\([^`]*\))?`"}


@pytest.mark.parametrize("page", sorted(PATTERNS))
def test_the_reference_is_complete(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    named = set(re.findall(PATTERNS[page], text, re.MULTILINE))
    assert set(gluon_lenet.__all__) <= named
    assert "viz.DrawingPad" in text


def test_the_english_reference_names_nothing_else():
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert set(re.findall(PATTERNS["reference.md"], text, re.MULTILINE)) == set(gluon_lenet.__all__)
