"""A folder of submissions -> points, feedback, a report in a course directory: notebooks/assignments/grade.py DIR.

Results go to the folder that assign.py has made: grades.csv, report.html, feedback/STUDENT/lenet/lenet.html and
nbgrader's gradebook. Killed and started again, it goes on; called again, it runs only new and changed submissions, and
takes over the points given by hand.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout's package

from tqdm import tqdm

from assign import COURSE
from gluon_lenet import cli
from gluon_lenet.atomic import write_atomically
from gluon_lenet.data.datasets import load_dataset
from grading import fences
from grading.sight import Limits, Sight
from grading.submissions import find_submissions


def parse(argv=None) -> argparse.Namespace:
    """The command line, checked."""
    limits = Limits()
    parser = cli.Parser(prog="grade.py", description="Grade a folder of submitted notebooks.")
    parser.add_argument("submissions", type=_folder, help="as Moodle, Canvas or GitHub Classroom export them")
    parser.add_argument("--course", type=Path, default=COURSE, help=f"the teacher's folder ({COURSE.name})")
    parser.add_argument(
        "--jobs", type=cli.positive_int, default=len(os.sched_getaffinity(0)), help="at a time (all cores)"
    )
    parser.add_argument("--again", action="store_true", help="also run unchanged submissions again")
    parser.add_argument(
        "--cell-seconds",
        type=cli.positive_float,
        default=limits.cell_seconds,
        metavar="S",
        help="seconds of a processor for each cell (120)",
    )
    parser.add_argument(
        "--seconds",
        type=cli.positive_float,
        default=limits.seconds,
        metavar="S",
        help="seconds for each notebook (1200)",
    )
    parser.add_argument(
        "--memory",
        type=cli.positive_float,
        default=limits.memory / 2**30,
        metavar="GIB",
        help="limit for each notebook (3)",
    )
    parser.add_argument("--image", default=None, help="a container image, if there is neither bubblewrap nor unshare")
    parser.add_argument("--unsafe", action="store_true", help="run students' code without a fence if there is none")
    return parser.parse_args(argv)


def _folder(text: str) -> Path:
    """An argument type: a folder's name; it is empty if `make grade` is called without SUBMISSIONS."""
    if not text:
        raise argparse.ArgumentTypeError("name the folder of submissions: make grade SUBMISSIONS=DIR")
    return Path(text)


def grade(args: argparse.Namespace) -> int:
    """Grade the submissions that `args` names; the status is 1 if some could not be graded."""
    from authoring.course import locked, log_to, open_course
    from grading.classroom import Classroom

    course = open_course(args.course.resolve())
    submissions = find_submissions(args.submissions.resolve())
    load_dataset("fashion_mnist")  # fetched now, since students' code has no network
    limits = replace(
        Limits(),
        cell_seconds=args.cell_seconds,
        call_seconds=min(Limits.call_seconds, args.cell_seconds),
        seconds=args.seconds,
        memory=int(args.memory * 2**30),
    )
    sight = Sight.of_this_machine(fences.seeds())
    sight.check_hides(course.folder, args.submissions.resolve())
    fence = fences.find(sight, limits, args.image or "", args.unsafe)
    if isinstance(fence, fences.Unsafe):
        print("warning: there is no fence: students' code runs with all your rights", file=sys.stderr)
    with locked(course.folder):
        log_to(course.folder / "nbgrader.log")
        return _grade(Classroom(course, fence), submissions, args)


def _grade(classroom, submissions, args) -> int:
    from grading.classroom import worth_a_look
    from grading.gradebook import points_of
    from grading.report import Row, as_csv, as_html

    start, works = time.monotonic(), [classroom.prepare(submission) for submission in submissions]
    bar, run = tqdm(total=len(works), unit="", leave=False, disable=None), []

    def done(work, was_run):
        run.extend([work] if was_run else [])
        bar.set_description(work.student[:20], refresh=False)
        bar.update()
        if bar.disable and was_run:
            print(_line(work, len(run), len(waiting), time.monotonic() - start), flush=True)

    waiting = [work for work in works if args.again or classroom.stored(work) is None]
    try:
        classroom.grade(works, args.jobs, args.again, done)
    finally:
        bar.close()
    looks = worth_a_look(classroom, works)
    rows = [Row(work.student, points_of(classroom.course, work.student), looks.get(work.student, [])) for work in works]
    by_hand = set(classroom.questions) - set(classroom.hidden)
    folder = classroom.course.folder
    write_atomically(folder / "grades.csv", as_csv(rows, classroom.questions))
    write_atomically(folder / "report.html", as_html(rows, classroom.questions, by_hand))
    seconds = time.monotonic() - start
    each = f", {seconds / len(run):.1f} s each with {args.jobs} at a time" if run else ""
    print(f"{len(works)} submissions, {len(run)} of them run in {seconds:.0f} s{each}, in {classroom.fence.name}")
    print(f"for you: {folder / 'report.html'} and {folder / 'grades.csv'}; for students: {folder / 'feedback'}")
    failed = [work.student for work in works if work.failed]
    if failed:
        print(f"error: not graded, as the report explains: {', '.join(failed)}; start again", file=sys.stderr)
    return cli.FAILED if failed else 0


def _line(work, number: int, total: int, seconds: float) -> str:
    left = seconds / number * (total - number)
    return f"{number}/{total} {work.student}, about {left / 60:.0f} min left"


def main(argv=None) -> int:
    """Grade a folder; the exit status is 2 for bad input."""
    return cli.run(lambda: grade(parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
