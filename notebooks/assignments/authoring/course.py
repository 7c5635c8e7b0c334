"""A folder and a version -> nbgrader's course directory: the source with solutions, the students' release, a gradebook.

course.json in it says which version it is, and holds the secret number from which the hidden tests draw theirs.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import secrets
import sys
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import nbformat
from filelock import FileLock, Timeout
from nbgrader.converters import GenerateAssignment
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config, PyFileConfigLoader

from authoring.notebook import source_notebook
from authoring.version import make_version
from gluon_lenet.atomic import read_regular, write_atomically
from gluon_lenet.errors import InputError

ASSIGNMENT = "lenet"
NOTEBOOK = f"{ASSIGNMENT}.ipynb"
CONFIG = "nbgrader_config.py"


class Identity(msgspec.Struct):
    """course.json."""

    seed: int
    secret: int
    sha256: str  # of the source as it was generated


@dataclass
class Course:
    """A course directory."""

    folder: Path
    identity: Identity

    @property
    def source(self) -> Path:
        """The notebook with solutions and hidden tests."""
        return self.folder / "source" / ASSIGNMENT / NOTEBOOK

    @property
    def release(self) -> Path:
        """The students' notebook."""
        return self.folder / "release" / ASSIGNMENT / NOTEBOOK

    @property
    def config(self) -> Config:
        """nbgrader's configuration, as `nbgrader` itself would read it in the folder."""
        config = PyFileConfigLoader(CONFIG, str(self.folder)).load_config()
        config.CourseDirectory.root = str(self.folder)
        return config

    def convert(self, converter: type, student: str = ".") -> None:
        """Run one of nbgrader's converters; raises NbGraderException."""
        config = self.config
        course = CourseDirectory(config=config, assignment_id=ASSIGNMENT, student_id=glob.escape(student))
        converter(coursedir=course, config=config, force=True).start()


def make_course(folder: Path, seed: int) -> tuple[Course, bool]:
    """Make the assignment of this seed in `folder`, or make it again.

    A source that was changed by hand is kept, and released as it is.

    Returns:
        The course, and whether its source was kept.

    Raises:
        InputError: the folder holds something else, or another seed's assignment.
    """
    _check(folder)
    if (folder / "course.json").exists():
        course = open_course(folder)
        if course.identity.seed != seed:
            raise InputError(f"{folder} holds the assignment of SEED={course.identity.seed}; name another COURSE")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and holds no assignment; name another COURSE")
    else:
        course = Course(folder, Identity(seed, secrets.randbits(60), ""))
    text = nbformat.writes(source_notebook(make_version(seed), course.identity.secret)).encode()
    course.source.parent.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o700)  # it holds the solutions
    with locked(folder):
        return course, _write(course, text)


def _write(course: Course, text: bytes) -> bool:
    """Fill the course's folder; whether its source, which was changed by hand, was kept."""
    folder = course.folder
    kept = course.source.exists() and hashlib.sha256(course.source.read_bytes()).hexdigest() != course.identity.sha256
    if not kept:
        write_atomically(course.source, text)
        course.identity.sha256 = hashlib.sha256(text).hexdigest()
    write_atomically(folder / CONFIG, (Path(__file__).parents[1] / CONFIG).read_bytes())
    write_atomically(folder / "course.json", json.dumps(msgspec.to_builtins(course.identity), indent=1).encode())
    log_to(folder / "nbgrader.log")
    course.convert(GenerateAssignment)
    return kept


@contextmanager
def locked(folder: Path):
    """Keep other programs of ours out of a course's folder; raises InputError if one works there."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another `make grade` or `make assignment` works in {folder}; wait for it") from None
    try:
        yield
    finally:
        lock.release()


def open_course(folder: Path) -> Course:
    """The course in a folder that `make_course` has made; raises InputError."""
    _check(folder)
    with suppress(InputError, msgspec.MsgspecError):
        return Course(folder, msgspec.json.decode(read_regular(folder / "course.json", 1 << 20), type=Identity))
    raise InputError(f"{folder} holds no assignment; make one: make assignment SEED=N COURSE={folder}")


def log_to(path: Path) -> None:
    """Send nbgrader's log to a file, so that only our lines appear on the terminal."""
    # nbgrader calls the program alembic, which is installed beside this Python
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    warnings.simplefilter("ignore")
    log = logging.getLogger("traitlets")
    log.handlers, log.propagate = [logging.FileHandler(path, encoding="utf-8")], False
    log.setLevel(logging.INFO)


def _check(folder: Path) -> None:
    if set(str(folder)) & set("[]*?"):
        raise InputError(f"nbgrader cannot work in {folder}, because of a bracket, * or ? in the path")


__all__ = [
    "ASSIGNMENT",
    "NOTEBOOK",
    "Course",
    "Identity",
    "NbGraderException",
    "locked",
    "log_to",
    "make_course",
    "open_course",
]
