"""A folder as Moodle, Canvas or GitHub Classroom export it -> one submission per student, the later of several.

    Moodle             张三_12345_assignsubmission_file_/lenet.ipynb      (or all files side by side)
    Canvas             zhangsan_LATE_12345_67890_lenet-2.ipynb
    GitHub Classroom   lenet-zhangsan/any/folder/lenet.ipynb
    by hand            张三/lenet.ipynb, 张三.ipynb

Nothing is followed or opened here but folders: links, FIFOs and devices become notes.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from authoring.course import ASSIGNMENT
from gluon_lenet.errors import InputError

MAX_BYTES = 16 << 20  # of a notebook
MAX_NAME = 120  # bytes of a student's name
MAX_DEPTH = 6  # of folders in a submission
MAX_ENTRIES = 2_000  # files and folders that are looked at in a submission
_MOODLE = re.compile(r"(?P<name>.+_\d+)_assignsubmission_(?P<what>file|onlinetext)_?(?P<file>.*)", re.DOTALL)
_CANVAS = re.compile(r"(?P<name>[^_]+)_(?:LATE_)?(?P<user>\d+)_(?P<number>\d+)_(?P<file>.+)", re.DOTALL)
_AGAIN = re.compile(r"-(\d+)$")  # Canvas numbers what is handed in again
_IGNORED = ("__MACOSX", "node_modules")


@dataclass
class Submission:
    """One student's notebook, or why there is none, and notes for the teacher."""

    student: str
    path: Path | None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Candidate:
    """A notebook that a student may have handed in last."""

    path: Path
    attempt: int
    seconds: float  # since 1970, of the file

    @property
    def order(self) -> tuple:
        return self.attempt, self.path.stem.startswith(ASSIGNMENT), self.seconds, os.fsencode(self.path)


def find_submissions(folder: Path) -> list[Submission]:
    """The submissions below `folder`, by student.

    Raises:
        InputError: there is no such folder, or no submission in it.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; name the one that holds the students' folders or notebooks")
    found: dict[str, Submission] = {}
    best: dict[str, _Candidate] = {}
    entries = _entries(_unwrapped(folder))
    prefix = _common_prefix([entry for entry in entries if _kind(entry) == "folder"])
    for entry in entries:
        named = _student(entry, prefix)
        if named is None:
            continue
        student, attempt = named
        submission = found.setdefault(student, Submission(student, None))
        candidates, notes = _candidates(entry, attempt)
        submission.notes += notes
        for candidate in candidates:
            if student in best:
                submission.notes.append("交了多份 notebook，取较晚的一份")
            if student not in best or candidate.order > best[student].order:
                best[student] = candidate
    for student, candidate in best.items():
        found[student].path = candidate.path
    for submission in found.values():
        submission.notes = list(dict.fromkeys(submission.notes))
        if submission.path is None and not submission.notes:
            submission.notes.append("没有 notebook")
    if not found:
        raise InputError(f"no submissions in {folder}; it should hold a folder or a notebook for each student")
    return [found[student] for student in sorted(found)]


def _unwrapped(folder: Path) -> Path:
    """The folder that has one entry per student: exports are often wrapped in a folder of their own."""
    for _ in range(3):
        entries = _entries(folder)
        if len(entries) != 1 or _kind(entries[0]) != "folder":
            break
        inside = _entries(entries[0])
        notebooks = [entry for entry in inside if entry.suffix == ".ipynb"]
        wrapped = any(_MOODLE.fullmatch(entry.name) or _CANVAS.fullmatch(entry.name) for entry in inside)
        if not wrapped and (notebooks or len(inside) < 2 or (entries[0] / ".git").exists()):
            break  # a student's own folder
        folder = entries[0]
    return folder


def _entries(folder: Path) -> list[Path]:
    names = [name for name in os.listdir(folder) if not name.startswith(".") and name not in _IGNORED]
    return sorted((folder / name for name in names), key=os.fsencode)


def _common_prefix(folders: list[Path]) -> str:
    """The assignment's name that GitHub Classroom puts before the students' names, such as `lenet-`."""
    if len(folders) < 2 or not all((folder / ".git").exists() for folder in folders):
        return ""
    first, last = min(folders).name, max(folders).name
    same = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first[:same].rfind("-") + 1]


def _student(entry: Path, prefix: str) -> tuple[str, int] | None:
    """Whose entry it is, and which attempt; None for what is no submission."""
    name, is_folder = entry.name, _kind(entry) == "folder"
    if match := _MOODLE.fullmatch(name):
        return (readable(match["name"]), 0) if match["what"] == "file" else None
    if not is_folder and (match := _CANVAS.fullmatch(name)):
        again = _AGAIN.search(Path(match["file"]).stem)
        return readable(f"{match['name']}_{match['user']}"), int(again[1][:9]) if again else 0
    if is_folder:
        return readable(name.removeprefix(prefix)), 0
    if entry.suffix == ".ipynb":
        return readable(entry.stem), 0
    return None if _kind(entry) == "file" else (readable(name), 0)


def readable(name: str) -> str:
    """A name that can be printed, and that nbgrader can use as a folder's; different for different names."""
    raw = os.fsencode(name)
    name = raw.decode("utf-8", "backslashreplace")
    forbidden = '/\\[]*?<>|:"+,;%'
    name = "".join(c if c.isprintable() and c not in forbidden else f"%{ord(c):02x}" for c in name)
    end = len(name.rstrip(". "))
    name = name[:end] + "".join(f"%{ord(c):02x}" for c in name[end:])
    if len(name.encode()) > MAX_NAME:
        name = name.encode()[: MAX_NAME - 17].decode(errors="ignore") + "%" + hashlib.sha256(raw).hexdigest()[:16]
    return name


def _candidates(entry: Path, attempt: int) -> tuple[list[_Candidate], list[str]]:
    """The notebooks of an entry, and notes on what is none."""
    kind = _kind(entry)
    if kind == "file":
        if entry.suffix != ".ipynb":
            return [], [f"交的不是 notebook：{readable(entry.name)}"]
        return [_Candidate(entry, attempt, _seconds(entry))], []
    if kind != "folder":
        return [], [f"{readable(entry.name)} 是{kind}，不是文件"]
    found, notes, others, left = [], [], [], MAX_ENTRIES
    for at, folders, files in os.walk(entry, followlinks=False):
        depth = len(Path(at).relative_to(entry).parts)
        if depth >= MAX_DEPTH:
            notes.append("文件夹嵌套太深，没有看完")
            folders.clear()
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in _IGNORED and not Path(at, name).is_symlink()
        )
        for name in sorted(files):
            left -= 1
            path = Path(at, name)
            if name.startswith("."):
                continue
            if path.suffix == ".ipynb":
                if _kind(path) == "file":
                    found.append(_Candidate(path, attempt, _seconds(path)))
                else:
                    notes.append(f"{readable(name)} 是{_kind(path)}，不是文件")
            else:
                others.append(name)
        left -= len(folders)
        if left < 0:
            notes.append("文件太多，没有看完")
            break
    if not found and not notes:
        notes.append("没有 notebook" + (f"，只有 {readable(others[0])}" if others else ""))
    ours = [candidate for candidate in found if candidate.path.stem.startswith(ASSIGNMENT)]
    return ours or found, notes


def _kind(path: Path) -> str:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return "无法读取的文件"
    kinds = {stat.S_IFDIR: "folder", stat.S_IFREG: "file", stat.S_IFLNK: "链接", stat.S_IFIFO: "管道（FIFO）"}
    return kinds.get(stat.S_IFMT(mode), "设备或套接字")


def _seconds(path: Path) -> float:
    return os.lstat(path).st_mtime
