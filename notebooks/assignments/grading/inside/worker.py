"""Requests on stdin -> a student's cells run, his functions called, the values sent back on stdout (wire.py).

    python worker.py

This is the student's process: whatever his code does to it, it can only change what it sends, and that is judged by its
value, elsewhere. A request is a map with `id`, `do` and `seconds`; so is its answer, with the same `id`:

    cell   source               -> outputs, failed    runs a cell as IPython does
    value  name                 -> value              a variable of the notebook
    call   name, args           -> value, args        a function of the notebook, and its arguments after the call
    run    code, values         -> value              our own code among the notebook's names: its variable `result`
"""

from __future__ import annotations

import base64
import builtins
import os
import signal
import sys
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import wire
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type
from traitlets.config import Config

MAX_PRINTED = 100_000  # characters of a cell's output
MAX_PICTURES = 1 << 20  # bytes of a cell's pictures
MAX_MESSAGE = 2_000  # characters of an error's message
MAX_TRACEBACK = 20_000  # characters
PATIENCE = 6  # by the clock, for each second of a processor
OWN_NAMES = frozenset(dir(builtins))  # of which beginners like to use some for variables


class TimeIsUp(BaseException):
    """Raised in the student's code again and again until it stops."""


class Outputs(list):
    """A cell's outputs: text, pictures, errors, as plain values and of limited size."""

    def __init__(self):
        super().__init__()
        self.printed = self.pictured = 0

    def text(self, text: str) -> None:
        """Add what was printed."""
        text = _encodable(text[: max(0, MAX_PRINTED - self.printed)])
        self.printed += len(text)
        if text and self and self[-1][0] == "text":
            self[-1][1].append(text)
        elif text:
            self.append(("text", [text]))

    def show(self, data: dict) -> None:
        """Add what was displayed: a picture if there is one, else the text."""
        picture = data.get("image/png")
        if isinstance(picture, str):
            picture = base64.b64decode(picture)
        if isinstance(picture, bytes) and self.pictured + len(picture) <= MAX_PICTURES:
            self.pictured += len(picture)
            self.append(("png", picture))
        else:
            self.text(str(data.get("text/plain", "")) + "\n")

    def error(self, name: str, message: str, traceback: str) -> None:
        """Add an exception; of thousands, only the first ones."""
        texts = [_encodable(text[:MAX_TRACEBACK]) for text in (name, message, traceback)]
        size = sum(map(len, texts))
        if self.printed + size <= MAX_PRINTED:
            self.printed += size
            self.append(("error", texts))

    def sent(self) -> list:
        """As it crosses."""
        return [[kind, "".join(content) if kind == "text" else content] for kind, content in self]


class _Printed:
    """Stands for sys.stdout and sys.stderr."""

    encoding, errors, closed = "utf-8", "replace", False

    def write(self, text):
        shell.outputs.text(str(text))
        return len(text)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def flush(self):
        pass

    def isatty(self):
        return False

    def writable(self):
        return True

    def fileno(self):
        raise OSError("no file")


class _Published(DisplayPublisher):
    def publish(self, data, metadata=None, **kwargs):
        shell.outputs.show(data)

    def clear_output(self, wait=False):
        pass


class _Hook(DisplayHook):
    def write_output_prompt(self):
        pass

    def write_format_data(self, format_dict, md_dict=None):
        shell.outputs.show(format_dict)

    def finish_displayhook(self):
        pass


class Shell(InteractiveShell):
    """IPython without a terminal."""

    displayhook_class = Type(_Hook)
    display_pub_class = Type(_Published)
    outputs = Outputs()

    def enable_gui(self, gui=None):
        """Needed by `%matplotlib inline`."""

    def ask_exit(self):
        """What `exit` does in a notebook cell: nothing."""

    def _tee(self, channel):
        """IPython keeps all that is printed, without a limit; here, `outputs` does."""
        return nullcontext()

    def _showtraceback(self, etype, evalue, stb):
        self.outputs.error(str(etype.__name__), _message(evalue), "\n".join(map(str, stb)))


def _message(error: BaseException) -> str:
    try:
        return _encodable(str(error)[:MAX_MESSAGE])
    except BaseException:
        return ""


def _encodable(text: str) -> str:
    """Text that can cross: half an emoji cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


class Clock:
    """Interrupts the student's code after so many seconds of a processor, or `PATIENCE` times as many by the clock.

    Whoever shares the machine slows the code down, but costs the student nothing.
    """

    def __init__(self):
        self.armed = False
        self._listen()

    def _listen(self):
        for number in (signal.SIGALRM, signal.SIGPROF):
            signal.signal(number, self._ring)

    def _ring(self, number, frame):
        if self.armed:
            raise TimeIsUp

    @contextmanager
    def running(self, seconds: float):
        """Let the code run for so long; raises TimeIsUp, once a second if it is caught."""
        self._listen()
        self.armed = True
        signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE * seconds, 1.0)
        try:
            yield
        finally:
            self.armed = False
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)


def cell(request, clock):
    """Run a cell; whatever happens in it becomes its outputs."""
    shell.outputs = Outputs()
    late = False
    try:
        with clock.running(request["seconds"]):
            result = shell.run_cell(request["source"], store_history=True)
            failed = not result.success
            late = isinstance(result.error_in_exec, TimeIsUp)
    except TimeIsUp:
        failed = late = True
    if late:  # without our own exception
        shell.outputs[:] = [output for output in shell.outputs if output[0] != "error"]
    return {"outputs": shell.outputs.sent(), "failed": failed, "late": late}


def value(request, clock):
    """A variable of the notebook."""
    return {"value": wire.pack(_named(request["name"]))}


def call(request, clock):
    """Call a function of the notebook with plain values."""
    function, args = _named(request["name"]), wire.unpack(request["args"])
    with clock.running(request["seconds"]):
        result = function(*args)
        return {"value": wire.pack(result), "args": wire.pack(list(args))}


def run(request, clock):
    """Run our own code among the notebook's names, but with Python's own `sum`, `list` and the like."""
    theirs = {name: value for name, value in shell.user_ns.items() if name not in OWN_NAMES}
    names = theirs | {"__name__": "tests"} | wire.unpack(request["values"])
    with clock.running(request["seconds"]):
        exec(compile(request["code"], "tests", "exec"), names)
        return {"value": wire.pack(names.get("result"))}


class Missing(Exception):
    """A name that the notebook does not define."""


def _named(name: str):
    if name not in shell.user_ns:
        raise Missing(name)
    return shell.user_ns[name]


def serve(pipe: wire.Pipe) -> None:
    """Answer requests until the pipe is closed."""
    clock, answers = Clock(), {"cell": cell, "value": value, "call": call, "run": run}
    while True:
        request = pipe.receive()
        shell.outputs = Outputs()
        try:
            answer = answers[request["do"]](request, clock)
            pipe.send({"id": request["id"], **answer})
        except (TimeIsUp, wire.WireError, Missing, BaseException) as error:
            if isinstance(error, wire.Ended):
                raise
            kind = type(error).__name__
            name = kind if isinstance(error, (TimeIsUp, wire.WireError, Missing)) else f"!{kind}"
            clock.armed = False
            pipe.send({"id": request["id"], "error": [name[:100], _message(error)]})


def main() -> None:
    """Keep the pipe for ourselves, give the student's code a notebook's streams, and serve."""
    pipe = wire.Pipe(os.dup(0), os.dup(1))
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    sys.stdout = sys.stderr = _Printed()
    sys.path[0] = ""  # as in a notebook: the current folder
    builtins.input = _no_input
    pipe.send({"id": 0, "ready": True})
    with suppress(wire.Ended):
        serve(pipe)
    os._exit(0)


def _no_input(prompt=""):
    raise EOFError("批改时没有人输入")


if __name__ == "__main__":
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "NoColor"
    config.InteractiveShell.autoindent = False
    shell = Shell.instance(config=config)
    main()
