"""A filled-in notebook on stdin -> its cells' outputs and points on stdout, as JSON: one process for each submission.

    python -m grading.one PARENT < job.json > result.json

PARENT is the process that waits for it, with which it ends. The student's cells run in a fence, the hidden tests here.
Whatever happens to this process concerns one student only.
"""

from __future__ import annotations

import base64
import ctypes
import os
import resource
import signal
import sys
import time

import msgspec

from grading import fences
from grading.scoring import score
from grading.session import FenceError, Session, SessionEnded
from grading.sight import Limits, Sight

ADDRESS_SPACE = 3 << 30  # bytes of this process, a third of which it needs: the tests compute with what students return
MAX_OUTPUTS = 12 << 20  # characters of all outputs
_PR_SET_PDEATHSIG = 1


class Cell(msgspec.Struct):
    """A code cell: the student's, or one of the tests, whose source is then the teacher's."""

    source: str
    points: float | None = None  # of a test


class FenceOrder(msgspec.Struct):
    """Which fence, in plain values."""

    kind: str
    sight: Sight
    limits: Limits
    core: int | None
    program: str = ""
    libraries: str = ""
    image: str = ""


class Job(msgspec.Struct):
    """All that is needed to grade a submission."""

    cells: list[Cell]
    fence: FenceOrder


class CellResult(msgspec.Struct):
    """What a cell printed, or what a test found."""

    outputs: list[list[str]] = []  # ["text", ...], ["png", base64], ["error", ...]
    points: float | None = None
    failed: bool = False


class Result(msgspec.Struct):
    """What came of a submission."""

    cells: list[CellResult]
    ended: str = ""  # why it ended early: a key of session.ENDINGS
    timeouts: int = 0
    seconds: float = 0.0
    memory: int = 0  # the most bytes that were seen in use


def order_of(fence: fences.Fence) -> FenceOrder:
    """A fence in plain values."""
    names = {name: getattr(fence, name) for name in fence.__dataclass_fields__}
    return FenceOrder(kind=type(fence).__name__, **names)


def fence_of(order: FenceOrder) -> fences.Fence:
    """The fence of these values."""
    kind = {cls.__name__: cls for cls in fences.Fence.__subclasses__()}[order.kind]
    return kind(**{name: getattr(order, name) for name in kind.__dataclass_fields__})


def grade(job: Job) -> Result:
    """Run the cells in their order; raises FenceError."""
    start, results, ended, left = time.monotonic(), [], "", MAX_OUTPUTS
    with Session(fence_of(job.fence)) as session:
        for cell in job.cells:
            result = CellResult(points=None if cell.points is None else 0.0)
            results.append(result)
            if ended:
                result.failed = True
                result.outputs = [["text", f"没有运行：{SessionEnded(ended)}"]]
                continue
            try:
                _run(cell, session, result)
            except SessionEnded as error:
                ended, result.failed = error.why, True
                result.outputs.append(["text", f"没有运行完：{error}"])
            ended = ended or session.ended
            left -= sum(len(text) for output in result.outputs for text in output)
            if left < 0 and cell.points is None:
                result.outputs = [["text", "输出太多，没有保留"]]
    return Result(results, ended, session.timeouts, time.monotonic() - start, session.most_memory)


def _run(cell: Cell, session: Session, result: CellResult) -> None:
    if cell.points is None:
        answer = session.cell(cell.source) if cell.source.strip() else {"outputs": [], "failed": False, "late": False}
        result.outputs = [
            [kind, *(base64.b64encode(text).decode() if type(text) is bytes else text for text in content)]
            for kind, *content in answer["outputs"]
        ]
        result.failed = answer["failed"]
        if answer["late"]:
            result.outputs.append(["text", f"这个单元格运行超过了 {session.limits.cell_seconds:g} 秒，被中断了"])
    else:
        found = score(cell.source, cell.points, session)
        result.points, result.failed = found.points, found.points < found.most
        result.outputs = [["text", "\n".join(found.lines)]]


def main() -> int:
    """Grade the job on stdin; the exit status is 3 if there was no fence."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # ends with `make grade`, and the fence with this
    if os.getppid() != int(sys.argv[1]):  # it has ended meanwhile
        return 1
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, most))  # the fence sets the student's own
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    out, sys.stdout = os.fdopen(os.dup(1), "wb"), sys.stderr
    try:
        result = grade(job)
    except FenceError as error:
        print(error, file=sys.stderr)
        return 3
    out.write(msgspec.json.encode(result))
    out.flush()
    return 0


if __name__ == "__main__":
    os._exit(main())
