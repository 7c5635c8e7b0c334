"""The package's rooms: each imports only from rooms above it, and its files stand in the map of `gluon_lenet`."""

import ast
import re
from itertools import chain

import pytest

import gluon_lenet
from conftest import ROOT

PACKAGE = ROOT / "gluon_lenet"
# In the order of the data; a file of the top level that others import stands where it belongs.
ROOMS = [
    "errors",
    "fields",
    "atomic",
    "machine",
    "compat",
    "devices",
    "data",
    "nets",
    "web",
    "viz",
    "engines",
    "training",
]
ROOMS += ["distributed", "sweeps", "inference"]
COMMANDS = {"train", "evaluate", "predict", "demo", "export", "params", "summary", "sweep", "launch"}
COMMANDS |= {"accelerate", "doctor", "libraries", "fused"}
BELOW = {"cli", "options", "console", "checkup"}  # what commands share
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def imported(path):
    """The modules of the package that a file imports, at its top or within a function."""
    for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gluon_lenet":
            parts = node.module.split(".")[1:]
            yield from [parts[0]] if parts else [alias.name for alias in node.names]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_imports_from_rooms_above_only(path):
    room = path.parts[0].removesuffix(".py")
    allowed = set(ROOMS[: ROOMS.index(room) + 1] if room in ROOMS else chain(ROOMS, BELOW))
    if path.name == "__main__.py":  # a room's command line
        allowed |= {"cli", "console"}
    wrong = set(imported(path)) - allowed - {"__version__"}
    assert not wrong, f"{path} imports {', '.join(sorted(wrong))}"


def test_every_room_and_file_stands_in_the_map():
    known = {path.parts[0].removesuffix(".py") for path in FILES} - {"__main__"}
    assert known == {*ROOMS, *COMMANDS, *BELOW}
    for path in FILES:
        if path.name != "__main__.py":
            assert re.search(rf"\b{path.stem}\b", gluon_lenet.__doc__), f"{path} is missing in gluon_lenet.__doc__"


def test_no_function_has_more_than_seven_parameters_without_a_reason():
    """The reason is a comment on the line of `def`, or the book's own signature."""
    known = {"train_ch5", "Animator.__init__"}  # the book's; the d2l course's
    for path in [*FILES, *(p.relative_to(PACKAGE) for p in PACKAGE.rglob("__init__.py"))]:
        text = (PACKAGE / path).read_text(encoding="utf-8")
        tree = ast.parse(text)
        for node in ast.walk(tree):
            for child in ast.iter_child_nodes(node):
                if not isinstance(child, ast.FunctionDef):
                    continue
                args = [a.arg for a in child.args.posonlyargs + child.args.args + child.args.kwonlyargs]
                name = f"{node.name}.{child.name}" if isinstance(node, ast.ClassDef) else child.name
                number = len([arg for arg in args if arg not in ("self", "cls")])
                assert number <= 7 or name in known, f"{path}: {name} has {number} parameters"


def test_no_file_is_longer_than_500_lines():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 500, path
