"""A notebook as JSON on stdin -> the same on stdout, its cells run in a restricted kernel (fence.py), in limited time.

grade.py starts one such process for each submission:

    python run_notebook.py CELL_SECONDS ALL_SECONDS < notebook.ipynb > executed.ipynb

A cell that runs too long is interrupted and gets an error output, and the next one is run. If the kernel dies, if it
ignores the interrupt, or if the time for the whole notebook is used up, every cell from there on gets an error output.
nbgrader counts a test cell with an error output as failed.
"""

from __future__ import annotations

import json
import os
import resource
import secrets
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.v4 import new_code_cell, new_output

MEMORY_BYTES = 12 << 30  # limit of the kernel's address space, most of which is never used
FILE_BYTES = 256 << 20  # limit of each file that the kernel writes
OUTPUT_CHARS = 1_000_000  # limit of what a cell prints


class FencedClient(NotebookClient):
    """A `NotebookClient` that turns whatever a student's code does into error outputs of the cells."""

    def __init__(self, nb, cell_seconds: float, all_seconds: float):
        super().__init__(
            nb,
            kernel_name="python3",
            allow_errors=True,
            interrupt_on_timeout=True,
            error_on_timeout={"ename": "CellTimeoutError", "evalue": "", "traceback": []},
            iopub_timeout=10,
            timeout_func=self._seconds_for,
            extra_arguments=[f"--IPKernelApp.exec_files={Path(__file__).with_name('fence.py')}"],
            shutdown_kernel="immediate",
        )
        self.cell_seconds = cell_seconds
        self.deadline = time.monotonic() + all_seconds
        self.stopped = ""  # why no further cell can be run
        self.printed = 0

    def _seconds_for(self, cell) -> float:
        return max(0.1, min(self.cell_seconds, self.deadline - time.monotonic()))

    async def async_execute_cell(self, cell, cell_index, **kwargs):
        """Run one cell; nothing that the student's code does raises an exception here."""
        if cell_index == 0 and not await self._is_fenced(cell_index):
            raise RuntimeError("the kernel can read the closed folders: fence.py has no effect")
        if not self.stopped and time.monotonic() > self.deadline:
            self.stopped = "整份笔记的运行时间用完了"
        if cell.cell_type != "code":
            return cell
        is_test = cell.metadata.get("nbgrader", {}).get("grade", False)
        if not self.stopped and is_test and not await self._asserts_work(cell_index):
            self.stopped = self.stopped or "测试被做了手脚：不成立的 assert 没有报错"
        if not self.stopped:
            await self._run(cell, cell_index)
        if self.stopped and (is_test or not cell.outputs):
            cell.outputs.append(_error("NotRun", self.stopped))
        return cell

    async def _run(self, cell, cell_index):
        cell.outputs, self.printed = [], 0
        start, seconds = time.monotonic(), self._seconds_for(cell)
        try:
            await super().async_execute_cell(cell, cell_index)
        except DeadKernelError:
            self.stopped = "内核在运行这份笔记时异常退出"
        except CellTimeoutError:  # the kernel ignores the interrupt
            self.stopped = "内核不再响应"
        else:
            if time.monotonic() - start < seconds:
                return
            cell.outputs.append(_error("CellTimeoutError", f"这个单元格运行超过了 {seconds:.0f} 秒"))
            if not await self._answers(cell_index):
                self.stopped = "单元格超时之后，内核不再响应"

    async def _answers(self, cell_index) -> bool:
        """Does the kernel, which was just interrupted, still run a cell?"""
        word = secrets.token_hex(8)
        probe, limit = new_code_cell(f"print({word!r})"), self.cell_seconds
        self.cell_seconds = min(limit, 10)
        await self._probe(probe, cell_index)
        self.cell_seconds = limit
        return any(word in output.get("text", "") for output in probe.outputs)

    async def _is_fenced(self, cell_index) -> bool:
        probe = new_code_cell("import os\nos.listdir(os.environ['LENET_CLOSED'].split(os.pathsep)[0])")
        await self._probe(probe, cell_index)
        return _failed(probe, "PermissionError", "批改时")

    async def _asserts_work(self, cell_index) -> bool:
        """Does a false `assert` still fail in the kernel, or has the student's code disabled that?"""
        word = secrets.token_hex(8)
        probe = new_code_cell("__import__('numpy.testing').testing.assert_allclose([0], [1])")
        plain = new_code_cell(f"assert 0 == 1, {word!r}")
        for cell in (probe, plain):
            await self._probe(cell, cell_index)
        return _failed(probe, "AssertionError", "Mismatched") and _failed(plain, "AssertionError", word)

    async def _probe(self, cell, cell_index):
        """Run our own cell in the place of the student's cell, which is then put back."""
        students = self.nb.cells[cell_index]
        try:
            await super().async_execute_cell(cell, cell_index)
        except DeadKernelError:
            self.stopped = "内核在运行这份笔记时异常退出"
        except CellTimeoutError:
            self.stopped = "内核不再响应"
        self.nb.cells[cell_index] = students

    def process_message(self, msg, cell, cell_index):
        """Drop what a cell prints beyond `OUTPUT_CHARS`; otherwise as in `NotebookClient`."""
        if msg["msg_type"] in ("stream", "display_data", "execute_result", "update_display_data"):
            self.printed += len(json.dumps(msg["content"]))
            if self.printed > OUTPUT_CHARS:
                return None
        return super().process_message(msg, cell, cell_index)


def _failed(cell, name: str, message: str) -> bool:
    return any(
        output.output_type == "error" and output.ename == name and message in output.evalue for output in cell.outputs
    )


def _error(name: str, message: str):
    return new_output("error", ename=name, evalue=message, traceback=[f"{name}: {message}"])


def main() -> int:
    """Run the notebook on stdin; what the libraries print goes to stderr."""
    cell_seconds, all_seconds = map(float, sys.argv[1:])
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    nb = nbformat.reads(sys.stdin.read(), as_version=4)
    stdout, sys.stdout = sys.stdout, sys.stderr
    if sys.platform == "linux":  # macOS does not support it
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    client = FencedClient(nb, cell_seconds, all_seconds)
    try:
        client.execute()
    except (DeadKernelError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    for cell in nb.cells:
        if cell.cell_type == "code":
            # nbgrader counts a test cell that writes to stderr as failed; a NumPy warning is no reason for that.
            for output in cell.outputs:
                if output.output_type == "stream":
                    output.name = "stdout"
    stdout.write(nbformat.writes(nb))
    stdout.flush()
    return 0


if __name__ == "__main__":
    os._exit(main())  # a normal exit may wait for a thread of ZeroMQ that waits for a dead kernel
