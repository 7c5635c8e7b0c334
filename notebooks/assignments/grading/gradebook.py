"""Results -> nbgrader's gradebook, autograded notebooks and feedback; the gradebook -> a student's points.

nbgrader's own steps run, except for the execution of the cells: in its place, the outputs and points that were found in
the fence are filled in. So Formgrader, feedback and points given by hand are nbgrader's.
"""

from __future__ import annotations

from pathlib import Path

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
from nbgrader.utils import is_grade, is_solution

from authoring.course import ASSIGNMENT, NOTEBOOK, Course
from gluon_lenet.atomic import write_atomically
from grading.one import CellResult


def is_test(cell) -> bool:
    """Whether a cell is a test, and not an answer that the teacher grades."""
    return cell.cell_type == "code" and is_grade(cell) and not is_solution(cell)


class FillOutputs(NbGraderPreprocessor):
    """Stands where nbgrader executes a notebook: the outputs are there already, as each cell's metadata."""

    def preprocess_cell(self, cell, resources, cell_index):
        """Turn what was found in the fence into a cell's outputs."""
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [_output(output) for output in self.results[cell_index].outputs]
            if is_test(cell):
                points = min(max(0.0, self.results[cell_index].points or 0.0), float(cell.metadata.nbgrader.points))
                cell.outputs.append(new_output("execute_result", {"text/plain": repr(points)}))
        return cell, resources

    results: dict[int, CellResult] = {}  # by the cell's place; set before each notebook


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

    autograde_preprocessors = [FillOutputs, SaveAutoGrades, AssignLatePenalties, ClearHiddenTests, CheckCellMetadata]


def record(course: Course, student: str, nb, results: list[CellResult]) -> None:
    """Put a student's results into the gradebook and write the feedback; raises NbGraderException.

    Args:
        course: whose gradebook.
        student: the name in it.
        nb: the notebook that was graded.
        results: of its code cells, in their order.
    """
    submitted = course.folder / "submitted" / student / ASSIGNMENT / NOTEBOOK
    submitted.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(submitted, nbformat.writes(nb).encode())
    places = [place for place, cell in enumerate(nb.cells) if cell.cell_type == "code"]
    FillOutputs.results = dict(zip(places, results, strict=True))
    course.convert(_Autograde, student)
    feedback(course, student)


def feedback(course: Course, student: str) -> None:
    """Write a student's feedback again, with the points that the teacher has given."""
    course.convert(GenerateFeedback, student)


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
