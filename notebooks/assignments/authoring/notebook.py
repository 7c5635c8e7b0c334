"""A version -> the source notebook: the pages in lenet/*.md, filled in, with nbgrader's marks on its cells.

A page is Markdown. A block of code that names its purpose becomes a cell of its own:

    ```python given NAME            code that is locked
    ```python answer NAME           code that the student replaces
    ```python test NAME POINTS      a visible test, and the hidden one that decides on the points
    ```python manual NAME POINTS    code that the teacher grades
    ```text written NAME POINTS     text that the teacher grades
"""

from __future__ import annotations

import re
from math import prod
from pathlib import Path

import jinja2
import nbformat
import numpy as np
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from authoring.version import PIXELS, Version
from grading import reference

PAGES = Path(__file__).resolve().parents[1] / "lenet"
_CELL = re.compile(
    r"^```(?:python|text) (?P<kind>given|answer|test|manual|written) (?P<name>[\w-]+)(?: (?P<points>\d+))?\n"
    r"(?P<source>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_POOLING = {"max": "最大池化层（max pooling layer）", "mean": "平均池化层（average pooling layer）"}


def source_notebook(version: Version, secret: int) -> nbformat.NotebookNode:
    """The notebook with solutions and hidden tests.

    Args:
        version: what is asked.
        secret: decides on the numbers that the hidden tests use.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES),
        undefined=jinja2.StrictUndefined,
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        keep_trailing_newline=True,
    )
    values, cells = _values(version) | {"secret": secret}, []
    for page in sorted(PAGES.glob("*.md")):
        cells += _cells(environment.get_template(page.name).render(values), page.stem)
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    metadata = {"kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}}
    return new_notebook(cells=cells, metadata=metadata)


def _cells(text: str, page: str) -> list:
    cells, end = [], 0
    for number, match in enumerate(_CELL.finditer(text)):
        cells += _text_cell(text[end : match.start()], f"{page}-{number}")
        end = match.end()
        kind, name, points = match["kind"], match["name"], match["points"]
        make = new_markdown_cell if kind == "written" else new_code_cell
        cell = make(match["source"].rstrip("\n"))
        cell.metadata["nbgrader"] = _marks(
            name,
            grade=points is not None,
            solution=kind in ("answer", "manual", "written"),
            locked=kind in ("given", "test"),
        )
        if points is not None:
            cell.metadata["nbgrader"]["points"] = int(points)
        cells.append(cell)
    return cells + _text_cell(text[end:], f"{page}-end")


def _text_cell(text: str, name: str) -> list:
    if not text.strip():
        return []
    cell = new_markdown_cell(text.strip())
    cell.metadata["nbgrader"] = _marks(name, locked=True)
    return [cell]


def _marks(name: str, grade: bool = False, solution: bool = False, locked: bool = False) -> dict:
    """nbgrader's metadata of a cell."""
    marks = {"grade": grade, "grade_id": name, "locked": locked, "schema_version": 3, "solution": solution}
    return marks | {"task": False}


def _values(version: Version) -> dict[str, object]:
    """What the pages may name."""
    names = {name: getattr(version, name) for name in (*version.__dataclass_fields__, "shapes", "inputs", "params")}
    edge = abs(version.size - PIXELS) // 2
    X, K = np.arange(20.0).reshape(4, 5), np.array([[0.0, 1.0], [2.0, 3.0]])
    return names | {
        "outputs": {name: version.shapes[name][0] for name in version.inputs},
        "weight_shapes": version.weight_shapes,
        "paddings": tuple(conv.padding for conv in version.convs),
        "poolings": tuple(conv.pooling for conv in version.convs),
        "pooling_names": [_POOLING[conv.pooling] for conv in version.convs],
        "pooling_name": _POOLING[version.pool_mode],
        "total": sum(version.params.values()),
        "dense_instead": prod(version.shapes["conv1"]) * (version.size**2 + 1),
        "last_batch": 50_000 % version.batch_size or version.batch_size,
        "prepared": f"images[:, {edge}:{PIXELS - edge}, {edge}:{PIXELS - edge}]"
        if version.size < PIXELS
        else f"np.pad(images, [(0, 0), ({edge}, {edge}), ({edge}, {edge})])",
        "corr_example": reference.corr2d(X, K, **{version.correlation: (1, 2)}).tolist(),
        "pool_example": reference.pool2d(X, (2, 3), (2, 1), version.pool_mode).tolist(),
    }
