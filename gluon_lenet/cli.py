"""What the command lines share: argument types, one-line errors, exit statuses, closed and full streams."""

from __future__ import annotations

import argparse
import atexit
import errno
import gc
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from gluon_lenet.errors import DataError, DiskError, InputError

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130  # exit statuses

MOST_PICTURED = 1000  # images a figure can hold
MOST_EPOCHS = 1_000_000  # a step schedule lists every tenth

# New objects before a garbage collection. With the default of 700, collections take a tenth of the time to the first
# batch, and find nothing: the objects that importing MXNet, Numba and matplotlib creates all stay alive.
_COLLECT_AFTER = 100_000

# compat is imported where it is used: it needs NumPy, and doctor.py must work without NumPy.

OUTPUT_FAILS = "the standard output cannot be written"


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` with one-line errors, without the usage; rejects values that are empty or contain a NUL."""

    def error(self, message: str):
        """Print `message` and exit with status 2."""
        sys.exit(_say(f"error: {' '.join(message.split())} (see {self.prog} --help)", BAD_INPUT))

    def print_help(self, file=None):
        """Print the help; unlike argparse's own method, it raises if the output cannot be written."""
        print(self.format_help(), end="", file=file or sys.stdout)

    def parse_args(self, args=None, namespace=None):
        """The arguments; exits with status 2 if one of them is wrong."""
        namespace = super().parse_args(args, namespace)
        for name, value in vars(namespace).items():
            texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
            if "" in texts:
                self.error(f"the value of {name.replace('_', '-')} is empty; leave it out, or name something")
            if any("\0" in text for text in texts):  # only in a call from Python: the system passes none
                self.error(f"the value of {name.replace('_', '-')} has a NUL character, which no name can have")
        return namespace


def positive_int(text: str) -> int:
    """An argument type: a whole number from 1 to 2**31 - 1."""
    return _integer(text, 1, 2**31 - 1)


def port(text: str) -> int:
    """An argument type: a TCP port."""
    return _integer(text, 1, 65535)


def natural_int(text: str) -> int:
    """An argument type: a whole number from 0 to 2**31 - 1, for seeds."""
    return _integer(text, 0, 2**31 - 1)


def epochs(text: str) -> int:
    """An argument type: a number of passes over the training data."""
    return _integer(text, 1, MOST_EPOCHS)


def threads(text: str) -> int:
    """An argument type: a number of CPU threads."""
    from gluon_lenet.compat import threads

    return _integer(text, 1, threads.MOST_THREADS)


def gpus(text: str) -> int:
    """An argument type: a number of GPUs."""
    return _integer(text, 0, 64)


def positive_float(text: str) -> float:
    """An argument type: a finite number above 0."""
    return _number(text, math.inf, "a number above 0")


def degrees(text: str) -> float:
    """An argument type: an angle above 0."""
    return _number(text, 180, "an angle above 0 and of at most 180 degrees")


def _integer(text: str, least: int, most: int) -> int:
    if not re.fullmatch("[0-9]{1,20}", text) or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r:.60} is not a whole number from {least} to {most}")
    return int(text)


def _number(text: str, most: float, what: str) -> float:
    number = float(text) if re.fullmatch(r"[0-9.]{1,40}(e[+-]?[0-9]{1,4})?", text, re.IGNORECASE) and text != "." else 0
    if not 0 < number <= most or math.isinf(number):
        raise argparse.ArgumentTypeError(f"{text!r:.60} is not {what}")
    return number


def run(main: Callable[[], int]) -> int:
    """`guard` a command that may use MXNet; checks first that MXNet can run with the configured numbers of threads."""

    def checked():
        from gluon_lenet.compat import threads

        threads.check_threads()
        return main()

    return guard(checked)


def guard(main: Callable[[], int]) -> int:
    """Call `main`; turn user-facing errors, a missing MXNet and Ctrl-C into a message and an exit status."""
    thresholds = gc.get_threshold()
    gc.set_threshold(_COLLECT_AFTER, *thresholds[1:])
    try:
        with _streams():
            return _guard(main)
    finally:
        gc.set_threshold(*thresholds)


def leave(status: int) -> NoReturn:
    """End the process, for `main` of a command that loads MXNet.

    `sys.exit` would free the objects of MXNet, Numba and matplotlib one by one, which takes 0.3 s; the system frees all
    memory at once. What is registered to be done at exit is done, such as removing temporary folders.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # `run` has reported what cannot be written
            stream.flush()
    os._exit(status)


def _guard(main):
    try:
        try:
            status = main()
        finally:
            sys.stdout.flush()  # here, so that a failure can still be reported
        return status
    except InputError as error:
        return _say(f"error: {error}", BAD_INPUT)
    except (DataError, DiskError) as error:
        return _say(f"error: {error}", FAILED)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader (`head`, say) closed the pipe
        discard(sys.stdout)
        return FAILED
    except (ImportError, OSError) as error:
        if is_of_output(error):
            discard(sys.stdout)
            return _say(f"error: {OUTPUT_FAILS}: {error.strerror}", FAILED)
        from gluon_lenet import compat

        why = compat.why_no_mxnet()
        if why is None and isinstance(error, ImportError):
            raise
        named = f"{error.filename}: {error.strerror}" if getattr(error, "filename", None) else error
        return _say(f"error: {why or named}", FAILED if why is None else BAD_INPUT)


def _say(message: str, status: int) -> int:
    """Print an error, if possible, and return the exit status."""
    with suppress(OSError):
        print(" ".join(message.splitlines()) if status == BAD_INPUT else message, file=sys.stderr, flush=True)
    return status


@contextmanager
def _streams() -> Iterator[None]:
    """Make the standard streams writable: closed ones go to /dev/null, and any text can be encoded."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next opened file would get this descriptor, and with it MXNet's messages
            os.open(os.devnull, os.O_RDWR)
    streams, changed = (sys.stdout, sys.stderr), []
    sys.stdout, sys.stderr = (open(os.devnull, "w") if stream is None else stream for stream in streams)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's stream does not
            changed.append((stream, stream.errors))
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        try:
            sys.stderr.flush()
        except OSError:  # there is nowhere to report it
            discard(sys.stderr)
        for stream, errors in changed:
            stream.reconfigure(errors=errors)
        sys.stdout, sys.stderr = streams


def is_of_output(error: Exception) -> bool:
    """Whether printing raised the error: unlike an error of a file, it has no file name."""
    unnamed = isinstance(error, OSError) and not isinstance(error, DiskError) and error.filename is None
    return unnamed and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def discard(stream) -> None:
    """Discard what is left in a standard stream, so that Python does not complain at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
