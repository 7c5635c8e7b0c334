"""A submitted file and the released notebook -> the notebook that is graded: their answers and cells in our notebook.

Nothing else in a submission has an effect: cells that were deleted, moved, copied or locked, points, tags, outputs.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import warnings
from math import prod
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader.utils import is_grade, is_solution
from PIL import Image

from gluon_lenet.atomic import read_regular
from gluon_lenet.errors import DiskError, InputError
from grading.submissions import MAX_BYTES

MAX_CELLS = 500
MAX_SOURCE = 200_000  # characters of all cells
MAX_PICTURES = 8 << 20  # characters of pasted pictures
MAX_PIXELS = 64 << 20  # of pasted pictures, of a text cell: a file of a few kB can hold billions
PICTURES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/gif": "GIF"}
_INVISIBLE = "\u200b"  # a space of no width
# HTML and MathJax's commands that reach beyond formulas: a page that a teacher opens must not run a student's script.
_ACTIVE = re.compile(
    r"<(?=[A-Za-z/!?])|\\(?=(?:href|url|unicode|style|class|cssId|html\w*|data|require|mmlToken|includegraphics)\b)"
)


class UnreadableError(Exception):
    """A file that is no notebook; the message says why."""


class Cell:
    """A cell of a submitted notebook: all of it that can have an effect."""

    def __init__(self, kind: str, source: str, grade_id: str | None, pictures: dict):
        self.kind, self.source, self.grade_id, self.pictures = kind, source, grade_id, pictures


def read(path: Path) -> list[Cell]:
    """The cells of a submitted file; raises UnreadableError, whatever the file holds."""
    try:
        data = read_regular(path, MAX_BYTES)
    except (InputError, DiskError) as error:
        if "at most" in str(error):
            raise UnreadableError(f"文件超过 {MAX_BYTES >> 20} MiB") from None
        raise UnreadableError("文件无法读取") from None
    try:
        notebook = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UnreadableError("不是 UTF-8 文本") from None
    except (ValueError, RecursionError, MemoryError):
        raise UnreadableError("不是 notebook（不是完整的 JSON）") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise UnreadableError("不是 notebook（没有单元格）")
    if len(cells) > MAX_CELLS:
        raise UnreadableError(f"单元格超过 {MAX_CELLS} 个")
    result = [_cell(cell) for cell in cells if isinstance(cell, dict)]
    if sum(len(cell.source) for cell in result) > MAX_SOURCE:
        raise UnreadableError(f"代码和文字超过 {MAX_SOURCE:,} 个字符")
    return result


def _cell(cell: dict) -> Cell:
    source = cell.get("source", "")
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    source = source if isinstance(source, str) else ""
    source = source.encode("utf-8", "replace").decode("utf-8").replace("\0", "�")  # half a surrogate pair
    marks = cell.get("metadata")
    for name in ("nbgrader", "grade_id"):
        marks = marks.get(name) if isinstance(marks, dict) else None
    kind = "code" if cell.get("cell_type") == "code" else "markdown"
    return Cell(kind, source, marks if isinstance(marks, str) else None, _pictures(cell.get("attachments")))


def _pictures(attachments: object) -> dict:
    """Pictures pasted into a text cell, if that is what they are."""
    pictures, left, pixels = {}, MAX_PICTURES, MAX_PIXELS
    for name, kinds in attachments.items() if isinstance(attachments, dict) else ():
        for kind, data in kinds.items() if isinstance(kinds, dict) else ():
            left -= len(data) if isinstance(data, str) else 0
            if kind in PICTURES and isinstance(data, str) and left >= 0 and re.fullmatch(r"[\w. -]{1,100}", name):
                try:
                    size = _pixels(base64.b64decode(data, validate=True), PICTURES[kind])
                except (binascii.Error, ValueError):
                    continue
                pixels -= size
                if pixels >= 0:
                    pictures[name] = {kind: data}
    return pictures


def _pixels(data: bytes, kind: str) -> int:
    """How many pixels a picture has by its header; raises ValueError if it is none of this kind."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures
            return prod(Image.open(io.BytesIO(data), formats=[kind]).size)
    except Exception:  # Pillow's readers raise anything on broken bytes
        raise ValueError(f"no {kind}") from None


def fill_in(released, submitted: list[Cell]):
    """Put the student's answers and own cells into the released notebook, whose other cells stay unchanged.

    If an answer cell was copied, the last copy counts.

    Returns:
        The notebook, and the names of the cells that were deleted or changed, of those that are tests or locked.
    """
    known = {grade_id(cell): cell for cell in released.cells}
    last = {cell.grade_id: index for index, cell in enumerate(submitted)}
    theirs, own, place = {}, {}, None
    for index, cell in enumerate(submitted):
        if cell.grade_id in known and (last[cell.grade_id] == index or not is_solution(known[cell.grade_id])):
            place, theirs[cell.grade_id] = cell.grade_id, cell
        elif cell.source.strip():
            own.setdefault(place, []).append(_own(cell))
    cells, touched = own.get(None, []), []
    for name, cell in known.items():
        if is_solution(cell):
            _answer(theirs.get(name), cell)
        elif is_grade(cell) and (name not in theirs or theirs[name].source.strip() != cell.source.strip()):
            touched.append(name)
        cells += [cell, *own.get(name, [])]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    return new_notebook(cells=cells, metadata=released.metadata), touched


def grade_id(cell) -> str | None:
    """nbgrader's name of a cell."""
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def _own(cell: Cell):
    if cell.kind == "code":
        return new_code_cell(cell.source)
    return _answer(cell, new_markdown_cell())


def _answer(theirs: Cell | None, cell):
    if theirs is not None:
        cell.source = theirs.source
        if cell.cell_type == "markdown":
            cell.source = harmless(theirs.source)
            if theirs.pictures:
                cell.attachments = nbformat.from_dict(theirs.pictures)
    return cell


def harmless(text: str) -> str:
    """Markdown that looks the same, but in which tags and MathJax's commands beyond formulas are text."""
    return _ACTIVE.sub(lambda match: match[0] + _INVISIBLE, text)
