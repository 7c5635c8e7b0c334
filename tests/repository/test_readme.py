"""Both READMEs: their Python cells run, their commands exist and are the same in both."""

import ast
import re
import subprocess
import sys

import pytest

from conftest import ROOT, module_env

READMES = ["README.md", "README.zh-CN.md"]


def blocks(readme: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)


def commands(readme: str) -> list[str]:
    """The shell lines without their comments."""
    lines = "\n".join(blocks(readme, "sh")).replace("\\\n", " ").splitlines()
    return [" ".join(line.split("#")[0].split()) for line in lines if line.strip()]


def test_the_cells_run():
    """Those of both READMEs are the same but for comments. The last one, on ONNX, is run by test_export.py."""
    (magic, cell, loop, _), others = (blocks(readme, "python") for readme in READMES)
    assert magic == others[0] == "%load_ext gluon_lenet\n"
    for one, other in zip(blocks(READMES[0], "python")[1:], others[1:], strict=True):
        assert ast.dump(ast.parse(one)) == ast.dump(ast.parse(other))
    assert "0.9, 5, d2l.try_gpu()" in cell
    cell = cell.replace("0.9, 5, d2l.try_gpu()", "0.9, 1, d2l.try_gpu()")  # one epoch is enough here
    done = subprocess.run(
        [sys.executable, "-c", cell + loop], capture_output=True, text=True, env=module_env(), timeout=170
    )
    assert done.returncode == 0, done.stderr
    printed = r"training on .pu\(0\)\nepoch 1, loss 2\.\d+, .* sec\n.* is computed by the fused kernels, .*\n.*\n"
    assert re.fullmatch(printed, done.stdout)


def test_both_say_the_same_commands():
    assert commands(READMES[0]) == commands(READMES[1])


def test_the_make_targets_exist():
    targets = {line.split()[1] for line in commands(READMES[0]) if line.startswith("make ")}
    makefile = (ROOT / "Makefile").read_text()
    assert {"train", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_options_the_readme_names_exist():
    from gluon_lenet import train

    for line in commands(READMES[0]):
        if line.startswith("python -m gluon_lenet.train") and "--help" not in line:
            train.parse(line.split()[3:])


@pytest.mark.parametrize("readme", READMES)
def test_pictures_and_links_are_there(readme):
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / readme).read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
