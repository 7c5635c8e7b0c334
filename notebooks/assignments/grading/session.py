"""Requests -> a student's process in a fence and its answers, as plain values; whatever it does, an answer or an error.

`Session` starts the process, watches its time and its memory from outside, and ends it with everything it has started.
"""

from __future__ import annotations

import re
import secrets
import subprocess
import threading
import time
from contextlib import suppress
from math import prod
from typing import NamedTuple

import psutil

from grading.fences import Fence
from grading.inside import wire
from grading.sight import INSIDE

START_SECONDS = 120.0
PATIENCE = 6  # by the clock, for each second of a processor: as in worker.py
GRACE_SECONDS = 5.0  # beyond a request's time, for code that must be interrupted first
LOOK_SECONDS = 0.25  # between two looks at the memory
MAX_SIDE = 4096  # pixels of a picture
MAX_PIXELS = 64 << 20  # of all pictures together, which take 4 bytes each in a browser, and next to none in the file
ENDINGS = {
    "time": "运行时间用完了",
    "stuck": "超时之后不再响应",
    "memory": "用了太多内存",
    "garbled": "程序往不该写的地方写了数据",
    "died": "运行作业的进程中途退出了",
}


class StudentError(Exception):
    """What the student's code did instead of returning a plain value; the message is for him."""


class StudentLate(StudentError):
    """The student's code was interrupted because it took too long."""


class SessionEnded(StudentError):
    """The student's process is gone, and with it the rest of the notebook; `why` is a key of ENDINGS."""

    def __init__(self, why: str):
        super().__init__(ENDINGS[why])
        self.why = why


class FenceError(Exception):
    """The fence could not be started: nothing that the student has done."""


class _Used(NamedTuple):
    memory: int  # bytes
    seconds: float  # of a processor


class Session:
    """A student's process."""

    def __init__(self, fence: Fence):
        self.fence, self.limits = fence, fence.limits
        self.ended = ""  # a key of ENDINGS
        self.timeouts = self.most_memory = self.pixels = 0
        self.started = fence.start([fence.sight.python, str(INSIDE / "worker.py")])
        self.process = self.started.process
        self._allowed: float | None = None  # processor seconds until the request under way must have ended
        self.pipe = wire.Pipe(self.process.stdout.fileno(), self.process.stdin.fileno())
        self.deadline = time.monotonic() + START_SECONDS
        self._over = threading.Event()
        try:
            ready = self.pipe.receive(self.deadline)
        except (wire.Ended, wire.Late, wire.WireError):
            self.process.kill()
            said = self.process.stderr.read(4000).decode(errors="replace").strip()
            self.close()
            raise FenceError(f"the worker did not start: {said or self.process.returncode}") from None
        if ready != {"id": 0, "ready": True}:
            self.close()
            raise FenceError("the worker did not start")
        self.deadline = time.monotonic() + self.limits.seconds
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def cell(self, source: str) -> dict:
        """Run a cell of the notebook: its `outputs`, checked; raises SessionEnded."""
        try:
            answer = self._ask({"do": "cell", "source": source}, self.limits.cell_seconds)
        except SessionEnded:
            raise
        except StudentError as error:  # what it printed could not be sent
            answer = {"outputs": [["text", str(error)]], "failed": True}
        outputs = [output for item in _listed(answer.get("outputs")) if (output := self._output(item))]
        self.timeouts += answer.get("late") is True
        return {"outputs": outputs, "failed": answer.get("failed") is not False, "late": answer.get("late") is True}

    def value(self, name: str) -> object:
        """A variable of the notebook; raises StudentError."""
        return self._value({"do": "value", "name": name})

    def call(self, name: str, *args, seconds: float | None = None) -> object:
        """What a function of the notebook returns; raises StudentError."""
        return self.call_and_look(name, *args, seconds=seconds)[0]

    def call_and_look(self, name: str, *args, seconds: float | None = None) -> tuple[object, list]:
        """What a function of the notebook returns, and its arguments after the call; raises StudentError."""
        answer = self._ask({"do": "call", "name": name, "args": wire.pack(list(args))}, seconds)
        return _plain(answer.get("value")), _plain(answer.get("args"))

    def run(self, code: str, seconds: float | None = None, **values) -> object:
        """Run our own `code` among the notebook's names and `values`; its variable `result`. Raises StudentError."""
        return self._value({"do": "run", "code": code, "values": wire.pack(values)}, seconds)

    def close(self) -> None:
        """End the process and everything it has started."""
        if hasattr(self, "_over"):
            self._over.set()
        if self.process.poll() is None:
            self.process.kill()
        self.started.end()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=30)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()

    def _output(self, item: object) -> tuple | None:
        """One output of a cell, checked; too many pictures become text."""
        output = _output(item)
        if output and output[0] == "png":
            self.pixels += prod(_sides(output[1]))
            return output if self.pixels <= MAX_PIXELS else ("text", "图太多，没有保留")
        return output

    def _value(self, request: dict, seconds: float | None = None) -> object:
        return _plain(self._ask(request, seconds).get("value"))

    def _ask(self, request: dict, seconds: float | None) -> dict:
        if self.ended:
            raise SessionEnded(self.ended)
        number = secrets.randbits(62)
        left = self.deadline - time.monotonic()
        seconds = max(0.1, min(seconds or self.limits.call_seconds, left))
        deadline = time.monotonic() + min(PATIENCE * seconds, left) + GRACE_SECONDS
        self._allowed = self._used().seconds + seconds + GRACE_SECONDS
        try:
            self.pipe.send({"id": number, "seconds": seconds, **request}, deadline)
            answer = self.pipe.receive(deadline)
            if answer.get("id") != number:
                raise wire.WireError("another answer")
        except wire.Late:
            raise self._end("time" if time.monotonic() > self.deadline else "stuck") from None
        except wire.WireError:
            raise self._end("garbled") from None
        except wire.Ended:
            raise self._end("died") from None
        finally:
            self._allowed = None
        if "error" in answer:
            raise self._error(answer["error"])
        return answer

    def _error(self, error: object) -> StudentError:
        kind, message = (plain_text(item, 500) for item in (*_listed(error), "", "")[:2])
        if kind == "Missing":
            return StudentError(f"没有找到 {message}：请把它写出来")
        if kind == "WireError":
            return StudentError(f"结果不是普通的数、字符串或数组：{message}")
        if kind == "TimeIsUp":
            self.timeouts += 1
            return StudentLate("运行超时：是不是有死循环？")
        return StudentError(f"运行时出错：{kind.removeprefix('!')}: {message}")

    def _end(self, why: str) -> SessionEnded:
        self.ended = self.ended or why
        self.close()
        return SessionEnded(self.ended)

    def _watch(self) -> None:
        """End the session when its processes use too much memory or processor time, or its time is up."""
        while not self._over.wait(LOOK_SECONDS):
            used, allowed = self._used(), self._allowed
            self.most_memory = max(self.most_memory, used.memory)
            if used.memory > self.limits.memory:
                self.ended = "memory"
            elif allowed is not None and used.seconds > allowed:
                self.ended = "stuck"  # it has caught our interruptions
            elif time.monotonic() > self.deadline + GRACE_SECONDS:
                self.ended = "time"
            if self.ended:
                self.process.kill()
                return

    def _used(self) -> _Used:
        """What the fence's processes hold and have used together."""
        memory, seconds, processes = 0, 0.0, []
        with suppress(psutil.Error):
            processes = psutil.Process(self.process.pid).children(recursive=True)
        for process in processes:
            with suppress(psutil.Error):
                memory += process.memory_info().rss
                seconds += sum(process.cpu_times()[:2])
        if memory > self.limits.memory:  # what they share, after a fork, was counted for each; to know takes longer
            memory = sum(map(_own_memory, processes))
        return _Used(memory, seconds)


def _own_memory(process: psutil.Process) -> int:
    """Bytes that a process holds, of what it shares its part; 0 if it has ended."""
    try:
        return process.memory_full_info().pss
    except psutil.AccessDenied:  # of another user's, when students' code runs without a fence
        return process.memory_info().rss
    except psutil.Error:
        return 0


def plain_text(text: object, longest: int) -> str:
    """Text that cannot control a terminal; "" for anything else."""
    if type(text) is not str:
        return ""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)[:longest]
    text = "".join(letter for letter in text if letter in "\n\t" or letter.isprintable() or letter == "\u3000")
    return text.encode("utf-8", "replace").decode("utf-8")


def _plain(packed: object) -> object:
    try:
        return wire.unpack(packed)
    except wire.WireError as error:
        raise StudentError(f"结果不是普通的数、字符串或数组：{error}") from None


def _listed(value: object) -> list:
    return value[:1000] if type(value) is list else []


def _is_small_png(data: bytes) -> bool:
    """Whether it begins as a PNG does, of a size that a browser can show."""
    return data.startswith(b"\x89PNG\r\n\x1a\n") and all(0 < side <= MAX_SIDE for side in _sides(data))


def _sides(png: bytes) -> tuple[int, int]:
    """Width and height, as its header says."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def _output(item: object) -> tuple | None:
    """One output of a cell: ("text", text), ("png", bytes), ("error", name, message, traceback); None for others."""
    if type(item) is not list or len(item) != 2:
        return None
    kind, content = item
    if kind == "text":
        return ("text", plain_text(content, 100_000))
    if kind == "png" and type(content) is bytes and _is_small_png(content):
        return ("png", content)
    if kind == "error" and len(_listed(content)) == 3:
        return ("error", *(plain_text(text, 20_000) for text in content))
    return None
