"""Both READMEs and the pages of docs/: their cells run, their commands exist and are the same in both languages."""

import ast
import re
import subprocess
import sys

import pytest

from conftest import ROOT, module_env

READMES = ["README.md", "README.zh-CN.md"]
PAIRS = [READMES] + [
    [f"docs/{path.name}", f"docs/{path.stem}.zh-CN.md"]
    for path in sorted((ROOT / "docs").glob("*.md"))
    if path.with_name(f"{path.stem}.zh-CN.md").exists()
]
PAGES = [page for pair in PAIRS for page in pair]


def blocks(readme: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)


def commands(readme: str) -> list[str]:
    """The shell lines without their comments."""
    lines = "\n".join(blocks(readme, "sh")).replace("\\\n", " ").splitlines()
    return [" ".join(line.split("#")[0].split()) for line in lines if line.strip()]


def test_the_cells_run():
    """Those of both READMEs are the same but for comments."""
    (magic, cell, loop), others = (blocks(readme, "python") for readme in READMES)
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


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0])
def test_both_say_the_same_commands(pair):
    assert commands(pair[0]) == commands(pair[1])


def test_the_make_targets_exist():
    targets = {line.split()[1] for page in PAGES for line in commands(page) if line.startswith("make ")}
    makefile = (ROOT / "Makefile").read_text()
    assert {"train", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_options_the_readme_names_exist():
    from gluon_lenet import train

    for line in [line for page in PAGES for line in commands(page)]:
        if line.startswith("python -m gluon_lenet.train") and "--help" not in line:
            train.parse(line.split()[3:])


@pytest.mark.parametrize("page", PAGES)
def test_pictures_and_links_are_there(page):
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", (ROOT / page).read_text(encoding="utf-8")):
        if not target.startswith("http"):
            path = (ROOT / page).parent / target if target else ROOT / page
            assert path.exists(), target
            assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def anchors(path) -> set[str]:
    """Those that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
