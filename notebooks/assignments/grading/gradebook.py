"""Results -> nbgrader's gradebook, autograded notebooks and feedback; the gradebook -> a student's points.

nbgrader's own steps run, except for the execution of the cells: in its place, the outputs and points that were found in
the fence are filled in. So Formgrader, feedback and points given by hand are nbgrader's.
"""

from __future__ import annotations

import contextlib
import signal
from typing import ClassVar

import nbformat
from nbformat.v4 import new_output
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import Autograde, GenerateFeedback
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    ClearHiddenTests,
    NbGraderPreprocessor,
    SaveAutoGrades,
)
from nbgrader.utils import is_grade, is_locked, is_solution
from sqlalchemy.exc import SQLAlchemyError
from traitlets import List

from authoring.course import ASSIGNMENT, NOTEBOOK, Course
from gluon_lenet.atomic import write_atomically
from gluon_lenet.errors import InputError
from grading.one import CellResult

SECONDS = 60.0  # to convert one submission
PLAIN = 5_000  # letters of a cell that is shown as plain text


def is_test(cell) -> bool:
    """Whether a cell is a test, and not an answer that the teacher grades."""
    return cell.cell_type == "code" and is_grade(cell) and not is_solution(cell)


class FillOutputs(NbGraderPreprocessor):
    """Stands where nbgrader executes a notebook: puts in what was found in the fence."""

    results: ClassVar[dict[int, CellResult]] = {}  # by the cell's place; set before each notebook

    def preprocess_cell(self, cell, resources, cell_index):
        """Turn what was found in the fence into a cell's outputs."""
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [_output(output) for output in self.results[cell_index].outputs]
            if is_test(cell):
                points = min(max(0.0, self.results[cell_index].points or 0.0), float(cell.metadata.nbgrader.points))
                cell.outputs.append(new_output("execute_result", {"text/plain": repr(points)}))
        return cell, resources


def _output(output: list[str]):
    kind, *content = output
    if kind == "png":
        return new_output("display_data", {"image/png": content[0], "text/plain": "<Figure>"})
    if kind == "error":
        name, message, traceback = content
        return new_output("error", ename=name, evalue=message, traceback=traceback.splitlines())
    return new_output("stream", name="stdout", text=content[0] + "\n")


class _Autograde(Autograde):
    """nbgrader's Autograde, which executes nothing and leaves no hidden tests in what students get to see."""

    autograde_preprocessors = List(
        [FillOutputs, SaveAutoGrades, AssignLatePenalties, ClearHiddenTests, CheckCellMetadata]
    )


def record(course: Course, student: str, nb, results: list[CellResult]) -> bool:
    """Put a student's results into the gradebook and write the feedback.

    Converting text that was made to be slow, or to fail, would stop the whole class: the student's then becomes a block
    of plain text, cut where it is long.

    Args:
        course: whose gradebook.
        student: the name in it.
        nb: the notebook that was graded.
        results: of its code cells, in their order.

    Returns:
        Whether the text was converted as it is.
    """
    for plain in (False, True):
        shown = _plain(nb) if plain else nb
        try:
            with _at_most(SECONDS):
                _record(course, student, shown, results)
        except Exception:
            if plain:
                raise
        else:
            return not plain
    raise AssertionError


def _record(course: Course, student: str, nb, results: list[CellResult]) -> None:
    submitted = course.folder / "submitted" / student / ASSIGNMENT / NOTEBOOK
    submitted.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(submitted, nbformat.writes(nb).encode())
    places = [place for place, cell in enumerate(nb.cells) if cell.cell_type == "code"]
    FillOutputs.results = dict(zip(places, results, strict=True))
    course.convert(_Autograde, student)
    feedback(course, student)


def _plain(nb):
    """The notebook with the student's text as blocks of text, and his code cut."""
    nb = nbformat.from_dict(nb)
    for cell in nb.cells:
        if is_test(cell) or is_locked(cell):
            continue
        if cell.cell_type == "code":
            cell.source = cell.source[:PLAIN]
        else:
            cell.source = "```text\n" + cell.source[:PLAIN].replace("`", "'") + "\n```"
            cell.pop("attachments", None)
    return nb


@contextlib.contextmanager
def _at_most(seconds: float):
    """Raise TimeoutError in what takes longer, in seconds of a processor; in the main thread."""

    def ring(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def feedback(course: Course, student: str) -> None:
    """Write a student's feedback again, with the points that the teacher has given."""
    course.convert(GenerateFeedback, student)


def check(course: Course) -> None:
    """Raise InputError if the gradebook is gone, is no database, or is one that does not know the assignment."""
    path = course.folder / "gradebook.db"
    why = "is missing"
    if path.exists():
        try:
            with Gradebook(f"sqlite:///{path}") as gradebook:
                gradebook.find_notebook(ASSIGNMENT, ASSIGNMENT)
                return
        except MissingEntry:
            why = "does not know the assignment"
        except SQLAlchemyError as error:
            why = f"cannot be used ({getattr(error, 'orig', error)}); move it away"
    raise InputError(
        f"{path} {why}; restore it, or make a new one: make assignment SEED={course.identity.seed} "
        f"COURSE={course.folder} (points given by hand are in the old one only)"
    )


def points_of(course: Course, student: str) -> dict[str, float | None]:
    """Question -> a student's points; None if the teacher has yet to give them. Empty for an unknown student."""
    with Gradebook(f"sqlite:///{course.folder / 'gradebook.db'}") as gradebook:
        try:
            grades = gradebook.find_submission_notebook(ASSIGNMENT, ASSIGNMENT, student).grades
        except MissingEntry:
            return {}
        return {
            grade.name: None if grade.auto_score is None and grade.manual_score is None else grade.score
            for grade in grades
        }
