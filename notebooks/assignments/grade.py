"""A folder of submitted notebooks -> scores (CSV), feedback (HTML) and nbgrader's gradebook.

    python notebooks/assignments/grade.py SUBMISSIONS [--out DIR]

SUBMISSIONS holds STUDENT/lenet.ipynb or STUDENT.ipynb for each student. DIR, by default SUBMISSIONS-graded, becomes an
nbgrader course directory: grades.csv, feedback/STUDENT/lenet/lenet.html, gradebook.db, and what nbgrader's own tools
need, such as its formgrader for the written answers. Called again, it runs only new and changed submissions, keeps the
points given by hand, and rewrites CSV and feedback.

Steps for a submission: `find_submissions` -> `fill_in` puts the answers into the released notebook -> nbgrader restores
the tests and the hidden tests -> `RunApart` runs the cells in another process (run_notebook.py) -> nbgrader scores.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import glob
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout's package

from gluon_lenet import cli
from gluon_lenet.data.datasets import load_dataset
from gluon_lenet.errors import InputError

try:
    import nbformat
    import psutil
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
    from nbgrader.api import Gradebook, MissingEntry
    from nbgrader.converters import Autograde, GenerateAssignment, GenerateFeedback
    from nbgrader.converters.base import NbGraderException
    from nbgrader.coursedir import CourseDirectory
    from nbgrader.preprocessors import Execute, NbGraderPreprocessor
    from nbgrader.utils import is_grade, is_solution
    from traitlets import Float, Unicode
    from traitlets.config import Config, PyFileConfigLoader
except ImportError as error:
    print(f"error: {error}: grading needs the extra `assignments`, which requirements.txt installs", file=sys.stderr)
    sys.exit(cli.BAD_INPUT)

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ASSIGNMENT = "lenet"
SOURCE = HERE / "source" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb"
MAX_BYTES = 32 << 20  # of a submitted notebook
KEPT_VARIABLES = "GLUON_LENET_DATA HOME LANG LC_ALL LC_CTYPE LD_LIBRARY_PATH OMP_NUM_THREADS PATH TZ XDG_CACHE_HOME"


@dataclass
class Submission:
    """One student's notebook, and notes for the teacher."""

    student: str
    path: Path | None
    notes: list[str] = field(default_factory=list)


def find_submissions(folder: Path) -> list[Submission]:
    """The submissions in `folder`, by student; one without a notebook has no path, and a note that says why.

    Raises:
        InputError: there is no such folder, no notebook in it, or two submissions of one student.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; name the one that holds STUDENT/{ASSIGNMENT}.ipynb or STUDENT.ipynb")
    found: dict[str, Submission] = {}
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith((".", "__")) or not (entry.is_dir() or entry.suffix == ".ipynb"):
            continue
        student = (entry.name if entry.is_dir() else entry.stem).strip()
        if not student.isprintable():
            raise InputError(f"the name {entry.name!r} in {folder} cannot be printed; rename it")
        if student in found:
            raise InputError(
                f"two submissions of {student}: the folder {folder / student} and {student}.ipynb; keep one"
            )
        found[student] = _in_folder(entry) if entry.is_dir() else Submission(student, entry)
    if not any(submission.path for submission in found.values()):
        raise InputError(f"no notebooks in {folder}; it should hold STUDENT/{ASSIGNMENT}.ipynb or STUDENT.ipynb")
    return list(found.values())


def _in_folder(folder: Path) -> Submission:
    notebooks = sorted(path for path in folder.glob("*.ipynb") if not path.name.startswith("."))
    named = [path for path in notebooks if path.stem == ASSIGNMENT] or notebooks
    if len(named) == 1:
        return Submission(folder.name, named[0])
    what = f"several notebooks, none called {ASSIGNMENT}.ipynb" if named else "no notebook"
    return Submission(folder.name, None, [f"{what} in {folder}"])


def fill_in(released, submitted):
    """Put the student's answers and own cells into the released notebook, whose other cells stay unchanged.

    Nothing else in a submission has an effect: cells that were deleted, moved, copied or locked, tags, the choice of
    the kernel. If an answer cell was copied, the last copy counts.

    Returns:
        The notebook, and the names of the tests that were deleted or changed.
    """
    known = {_grade_id(cell): cell for cell in released.cells}
    last = {_grade_id(cell): index for index, cell in enumerate(submitted.cells)}
    theirs, own, place = {}, {}, None
    for index, cell in enumerate(submitted.cells):
        grade_id = _grade_id(cell)
        if grade_id in known and (last[grade_id] == index or not is_solution(known[grade_id])):
            place, theirs[grade_id] = grade_id, cell
        elif cell.source.strip():
            own.setdefault(place, []).append(
                _copy(cell, new_code_cell() if cell.cell_type == "code" else new_markdown_cell())
            )
    cells, touched = own.get(None, []), []
    for grade_id, cell in known.items():
        if is_solution(cell):
            _copy(theirs.get(grade_id, cell), cell)
        elif is_grade(cell) and (grade_id not in theirs or theirs[grade_id].source.strip() != cell.source.strip()):
            touched.append(grade_id)
        cells += [cell, *own.get(grade_id, [])]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    return new_notebook(cells=cells, metadata=released.metadata), touched


def _copy(theirs, cell):
    """Put what the student wrote, including pasted pictures, into `cell`."""
    cell.source = theirs.source
    if cell.cell_type == "markdown" and "attachments" in theirs:
        cell.attachments = theirs.attachments
    return cell


def _grade_id(cell) -> str | None:
    return cell.metadata.get("nbgrader", {}).get("grade_id")


class RunApart(NbGraderPreprocessor):
    """Replaces nbgrader's `Execute`: runs the cells in a separate process that receives only this notebook."""

    cell_seconds = Float(help="the longest one cell may run").tag(config=True)
    all_seconds = Float(help="the longest all cells of a notebook may run").tag(config=True)
    closed = Unicode(help="folders that the kernel may not see, separated as in PATH").tag(config=True)

    def preprocess(self, nb, resources):
        """Fill in every cell's outputs; if the process fails, every test gets an error as its output, and 0 points."""
        why_not = nb.metadata.gluon_lenet.unreadable
        run, why_not = (None, why_not) if why_not else self._run(nb)
        for index, cell in enumerate(nb.cells):
            if cell.cell_type == "code" and run:
                cell.outputs = run.cells[index].outputs
            elif cell.cell_type == "code" and is_grade(cell):
                cell.outputs = [new_output("error", ename="NotRun", evalue=why_not, traceback=[f"NotRun: {why_not}"])]
        return nb, resources

    def _run(self, nb):
        """The notebook with its outputs and an empty text, or None and the reason."""
        command = [sys.executable, HERE / "run_notebook.py", str(self.cell_seconds), str(self.all_seconds)]
        with (
            tempfile.TemporaryDirectory(prefix="lenet-", ignore_cleanup_errors=True) as scratch,
            open(Path(scratch, "stderr"), "w+", encoding="utf-8") as stderr,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                encoding="utf-8",
                cwd=scratch,
                env=self._environment(scratch),
            ) as process,
        ):
            try:
                out, _ = process.communicate(nbformat.writes(nb), timeout=self.all_seconds + 60)
                return nbformat.reads(out, as_version=4), ""
            except subprocess.TimeoutExpired:
                return None, "整份笔记的运行时间用完了"
            except Exception:  # the process died, or did not write a notebook
                stderr.seek(0)
                self.log.error("run_notebook.py ended with %s: %s", process.returncode, stderr.read()[-2000:])
                return None, "运行这份笔记的进程异常退出"
            finally:
                _end(process)

    def _environment(self, scratch: str) -> dict[str, str]:
        """The environment variables of the student's code: no secrets, no GPU, writing to `scratch` allowed."""
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        # where Numba may store the compiled kernels
        compiled = [ROOT / "gluon_lenet" / "engines" / "fused" / "__pycache__", caches / "numba"]
        return {
            **{name: os.environ[name] for name in KEPT_VARIABLES.split() if name in os.environ},
            "CUDA_VISIBLE_DEVICES": "",
            "IPYTHONDIR": scratch,
            "JUPYTER_DATA_DIR": scratch,
            "JUPYTER_RUNTIME_DIR": scratch,
            "LENET_CLOSED": self.closed,
            "LENET_WRITABLE": os.pathsep.join(map(str, [scratch, *compiled])),
            "PYTHONPATH": str(ROOT),
            "TMPDIR": scratch,
        }


def _end(process: subprocess.Popen) -> None:
    """Kill a process and its descendants; not by process group, because a kernel starts a session of its own."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for member in [process, *family]:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()


class Course:
    """nbgrader's course directory at `out`, with this assignment in it, ready to grade."""

    def __init__(self, out: Path, closed: list[Path], cell_seconds: float, all_seconds: float):
        self.out = out
        self.config = PyFileConfigLoader("nbgrader_config.py", str(HERE)).load_config()
        self.config.CourseDirectory.root = str(out)
        self.config.RunApart = Config(
            cell_seconds=cell_seconds, all_seconds=all_seconds, closed=os.pathsep.join(map(str, closed))
        )
        source = out / "source" / ASSIGNMENT / SOURCE.name
        source.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SOURCE, source)
        self._convert(GenerateAssignment, ".")
        self.released = nbformat.read(out / "release" / ASSIGNMENT / SOURCE.name, as_version=4)
        self.tests = [cell for cell in self.released.cells if is_grade(cell)]
        self.version = hashlib.sha256(SOURCE.read_bytes()).hexdigest()

    def grade(self, submission: Submission, again: bool) -> None:
        """Run and score one submission, unless that was done before; writes its feedback.

        If that fails, the reason becomes a note of the submission.
        """
        text = self._prepare(submission)
        submitted, autograded = (
            self.out / step / submission.student / ASSIGNMENT / SOURCE.name for step in ("submitted", "autograded")
        )
        try:
            if again or not (autograded.exists() and submitted.exists() and submitted.read_text("utf-8") == text):
                submitted.parent.mkdir(parents=True, exist_ok=True)
                submitted.write_text(text, encoding="utf-8")
                self._convert(Autograde, submission.student)
            self._convert(GenerateFeedback, submission.student)
        except NbGraderException as error:
            submission.notes.append(f"nbgrader failed: {error}; see {self.out / 'grade.log'}")

    def _prepare(self, submission: Submission) -> str:
        """The notebook for nbgrader, as text; an unreadable one becomes an empty one."""
        if submission.path:
            try:
                if submission.path.stat().st_size > MAX_BYTES:
                    raise ValueError(f"more than {MAX_BYTES >> 20} MiB")
                submitted = nbformat.reads(submission.path.read_text("utf-8"), as_version=4)
                nb, touched = fill_in(nbformat.from_dict(self.released), submitted)
                text = self._as_text(nb)
            except Exception as error:  # a submission may contain anything
                what = (str(error).splitlines() or [type(error).__name__])[0]
                submission.notes.append(f"{submission.path.name} is not a notebook that can be read: {what}")
            else:
                if touched:
                    submission.notes.append(f"restored, since deleted or changed: {', '.join(touched)}")
                return text
        return self._as_text(nbformat.from_dict(self.released), unreadable="; ".join(submission.notes))

    def _as_text(self, nb, unreadable: str = "") -> str:
        nb.metadata.gluon_lenet = {"unreadable": unreadable, "version": self.version}
        text = nbformat.writes(nb)
        text.encode("utf-8")  # raises an error for half a surrogate pair, which cannot be written to a file
        return text

    def row(self, submission: Submission) -> dict[str, object]:
        """A row of grades.csv; a question not yet graded by the teacher has no score."""
        tests = {cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader.points for cell in self.tests}
        scores = dict.fromkeys(tests, 0.0)
        with Gradebook(f"sqlite:///{self.out / 'gradebook.db'}") as gradebook:
            try:
                grades = gradebook.find_submission_notebook(ASSIGNMENT, ASSIGNMENT, submission.student).grades
            except MissingEntry:
                grades = []  # nbgrader failed
            for grade in grades:
                waits = grade.auto_score is None and grade.manual_score is None
                scores[grade.name] = None if waits else grade.score
        return {
            "student": submission.student,
            **scores,
            "score": sum(score or 0 for score in scores.values()),
            "max_score": sum(tests.values()),
            "to_grade_by_hand": " ".join(name for name, score in scores.items() if score is None),
            "note": "; ".join(submission.notes),
        }

    def _convert(self, converter: type, student: str) -> None:
        course = CourseDirectory(config=self.config, assignment_id=ASSIGNMENT, student_id=glob.escape(student))
        convert = converter(coursedir=course, config=self.config, force=True)
        if converter is Autograde:
            convert.autograde_preprocessors = [
                RunApart if step is Execute else step for step in convert.autograde_preprocessors
            ]
        convert.start()


def check_folders(submissions: Path, out: Path) -> None:
    """Reject a `submissions` folder that students' code must be able to read, and an `out` with other contents.

    Raises:
        InputError: `submissions` contains what the code needs, or `out`; or `out` exists without an earlier grading.
    """
    for needed in (ROOT, Path(sys.prefix).resolve(), Path(tempfile.gettempdir()).resolve(), Path.home().resolve()):
        if needed.is_relative_to(submissions):
            raise InputError(f"{submissions} contains {needed}; give a folder that contains submissions only")
    if out.is_relative_to(submissions):
        raise InputError(f"the results cannot go into the folder of submissions; give another --out than {out}")
    if out.exists() and not (out / "gradebook.db").is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out} exists and holds no earlier grading; give another --out")
    if set(str(out)) & set("[]*?"):
        raise InputError(f"nbgrader cannot work in {out}, because of a bracket, * or ? in the path; give another --out")


def parse(argv=None) -> argparse.Namespace:
    """The command line, checked."""
    parser = cli.Parser(prog="grade.py", description="Grade a folder of submitted notebooks.")
    parser.add_argument(
        "submissions", type=folder, help=f"folder with STUDENT/{ASSIGNMENT}.ipynb or STUDENT.ipynb for each student"
    )
    parser.add_argument("--out", type=Path, help="where the results go (default: SUBMISSIONS-graded)")
    parser.add_argument("--again", action="store_true", help="also run unchanged submissions again")
    parser.add_argument(
        "--cell-seconds", type=cli.positive_float, default=120.0, metavar="S", help="limit for each cell (120)"
    )
    parser.add_argument(
        "--all-seconds", type=cli.positive_float, default=600.0, metavar="S", help="limit for each notebook (600)"
    )
    return parser.parse_args(argv)


def folder(text: str) -> str:
    """An argument type: a folder's name; it is empty if `make grade` is called without SUBMISSIONS."""
    if not text:
        raise argparse.ArgumentTypeError("name the folder of submissions: make grade SUBMISSIONS=DIR")
    return text


def grade_folder(args: argparse.Namespace) -> int:
    """Grade the submissions that `args` names; prints one line per student, then where the results are."""
    folder = Path(args.submissions).resolve()
    out = args.out.resolve() if args.out else folder.with_name(f"{folder.name}-graded")
    submissions = find_submissions(folder)
    check_folders(folder, out)
    load_dataset("fashion_mnist")  # fetched now, since students' code has no network
    out.mkdir(parents=True, exist_ok=True)
    _log_to(out / "grade.log")
    # nbgrader calls the program alembic, which is installed beside this Python
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    earlier = (out / "gradebook.db").exists()
    try:
        course = Course(out, [HERE, ROOT / ".git", folder, out], args.cell_seconds, args.all_seconds)
    except NbGraderException:
        if not earlier:
            raise
        raise InputError(f"{out} was made for other questions or tests ({out}/grade.log); give another --out") from None
    rows = []
    for submission in submissions:
        course.grade(submission, args.again)
        rows.append(course.row(submission))
        waiting = rows[-1]["to_grade_by_hand"]
        print(
            f"{submission.student}: {rows[-1]['score']:g} of {rows[-1]['max_score']:g}"
            + (f", to grade by hand: {waiting}" if waiting else "")
            + (f" ({rows[-1]['note']})" if submission.notes else ""),
            flush=True,
        )
    with open(out / "grades.csv", "w", newline="", encoding="utf-8-sig") as file:  # so that Excel reads Chinese
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print(f"scores are in {out / 'grades.csv'}, feedback in {out / 'feedback'}")
    return 0


def _log_to(path: Path) -> None:
    """Send nbgrader's log to a file, so that only our lines appear on the terminal."""
    warnings.simplefilter("ignore")
    log = logging.getLogger("traitlets")
    log.handlers, log.propagate = [logging.FileHandler(path, encoding="utf-8")], False
    log.setLevel(logging.INFO)


def main(argv=None) -> int:
    """Grade a folder; the exit status is 0 if every submission was scored (0 points count), and 2 for bad input."""
    return cli.run(lambda: grade_folder(parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
