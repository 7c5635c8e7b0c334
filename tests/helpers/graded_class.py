"""A class with its course, its submissions and decoys beside them; `make grade`, disturbed or not; what comes of it."""

import csv
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil

import planted
from conftest import ROOT
from gluon_lenet.data import cache
from planted import cell_of, with_answers

ASSIGNMENTS = ROOT / "notebooks" / "assignments"


class Class:
    """A graded class: its folders, the rows of grades.csv, and how the grading went."""

    def __init__(self, tmp: Path, limits: list[str]):
        self.limits = limits
        self.course, self.submissions = tmp / "course", tmp / "submissions"
        self.home, self.other_course = tmp / "decoy", tmp / "other-course"
        (self.home / ".ssh").mkdir(parents=True)
        for name in (".bashrc", ".ssh/id_ed25519", "thesis.docx"):
            (self.home / name).write_text(f"SECRET {name}")
        xdg = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        self.environment = os.environ | {
            "HOME": str(self.home),
            "XDG_CACHE_HOME": xdg,
            "GLUON_LENET_DATA": str(cache.cache_dir().resolve()),
            "GRADER_TOKEN": "SECRET",
            "PYTHONOPTIMIZE": "1",  # must not take the assertions out of the tests
        }
        self.command("assign.py", str(planted.SEED))
        shutil.copytree(self.course, self.other_course)
        self.released = nbformat.read(self.course / "release" / "lenet" / "lenet.ipynb", as_version=4)
        self.source = nbformat.read(self.course / "source" / "lenet" / "lenet.ipynb", as_version=4)

    def command(self, script: str, *args: str) -> str:
        """What a command line prints."""
        command = [sys.executable, str(ASSIGNMENTS / script), *args, "--course", str(self.course)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=1500)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def hand_in(self, student: str, answers: dict) -> Path:
        """A student's folder with his notebook in it."""
        path = self.submissions / student / "lenet.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(with_answers(self.released, self.source, answers), path)
        return path

    def untouched(self) -> dict[str, str]:
        """The SHA-256 of every file that grading has no business to change."""
        tracked = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True)
        files = [ROOT / name for name in tracked.stdout.split("\0") if name and (ROOT / name).is_file()]
        for folder in (self.home, self.other_course, self.submissions, self.course / "source", self.course / "release"):
            files += [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        listed = {str(path): str(path.stat().st_mode) for path in (self.home, self.submissions, self.other_course)}
        return listed | {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}

    def grade_killing(self, kills: list[int]) -> list[int]:
        """Grade, killed whenever so many more results are there; how many each part has run."""
        command = [sys.executable, str(ASSIGNMENTS / "grade.py"), str(self.submissions), *self.limits]
        command += ["--course", str(self.course)]
        counts, before = [], 0
        for number in [*kills, None]:
            with open(self.course.with_name("log"), "w+") as log:
                process = subprocess.Popen(
                    command, env=self.environment, stdout=log, stderr=log, start_new_session=True
                )
                while process.poll() is None and (number is None or self.results() < before + number):
                    time.sleep(0.2)
                if number is not None and process.poll() is None:
                    family = psutil.Process(process.pid).children(recursive=True)
                    assert len(family) >= 2
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    _, alive = psutil.wait_procs(family, timeout=30)
                    assert not alive, alive
                log.seek(0)
                self.said = log.read()
            assert process.returncode == (-signal.SIGKILL if number is not None else 0), self.said
            counts.append(self.results() - before)
            before = self.results()
        return counts

    def results(self) -> int:
        """How many submissions have been run."""
        return len(list((self.course / "runs").glob("*.json"))) if (self.course / "runs").exists() else 0

    def read(self) -> dict[str, dict]:
        """grades.csv by student."""
        with open(self.course / "grades.csv", encoding="utf-8-sig", newline="") as file:
            return {row["student"]: row for row in csv.DictReader(file)}

    def notebook(self, student: str):
        """What nbgrader's Formgrader shows."""
        return nbformat.read(self.course / "autograded" / student / "lenet" / "lenet.ipynb", as_version=4)

    def printed(self, student: str, name: str) -> str:
        """What a cell of the graded notebook printed."""
        outputs = cell_of(self.notebook(student), name).outputs
        return "".join(output.get("text", "") for output in outputs)
