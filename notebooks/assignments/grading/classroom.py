"""Submissions and a course -> results in its folder, several at a time; what was done before a kill is not done again.

For each student, runs/STUDENT.json holds the result of the last run, with the SHA-256 of all that it depends on. The
gradebook is filled from these, one student after the other.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import nbformat

from authoring.course import Course
from gluon_lenet.atomic import read_regular, write_atomically
from gluon_lenet.errors import InputError
from grading import gradebook, likeness
from grading.fences import Fence
from grading.filling import UnreadableError, fill_in, grade_id, read
from grading.one import Cell, CellResult, Job, Result, order_of
from grading.scoring import checked
from grading.session import ENDINGS, GRACE_SECONDS, START_SECONDS
from grading.sight import ROOT
from grading.submissions import Submission, readable

ASSIGNMENTS = Path(__file__).resolve().parents[1]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # of the tests: several run at a time
MAX_RESULT = 64 << 20  # bytes of a stored result


class Stored(msgspec.Struct):
    """runs/STUDENT.json."""

    key: str
    result: Result
    recorded: str = ""  # the points that the gradebook had when the feedback was written
    is_plain: bool = False  # the student's text could not be converted, so the feedback shows it as plain text


@dataclass
class Work:
    """A submission with the notebook that is graded."""

    submission: Submission
    nb: nbformat.NotebookNode
    key: str
    readable: bool = True
    touched: list[str] = field(default_factory=list)
    failed: str = ""  # why it could not be graded, which is no fault of the student

    @property
    def student(self) -> str:
        """The student's name in the gradebook."""
        return self.submission.student


class Classroom:
    """All that is the same for every submission."""

    def __init__(self, course: Course, fence: Fence):
        self.course, self.fence = course, fence
        self.source, self.released = map(_notebook, (course.source, course.release))
        self.hidden = {grade_id(cell): cell.source for cell in self.source.cells if gradebook.is_test(cell)}
        for name, source in self.hidden.items():
            try:
                checked(source)
            except ValueError as error:
                raise InputError(f"{course.source}, test {name}: {error}") from None
        self.questions = _questions(self.released)
        if self.questions != _questions(self.source):
            raise InputError(
                f"{course.source} asks other questions than {course.release}; make it again: "
                f"make assignment SEED={course.identity.seed} COURSE={course.folder}"
            )
        gradebook.check(course)
        self.depends = hashlib.sha256(course.source.read_bytes()).hexdigest()
        cores = sorted(os.sched_getaffinity(0))
        self._cores = {core: 0 for core in cores}  # how many submissions each works on
        self._processes: set[subprocess.Popen] = set()
        self._lock = threading.Lock()

    def prepare(self, submission: Submission) -> Work:
        """Read a submission; one that cannot be read is graded like an empty one, with a note."""
        is_read, touched, nb = True, [], nbformat.from_dict(self.released)
        if submission.path is None:
            is_read = False
        else:
            try:
                nb, touched = fill_in(nb, read(submission.path))
            except UnreadableError as error:
                is_read = False
                submission.notes.append(f"{readable(submission.path.name)}：{error}")
        text = nbformat.writes(nb)
        key = hashlib.sha256(f"{self.depends} {is_read} {text}".encode()).hexdigest()
        return Work(submission, nb, key, is_read, touched)

    def grade(self, works: list[Work], jobs: int, again: bool, done: Callable[[Work, bool], object]) -> None:
        """Grade all; results go to runs/ and the gradebook.

        Args:
            works: what to grade.
            jobs: how many at a time.
            again: whether to run also what was run before.
            done: called after each, with whether it was run now.
        """
        (self.course.folder / "runs").mkdir(exist_ok=True)
        waiting = [work for work in works if again or self.stored(work) is None]
        new = {id(work) for work in waiting}
        for work in works:
            if id(work) not in new:
                self._record(work)
                done(work, False)
        with ThreadPoolExecutor(jobs) as pool:
            futures = {pool.submit(self._run, work): work for work in waiting}
            try:
                while futures:
                    finished, _ = wait(futures, return_when=FIRST_COMPLETED)
                    for future in finished:
                        work = futures.pop(future)
                        result = future.result()
                        if result is not None:
                            self._store(work, Stored(work.key, result))
                            self._record(work)
                        done(work, True)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                with self._lock:
                    for process in self._processes:
                        process.kill()
                raise

    def _run(self, work: Work) -> Result | None:
        codes = [cell for cell in work.nb.cells if cell.cell_type == "code"]
        if not work.readable:
            results = []
            for cell in codes:
                why = [["text", f"没有批改：{'；'.join(work.submission.notes)}"]] if gradebook.is_test(cell) else []
                results.append(CellResult(why, 0.0 if gradebook.is_test(cell) else None, failed=bool(why)))
            return Result(results)
        cells = [
            Cell(self.hidden[grade_id(cell)], float(cell.metadata.nbgrader.points))
            if gradebook.is_test(cell)
            else Cell(cell.source)
            for cell in codes
        ]
        for _ in range(2):  # a machine that is too busy to start a process may have time a moment later
            with self._core() as core:
                out, err, status = self._one(Job(cells, order_of(replace(self.fence, core=core))))
            if status != 3:
                break
        if status == 3:
            work.failed = (err.strip().splitlines() or ["?"])[-1]
            return None
        with suppress(msgspec.MsgspecError):
            result = msgspec.json.decode(out, type=Result)
            if len(result.cells) == len(cells):
                return result
        return Result([CellResult([], None if cell.points is None else 0.0, True) for cell in cells], ended="died")

    @contextmanager
    def _core(self):
        """The core that has the fewest submissions to work on."""
        with self._lock:
            core = min(self._cores, key=self._cores.get)
            self._cores[core] += 1
        try:
            yield core
        finally:
            with self._lock:
                self._cores[core] -= 1

    def _one(self, job: Job) -> tuple[bytes, str, int]:
        """Run one.py in a process of its own: what it wrote, its messages, its exit status."""
        limit = self.fence.limits.seconds + START_SECONDS + GRACE_SECONDS + 60
        process = subprocess.Popen(
            [sys.executable, "-m", "grading.one", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(map(str, (ASSIGNMENTS, ROOT)))},
            start_new_session=True,  # Ctrl-C reaches `make grade` alone, which ends it
        )
        with self._lock:
            self._processes.add(process)
        try:
            out, err = process.communicate(msgspec.json.encode(job), timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        finally:
            with self._lock:
                self._processes.discard(process)
        return out, err.decode(errors="replace"), process.returncode

    def _record(self, work: Work) -> None:
        """Bring gradebook and feedback up to date, unless they are; a failure concerns this student only."""
        try:
            self._bring_up_to_date(work, self.stored(work))
        except Exception as error:
            work.failed = f"nbgrader: {type(error).__name__}: {error}; see {self.course.folder / 'nbgrader.log'}"

    def _bring_up_to_date(self, work: Work, stored: Stored) -> None:
        if not stored.recorded or not gradebook.points_of(self.course, work.student):  # or the gradebook is another one
            is_plain = not gradebook.record(self.course, work.student, work.nb, stored.result.cells)
            self._store(work, Stored(work.key, stored.result, self._points(work.student), is_plain))
        elif stored.recorded != (now := self._points(work.student)):
            gradebook.feedback(self.course, work.student)
            self._store(work, Stored(work.key, stored.result, now, stored.is_plain))

    def _points(self, student: str) -> str:
        return json.dumps(gradebook.points_of(self.course, student), sort_keys=True)

    def _path(self, work: Work) -> Path:
        return self.course.folder / "runs" / f"{work.student}.json"

    def _store(self, work: Work, stored: Stored) -> None:
        write_atomically(self._path(work), msgspec.json.encode(stored))

    def stored(self, work: Work) -> Stored | None:
        """What is known of a submission; None if it has not been graded, or could not be."""
        with suppress(InputError, msgspec.MsgspecError):
            stored = msgspec.json.decode(read_regular(self._path(work), MAX_RESULT), type=Stored)
            if stored.key == work.key:
                return stored
        return None


def worth_a_look(classroom: Classroom, works: list[Work]) -> dict[str, list[str]]:
    """Student -> why the teacher should have a look at the submission."""
    why = {work.student: list(work.submission.notes) for work in works}
    for work in works:
        notes, stored = why[work.student], classroom.stored(work)
        if work.touched:
            notes.append(f"改动或删除了测试（已恢复）：{'、'.join(work.touched)}")
        if stored is None:
            notes.append(f"没有批改成：{work.failed}")
            continue
        if stored.result.ended:
            notes.append(f"中途结束：{ENDINGS.get(stored.result.ended, stored.result.ended)}")
        if stored.result.timeouts:
            notes.append(f"{stored.result.timeouts} 次超时")
        if stored.is_plain:
            notes.append("文字无法正常显示，反馈里改成了纯文本")
    everybody = likeness.pieces(_answers(classroom.released))
    submitted = {work.student: likeness.pieces(_answers(work.nb), everybody) for work in works if work.readable}
    for one, other, share in likeness.nearly_same(submitted):
        for student, like in ((one, other), (other, one)):
            why[student].append(f"与 {like} 的答案有 {share:.0%} 相同")
    solution = likeness.pieces([answer for answer in _answers(classroom.source) if answer[0] == "code"], everybody)
    for student, own in submitted.items():
        if likeness.share(own, solution) >= likeness.LIKE:
            why[student].append("与参考答案几乎相同")
    return {student: notes for student, notes in why.items() if notes}


def _notebook(path: Path):
    try:
        return nbformat.read(path, as_version=4)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; make assignment makes it again") from None
    except Exception:  # nbformat raises whatever its parts raise
        raise InputError(f"{path} is no notebook; restore it, or delete it and make assignment again") from None


def _questions(nb) -> dict[str, float]:
    """The points of what is graded, by name."""
    marks = [cell.metadata.get("nbgrader", {}) for cell in nb.cells]
    return {mark["grade_id"]: float(mark["points"]) for mark in marks if mark.get("grade")}


def _answers(nb) -> list[tuple[str, str]]:
    """Kind and source of the cells that students fill in."""
    return [
        (cell.cell_type, cell.source)
        for cell in nb.cells
        if cell.metadata.get("nbgrader", {"solution": True}).get("solution")
    ]
