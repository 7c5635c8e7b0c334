"""The assignment: its source notebook, its student version, and the grading of good, wrong and hostile submissions."""

import csv
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import ANY

import nbformat
import pytest

from conftest import ROOT, fails_as_bad_input

ASSIGNMENTS = ROOT / "notebooks" / "assignments"
SOURCE = nbformat.read(ASSIGNMENTS / "source" / "lenet" / "lenet.ipynb", as_version=4)
TESTS = {"shapes": 8, "params": 8, "dense-instead": 4, "corr2d": 10, "corr2d-multi": 10, "pool2d": 10, "net": 12}
TESTS |= {"accuracy": 14, "train": 14}
SOLUTION = re.compile(r"[^\n]*BEGIN SOLUTION[^\n]*\n(.*?)\n[^\n]*END SOLUTION", re.DOTALL)


def settings(cell):
    """nbgrader's metadata of a cell; empty for a student's own cell."""
    return cell.metadata.get("nbgrader", nbformat.NotebookNode())


@pytest.fixture(scope="session")
def grade():
    """The module grade.py."""
    import grade  # imported here, because it loads nbgrader

    return grade


@pytest.fixture(scope="session")
def released(tmp_path_factory):
    """The student version, as `make assignment` makes it."""
    course = tmp_path_factory.mktemp("course")
    (course / "nbgrader_config.py").symlink_to(ASSIGNMENTS / "nbgrader_config.py")
    (course / "source").symlink_to(ASSIGNMENTS / "source")
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", "lenet", "--no-db"]
    done = subprocess.run(command, cwd=course, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return nbformat.read(course / "release" / "lenet" / "lenet.ipynb", as_version=4)


def with_answers(released, **answers):
    """The student version with answers (_ for - in the names); "solution" takes the source's."""
    solutions = {settings(cell).grade_id: cell.source for cell in SOURCE.cells}
    nb = nbformat.from_dict(released)
    for cell in nb.cells:
        answer = answers.get(settings(cell).grade_id.replace("-", "_"))
        if answer:
            cell.source = solutions[settings(cell).grade_id] if answer == "solution" else answer
    return nb


def cell_of(nb, grade_id):
    return next(cell for cell in nb.cells if settings(cell).get("grade_id") == grade_id)


def test_the_source_is_sound():
    nbformat.validate(SOURCE)
    ids = [settings(cell).grade_id for cell in SOURCE.cells]
    assert len(set(ids)) == len(ids)
    points = {settings(cell).grade_id: settings(cell).points for cell in SOURCE.cells if settings(cell).grade}
    assert points == {f"{name}-test": points for name, points in TESTS.items()} | {"question": 10}
    assert sum(points.values()) == 100
    table = re.findall(r"^\| \d .*\| ([\d +]+) \|$", SOURCE.cells[0].source, re.MULTILINE)
    assert [sum(map(int, cell.split("+"))) for cell in table] == [8, 12, 20, 10, 12, 14, 14, 10]
    for cell in SOURCE.cells:
        assert not cell.get("outputs")
        assert "汇聚" not in cell.source
        if settings(cell).solution:
            assert SOLUTION.search(cell.source), cell.source
        elif settings(cell).grade:
            assert "### BEGIN HIDDEN TESTS\n" in cell.source, cell.source


def test_the_student_version_holds_no_solution(released):
    text = "\n".join(cell.source for cell in released.cells)
    assert "SOLUTION" not in text
    assert "HIDDEN" not in text
    for cell in SOURCE.cells:
        if settings(cell).solution:
            left = cell_of(released, settings(cell).grade_id).source
            assert "在这里" in left
            assert not set(SOLUTION.search(cell.source)[1].splitlines()) & set(left.splitlines())
    assert not {"(6, 12, 12)", "30840", "44426", "2712960"} & set(re.findall(r"\(6, 12, 12\)|\d+", text))
    assert len(released.cells) == len(SOURCE.cells)


def test_only_answers_and_own_cells_are_taken_over(grade, released):
    nb = with_answers(released, shapes="first", params="p")
    shapes = nb.cells.index(cell_of(nb, "shapes"))
    cell_of(nb, "params-test").source = "assert True"
    cell_of(nb, "params-test").metadata["tags"] = ["skip-execution"]
    cell_of(nb, "train-test").metadata.nbgrader["grade"] = False
    nb.cells.insert(shapes + 1, nbformat.from_dict({**cell_of(nb, "shapes"), "source": "second"}))
    nb.cells.insert(shapes + 2, nbformat.v4.new_code_cell("mine", metadata={"tags": ["skip-execution"]}))
    nb.cells.insert(0, nbformat.v4.new_markdown_cell("张三"))
    nb.cells.remove(cell_of(nb, "net-test"))
    nb.metadata.kernelspec = {"name": "bash", "display_name": "", "language": "bash"}

    filled, touched = grade.fill_in(nbformat.from_dict(released), nb)

    sources = [cell.source for cell in filled.cells]
    assert sources[0] == "张三"
    where = sources.index("first")
    assert sources[where : where + 3] == ["first", "second", "mine"]
    assert filled.cells[where].metadata == {}  # if a cell was copied, the last copy is the answer
    assert settings(filled.cells[where + 1]).grade_id == "shapes"
    assert filled.cells[where + 2].metadata == {}
    assert touched == ["params-test", "net-test"]
    assert cell_of(filled, "params-test") == cell_of(released, "params-test") | {"id": ANY}
    assert cell_of(filled, "params").source == "p"
    assert filled.metadata == released.metadata
    nbformat.validate(filled)


def test_bad_input_is_one_line(grade, tmp_path, capsys):
    (tmp_path / "empty" / "张三").mkdir(parents=True)
    (tmp_path / "twice" / "李四").mkdir(parents=True)
    (tmp_path / "twice" / "李四.ipynb").write_text("")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.ipynb").write_text("")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "thesis.txt").write_text("")
    for args, *parts in (
        [[""], "make grade SUBMISSIONS=DIR"],
        [[tmp_path / "none"], "no folder", "STUDENT/lenet.ipynb"],
        [[tmp_path / "one" / "a.ipynb"], "no folder"],
        [[tmp_path / "empty"], "no notebooks in", "STUDENT.ipynb"],
        [[tmp_path / "twice"], "two submissions of 李四"],
        [[tmp_path / "one", "--out", tmp_path / "results"], "holds no earlier grading"],
        [[tmp_path / "one", "--out", tmp_path / "one" / "out"], "cannot go into the folder of submissions"],
        [[tmp_path / "one", "--out", tmp_path / "[1]"], "--out"],
        [[tmp_path / "one", "--cell-seconds", 0], "'0' is not a number above 0"],
    ):
        fails_as_bad_input(grade.main, args, capsys, *parts)
    assert not (tmp_path / "one-graded").exists()
    with pytest.raises(grade.InputError, match="submissions only"):
        grade.check_folders(ROOT.parent, tmp_path / "new")


# Submissions and the points they should get: graded for real, by `make test-assignments`

PART = {"shapes": "solution", "params": "solution", "dense_instead": "solution"}  # worth 20 points
PART_POINTS = {"shapes": 8, "params": 8, "dense-instead": 4}
ALL = dict.fromkeys((name.replace("-", "_") for name in TESTS), "solution")

MEAN_POOLING = """
def pool2d(X, pool_size, stride):
    Y = np.zeros(((X.shape[0] - pool_size) // stride + 1, (X.shape[1] - pool_size) // stride + 1))
    for i in range(Y.shape[0]):
        for j in range(Y.shape[1]):
            Y[i, j] = X[i * stride : i * stride + pool_size, j * stride : j * stride + pool_size].mean()
    return Y
"""
MEAN_OF_BATCHES = """
def evaluate_accuracy(data_iter, net, ctx):
    accs = [(net(X).argmax(axis=1) == y.astype("float32")).mean().asscalar() for X, y in data_iter]
    return sum(accs) / len(accs)
"""
NO_BIASES = "params = {'conv1': 150, 'conv2': 2400, 'dense1': 30720, 'dense2': 10080, 'output': 840, 'total': 44190}"
THEFT = """
import os, pathlib, re, subprocess
import nbformat
root = pathlib.Path(d2l.__file__).parents[1]
def steal(read):
    try:
        text = read(str(root / "notebooks" / "assignments" / "source" / "lenet" / "lenet.ipynb"))
        cells = {cell.id: cell.source for cell in nbformat.reads(text, 4).cells if cell.cell_type == "code"}
        for name in ("params", "dense-instead", "corr2d", "corr2d-multi", "pool2d", "net", "accuracy", "train"):
            exec(cells[name], globals())
    except Exception as error:
        print(type(error).__name__)
os.chdir("/")
steal(lambda path: open(path).read())
steal(lambda path: pathlib.Path("/proc/self/root" + path).read_text())
steal(lambda path: os.popen("cat " + path).read())
steal(lambda path: subprocess.run(["cat", path], capture_output=True, text=True).stdout)
steal(lambda path: (os.symlink(path, os.environ["TMPDIR"] + "/x"), open(os.environ["TMPDIR"] + "/x").read())[1])
steal(lambda path: pathlib.Path(os.environ["LENET_CLOSED"].split(":")[-1], "source/lenet/lenet.ipynb").read_text())
open(root / "gluon_lenet" / "planted.py", "w")
"""
NO_ASSERTS = """
import ast
class Drop(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.Pass()
get_ipython().ast_transformers.append(Drop())
"""
STUBBORN_LOOP = """
while True:
    try:
        while True:
            print("x" * 1000)
    except KeyboardInterrupt:
        pass
"""

GOOD_AND_WRONG = {  # name -> answers, points by test
    "solution": (ALL | {"question": "因为 sigmoid 的导数很小。"}, TESTS),
    "blank": ({}, {}),
    "no-biases": (ALL | {"params": NO_BIASES}, TESTS | {"params": 0}),
    "mean-pooling": (ALL | {"pool2d": MEAN_POOLING}, TESTS | {"pool2d": 0}),
    "mean-of-batches": (ALL | {"accuracy": MEAN_OF_BATCHES}, TESTS | {"accuracy": 0}),
}
HOSTILE = {
    "loops": (
        PART | {"corr2d": "def corr2d(X, K):\n    while True:\n        pass", "pool2d": "solution"},
        PART_POINTS | {"pool2d": 10},
    ),
    "loops-for-good": (PART | {"corr2d": STUBBORN_LOOP, "pool2d": "solution"}, PART_POINTS),
    "raises": (PART | {"corr2d": "1 / 0", "pool2d": "solution"}, PART_POINTS | {"pool2d": 10}),
    "exits": (PART | {"corr2d": "import os\nos._exit(0)", "pool2d": "solution"}, PART_POINTS),
    "segfaults": (PART | {"corr2d": "import ctypes\nctypes.string_at(0)", "pool2d": "solution"}, PART_POINTS),
    "steals": ({"shapes": "solution", "params": THEFT}, {"shapes": 8}),
    "no-asserts": (
        PART | {"dense_instead": "dense_instead = 1\n" + NO_ASSERTS, "pool2d": "solution"},
        {"shapes": 8, "params": 8},
    ),
    "no-allclose": (
        PART | {"corr2d": "def corr2d(X, K):\n    return X\nnp.testing.assert_allclose = print", "pool2d": "solution"},
        PART_POINTS,
    ),
}
DELETED = ("shapes-test", "pool2d-test")
BROKEN = {
    "cut-off": b'{"cells": [',
    "empty": b"",
    "no-notebook": b"[]",
    "no-cells": b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
    "half-a-letter": rb'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": ['
    rb'{"id": "a", "cell_type": "markdown", "metadata": {}, "source": "\ud800"}]}',
    "latin-1": b"\xff",
}


@pytest.fixture(scope="module")
def graded(released, tmp_path_factory):
    """The rows of grades.csv by student, after both folders were graded side by side."""
    rows, started = {}, []
    for folder, submissions, limits in (
        ("class", GOOD_AND_WRONG, []),
        ("hostile", HOSTILE, ["--cell-seconds", "20", "--all-seconds", "100"]),
    ):
        root = tmp_path_factory.mktemp("submissions") / folder
        root.mkdir()
        for student, (answers, _) in submissions.items():
            (root / student).mkdir()
            nbformat.write(with_answers(released, **answers), root / student / "lenet.ipynb")
        if folder == "hostile":
            nb = with_answers(released, **PART | {"shapes": "shapes = {}", "pool2d": "solution"})
            nb.cells = [cell for cell in nb.cells if settings(cell).grade_id not in DELETED]
            nbformat.write(nb, root / "deletes.ipynb")
            for student, content in BROKEN.items():
                (root / f"{student}.ipynb").write_bytes(content)
            (root / "nothing").mkdir()
        command = [sys.executable, str(ASSIGNMENTS / "grade.py"), str(root), *limits]
        started.append((root, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)))
    for root, process in started:
        out, err = process.communicate(timeout=900)
        assert process.returncode == 0, err
        assert err == ""
        assert len(out.splitlines()) == len(list(root.iterdir())) + 1, out
        rows |= read_grades(root)
    rows["roots"] = [root for root, _ in started]
    return rows


def read_grades(root: Path) -> dict[str, dict]:
    with open(f"{root}-graded/grades.csv", encoding="utf-8-sig", newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


@pytest.mark.assignments
@pytest.mark.parametrize("student", [*GOOD_AND_WRONG, *HOSTILE])
def test_everybody_gets_what_he_deserves(graded, student):
    _, deserved = (GOOD_AND_WRONG | HOSTILE)[student]
    row = graded[student]
    assert {name: float(row[f"{name}-test"]) for name in TESTS} == dict.fromkeys(TESTS, 0) | deserved
    assert float(row["score"]) == sum(deserved.values())
    assert float(row["max_score"]) == 100
    waits = student == "solution"
    assert (row["question"], row["to_grade_by_hand"]) == (("", "question") if waits else ("0.0", ""))
    assert row["note"] == ""


@pytest.mark.assignments
def test_a_deleted_test_is_put_back(graded):
    row = graded["deletes"]
    assert row["note"] == "restored, since deleted or changed: shapes-test, pool2d-test"
    assert (float(row["shapes-test"]), float(row["pool2d-test"]), float(row["score"])) == (0, 10, 8 + 4 + 10)


@pytest.mark.assignments
def test_what_cannot_be_read_costs_only_its_student(graded):
    for student in BROKEN:
        assert float(graded[student]["score"]) == 0
        assert graded[student]["note"].startswith(f"{student}.ipynb is not a notebook that can be read: ")
    assert graded["nothing"]["note"].startswith("no notebook in ")


@pytest.mark.assignments
def test_theft_and_planting_are_stopped(graded):
    html = Path(f"{graded['roots'][1]}-graded/feedback/steals/lenet/lenet.html").read_text("utf-8")
    assert html.count("PermissionError") >= 6
    assert not (ROOT / "gluon_lenet" / "planted.py").exists()


@pytest.mark.assignments
def test_points_given_by_hand_stay_and_nothing_is_run_again(graded, grade):
    root = graded["roots"][0]
    with grade.Gradebook(f"sqlite:///{root}-graded/gradebook.db") as gradebook:
        gradebook.find_grade("question", "lenet", "lenet", "solution").manual_score = 7
        gradebook.db.commit()
    before = Path(f"{root}-graded/autograded/solution/lenet/lenet.ipynb").stat().st_mtime_ns

    done = subprocess.run([sys.executable, str(ASSIGNMENTS / "grade.py"), str(root)], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "solution: 97 of 100\n" in done.stdout
    assert Path(f"{root}-graded/autograded/solution/lenet/lenet.ipynb").stat().st_mtime_ns == before
    assert read_grades(root)["solution"]["question"] == "7.0"
