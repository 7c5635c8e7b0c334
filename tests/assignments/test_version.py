"""SEED -> a version: the same on every machine, its numbers right, its student version without an answer."""

import re

import nbformat
import pytest

from authoring import course
from authoring.notebook import source_notebook
from authoring.version import EXPERIMENTS, OPTIMIZERS, QUESTIONS, make_version
from conftest import fails_as_bad_input
from gluon_lenet.nets.zoo import NETS
from grading.scoring import checked, hidden_part
from planted import BY_HAND, SEED, TESTS, cell_of, settings

SOLUTION = re.compile(r"[^\n]*BEGIN SOLUTION[^\n]*\n(.*?)\n[^\n]*END SOLUTION", re.DOTALL)
VERSIONS = [make_version(seed) for seed in range(200)]


def test_a_seed_decides_alone():
    version = make_version(SEED)
    assert version == make_version(SEED)
    assert version.shapes == {
        "conv1": (7, 20, 20),
        "pool1": (7, 10, 10),
        "conv2": (15, 8, 8),
        "pool2": (15, 4, 4),
        "dense1": (72,),
        "dense2": (42,),
        "output": (10,),
    }
    assert version.params == {"conv1": 182, "conv2": 960, "dense1": 17352, "dense2": 3066, "output": 430}


def test_versions_differ_from_each_other_and_from_every_net_of_ours():
    assert len({(str(version.shapes), version.activation) for version in VERSIONS}) == len(VERSIONS)
    assert {version.activation for version in VERSIONS} == set(OPTIMIZERS)
    assert {version.optimizer for version in VERSIONS} == {o for some in OPTIMIZERS.values() for o in some}
    assert {version.experiment for version in VERSIONS} == set(EXPERIMENTS)
    assert {question for version in VERSIONS for question in version.questions} == set(QUESTIONS)
    ours = {tuple(p.shape for p in NETS[name]().collect_params().values()) for name in NETS}
    for version in VERSIONS:
        assert tuple(version.weight_shapes) not in ours
        assert version.convs[0].pooling != version.convs[1].pooling  # as in no net of ours or the book's
        assert not {28, 120, 84} & {version.size, *version.widths}


@pytest.mark.parametrize("seed", [SEED, *range(12)])
def test_the_source_is_sound(seed):
    source = source_notebook(make_version(seed), 10**15)
    nbformat.validate(source)
    ids = [settings(cell).grade_id for cell in source.cells]
    assert len(set(ids)) == len(ids)
    points = {settings(cell).grade_id: settings(cell).points for cell in source.cells if settings(cell).grade}
    assert points == {f"{name}-test": points for name, points in TESTS.items()} | BY_HAND
    assert sum(points.values()) == 100
    assert max(points.values()) <= 15
    table = re.findall(r"^\| \d .*\| ([\d +]+) \|$", source.cells[0].source, re.MULTILINE)
    assert [sum(map(int, cell.split("+"))) for cell in table] == [13, 24, 10, 9, 12, 8, 10, 6, 8]
    text = "\n".join(cell.source for cell in source.cells)
    assert not re.search(r"<<|<%|汇聚|Undefined", text)
    assert text.count("> **提示**") >= 11
    for cell in source.cells:
        if settings(cell).solution:
            assert SOLUTION.search(cell.source), cell.source
        elif settings(cell).grade:
            checked(cell.source)
            parts = re.findall(r"points\((\d+),", hidden_part(cell.source))
            if "for value, name" in cell.source:
                parts = re.findall(r"^    \((\d),", hidden_part(cell.source), re.MULTILINE)
            elif "for name, want" in cell.source:
                parts = ["1"] * int(settings(cell).points)
            assert sum(map(int, parts)) == settings(cell).points, cell.source


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A course directory."""
    return course.make_course(tmp_path_factory.mktemp("teacher") / "course", SEED)[0]


def test_the_student_version_holds_no_solution(made):
    released, source = (nbformat.read(path, as_version=4) for path in (made.release, made.source))
    text = "\n".join(cell.source for cell in released.cells)
    assert "SOLUTION" not in text
    assert "HIDDEN" not in text
    assert "student." not in text
    for cell in source.cells:
        if settings(cell).solution:
            left = cell_of(released, settings(cell).grade_id).source
            assert "在这里" in left
            assert not set(SOLUTION.search(cell.source)[1].splitlines()) & set(left.splitlines())
    assert not {"(7, 10, 10)", "17352", "21990"} & set(re.findall(r"\(7, 10, 10\)|\d+", text))
    assert len(released.cells) == len(source.cells)
    assert made.folder.stat().st_mode & 0o077 == 0


def test_made_again_it_keeps_its_secret_and_what_the_teacher_changed(made):
    before = made.source.read_text("utf-8")
    again, kept = course.make_course(made.folder, SEED)
    assert not kept
    assert again.source.read_text("utf-8") == before
    made.source.write_text(before.replace("一个小实验", "一个实验"), encoding="utf-8")
    again, kept = course.make_course(made.folder, SEED)
    assert kept
    assert "一个实验" in made.release.read_text("utf-8")
    made.source.write_text(before, encoding="utf-8")


def test_bad_input_is_one_line(made, tmp_path, capsys):
    import assign
    import grade

    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "thesis.txt").write_text("")
    (tmp_path / "empty").mkdir()
    for main, args, *parts in (
        [assign.main, [""], "make assignment SEED="],
        [assign.main, ["x"], "'x' is no whole number"],
        [assign.main, ["9" * 20], "10**12"],
        [assign.main, [SEED + 1, "--course", made.folder], f"SEED={SEED}"],
        [assign.main, [SEED, "--course", tmp_path / "results"], "holds no assignment"],
        [assign.main, [SEED, "--course", tmp_path / "[1]"], "bracket"],
        [grade.main, [""], "make grade SUBMISSIONS=DIR"],
        [grade.main, [tmp_path, "--course", tmp_path / "none"], "make assignment SEED=N"],
        [grade.main, [tmp_path / "none", "--course", made.folder], "no folder"],
        [grade.main, [tmp_path / "empty", "--course", made.folder], "no submissions in"],
        [grade.main, [tmp_path, "--cell-seconds", 0], "'0' is not a number above 0"],
    ):
        fails_as_bad_input(main, args, capsys, *parts)
    assert list((tmp_path / "results").iterdir()) == [tmp_path / "results" / "thesis.txt"]
