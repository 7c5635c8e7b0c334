"""Exports of Moodle, Canvas, GitHub Classroom and by hand -> one submission per student -> the notebook graded."""

import base64
import io
import json
import os
from unittest.mock import ANY

import nbformat
import pytest
from PIL import Image

from gluon_lenet.errors import InputError
from grading import filling
from grading.submissions import find_submissions


def lay_out(folder, *names):
    """Empty files, each a second younger than the one before."""
    for age, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (1_000_000 + age, 1_000_000 + age))


def found(folder):
    """Student -> the path within `folder`."""
    return {s.student: s.path and str(s.path.relative_to(folder)) for s in find_submissions(folder)}


def test_moodle(tmp_path):
    lay_out(
        tmp_path,
        "张三_12345_assignsubmission_file_/lenet.ipynb",
        "李 四_777_assignsubmission_file_/my work/lenet.ipynb",
        "李 四_777_assignsubmission_onlinetext_/onlinetext.html",
        "王五_9_assignsubmission_file_/report.pdf",
    )
    assert found(tmp_path) == {
        "张三_12345": "张三_12345_assignsubmission_file_/lenet.ipynb",
        "李 四_777": "李 四_777_assignsubmission_file_/my work/lenet.ipynb",
        "王五_9": None,
    }
    notes = {s.student: s.notes for s in find_submissions(tmp_path)}
    assert notes == {"张三_12345": [], "李 四_777": [], "王五_9": ["没有 notebook，只有 report.pdf"]}


def test_moodle_without_folders_and_wrapped(tmp_path):
    lay_out(tmp_path / "Course-LeNet-555", "张三_12345_assignsubmission_file_lenet.ipynb")
    assert found(tmp_path) == {"张三_12345": "Course-LeNet-555/张三_12345_assignsubmission_file_lenet.ipynb"}


def test_canvas_the_later_attempt(tmp_path):
    lay_out(
        tmp_path,
        "zhangsan_LATE_11_901_lenet-2.ipynb",
        "zhangsan_11_900_lenet-1.ipynb",
        "zhangsan_11_899_lenet.ipynb",
        "lisi_12_902_lenet.ipynb",
        "wangwu_13_903_essay.docx",
    )
    assert found(tmp_path) == {
        "zhangsan_11": "zhangsan_LATE_11_901_lenet-2.ipynb",
        "lisi_12": "lisi_12_902_lenet.ipynb",
        "wangwu_13": None,
    }


def test_github_classroom(tmp_path):
    repositories = [f"lenet-submissions/lenet-{name}" for name in ("octo-cat", "octo-dog", "zed")]
    for folder in repositories:
        lay_out(
            tmp_path / folder, ".git/HEAD", ".ipynb_checkpoints/lenet-checkpoint.ipynb", "README.md", "a/b/lenet.ipynb"
        )
    assert found(tmp_path) == {
        name: f"lenet-submissions/lenet-{name}/a/b/lenet.ipynb" for name in ("octo-cat", "octo-dog", "zed")
    }


def test_by_hand(tmp_path):
    lay_out(tmp_path, "张三.ipynb", "张三/lenet.ipynb", "student-1/other.ipynb", "student-2/lenet.ipynb", "grades.csv")
    lay_out(tmp_path, "student-2/notes.ipynb", "student-2/__MACOSX/lenet.ipynb", ".DS_Store")
    assert found(tmp_path) == {
        "张三": "张三/lenet.ipynb",
        "student-1": "student-1/other.ipynb",
        "student-2": "student-2/lenet.ipynb",
    }
    assert "较晚" in next(s for s in find_submissions(tmp_path) if s.student == "张三").notes[0]


def test_one_student_alone_is_not_unwrapped(tmp_path):
    lay_out(tmp_path, "张三/lenet.ipynb")
    assert found(tmp_path) == {"张三": "张三/lenet.ipynb"}


def test_names_stay_different_and_harmless(tmp_path):
    names = ["a*", "a%2a", "b.", "b", "c\nd", "=1+1", "e‮f", "..g"]
    lay_out(tmp_path, *(f"{name}/lenet.ipynb" for name in names if not name.startswith(".")))
    students = list(found(tmp_path))
    assert len(students) == 7
    assert all(student.isprintable() and not set(student) & set("/*?[]\n") for student in students)


def test_deep_and_wide_folders_end(tmp_path):
    lay_out(tmp_path, "/".join(["deep", *"abcdefghij", "lenet.ipynb"]), "b/lenet.ipynb")
    for number in range(2_100):
        (tmp_path / "wide" / str(number)).mkdir(parents=True)
    notes = {s.student: s.notes for s in find_submissions(tmp_path)}
    assert notes["deep"] == ["文件夹嵌套太深，没有看完"]
    assert "文件太多，没有看完" in notes["wide"]


def test_nothing_to_grade(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        find_submissions(tmp_path / "none")
    with pytest.raises(InputError, match="no submissions in"):
        find_submissions(tmp_path)


def cell(source, grade_id=None, kind="code", **marks):
    """A cell as it stands in a file."""
    metadata = {"nbgrader": {"grade_id": grade_id, **marks}} if grade_id else {}
    return {"cell_type": kind, "source": source, "metadata": metadata}


def released():
    """A small student version."""
    marks = {"schema_version": 3, "task": False}
    cells = [
        nbformat.v4.new_code_cell(
            "stub", metadata={"nbgrader": {"grade_id": "a", "solution": True, "grade": False} | marks}
        ),
        nbformat.v4.new_code_cell(
            "test", metadata={"nbgrader": {"grade_id": "a-test", "solution": False, "grade": True, "points": 3} | marks}
        ),
        nbformat.v4.new_markdown_cell(
            "text", metadata={"nbgrader": {"grade_id": "q", "solution": True, "grade": True, "points": 2} | marks}
        ),
    ]
    return nbformat.v4.new_notebook(cells=cells)


def written(tmp_path, *cells, **more):
    """A submitted file."""
    path = tmp_path / "lenet.ipynb"
    path.write_text(json.dumps({"cells": list(cells), **more}), encoding="utf-8")
    return path


def test_only_answers_and_own_cells_are_taken_over(tmp_path):
    path = written(
        tmp_path,
        cell("张三", kind="markdown"),
        cell("first", "a"),
        cell("mine", tags=["x"]),
        cell("second", "a", grade=True, points=99),
        cell("print(100)", "a-test", points=99),
        cell("答", "q", "markdown"),
        cell("mine, too", "unknown"),
        {"cell_type": "raw", "source": ["a", 5, "b"], "metadata": 7},
        "no cell",
        metadata={"kernelspec": {"name": "bash"}},
    )
    filled, touched = filling.fill_in(released(), filling.read(path))
    assert [c.source for c in filled.cells] == ["张三", "first", "mine", "second", "test", "答", "mine, too", "ab"]
    assert touched == ["a-test"]
    assert filled.cells[3].metadata == released().cells[0].metadata
    assert filled.cells[4] == released().cells[1] | {"id": ANY}
    assert filled.metadata == released().metadata
    assert len({c.id for c in filled.cells}) == len(filled.cells)
    nbformat.validate(filled)


def picture(side: int) -> str:
    """A black square as a PNG in base64."""
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_text_cannot_run_but_looks_the_same(tmp_path):
    text = "a < b, x<y, <b>bold</b> <!-- --> $\\href{javascript:1}{x}$ $a<b$ `<i>`"
    png, bomb = ({"image/png": picture(side)} for side in (2, 30_000))
    answer = cell(text, "q", "markdown")
    answer["attachments"] = {
        "a.png": png,
        "b.svg": {"image/svg+xml": "PHN2Zz4="},
        'c"><script>': png,
        "d.png": {"image/png": "'><script>"},
        "e.png": 5,
        "f.png": bomb,
        "g.gif": {"image/gif": "iVBORw0KGgo="},
    }
    filled, _ = filling.fill_in(released(), filling.read(written(tmp_path, answer)))
    assert filled.cells[-1].source.replace("\u200b", "") == text
    assert "<b>" not in filled.cells[-1].source
    assert "\\href" not in filled.cells[-1].source
    assert "a < b" in filled.cells[-1].source
    assert filled.cells[-1].attachments == {"a.png": png}


def test_half_letters_and_zeros(tmp_path):
    path = tmp_path / "lenet.ipynb"
    path.write_text(r'{"cells": [{"cell_type": "code", "source": "x = \"\ud800\u0000\"", "metadata": {}}]}')
    assert filling.read(path)[0].source == 'x = "?�"'


@pytest.mark.parametrize(
    ("cells", "reason"),
    [([cell("x" * 1000)] * 201, "200,000"), ([cell("")] * 501, "500 个")],
)
def test_too_much(tmp_path, cells, reason):
    with pytest.raises(filling.UnreadableError, match=reason):
        filling.read(written(tmp_path, *cells))
