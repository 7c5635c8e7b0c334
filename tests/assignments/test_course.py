"""SEED -> a course directory: the student version without an answer, a secret that stays, bad input in one line."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest

import assign
import grade
from authoring import course
from conftest import fails_as_bad_input
from planted import SEED, SOLUTION, cell_of, settings

pytestmark = pytest.mark.assignments


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


def test_a_course_that_was_damaged_is_one_line(made, tmp_path, capsys):
    folder = tmp_path / "course"
    (tmp_path / "submissions" / "a").mkdir(parents=True)
    source, release, gradebook = (Path("source/lenet/lenet.ipynb"), Path("release/lenet/lenet.ipynb"), "gradebook.db")
    text = made.source.read_bytes()
    for name, content, part in (
        (source, b'{"cells', "is no notebook"),
        (release, None, "make assignment makes it again"),
        (source, text.replace(b'"grade_id": "pool2d-test"', b'"grade_id": "pooling"'), "asks other questions"),
        (source, text.replace(b'"points": 9', b'"points": 8', 1), "asks other questions"),
        (gradebook, None, "is missing"),
        (gradebook, b"no database" * 1000, "cannot be used"),
        (gradebook, b"", "does not know the assignment"),
    ):
        shutil.copytree(made.folder, folder)
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)
        fails_as_bad_input(grade.main, [tmp_path / "submissions", "--course", folder], capsys, str(folder / name), part)
        shutil.rmtree(folder)


def test_one_at_a_time(made, tmp_path, capsys):
    (tmp_path / "submissions" / "a").mkdir(parents=True)
    with course.locked(made.folder):
        for main, first in ((assign.main, SEED), (grade.main, tmp_path / "submissions")):
            fails_as_bad_input(main, [first, "--course", made.folder], capsys, "works in", "wait for it")
