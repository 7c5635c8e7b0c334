"""What the command lines share: argument types, one-line errors, exit statuses."""

from __future__ import annotations

import argparse
import gc
import math
import os
import sys
from collections.abc import Callable

from gluon_lenet import compat
from gluon_lenet.errors import DataError, InputError

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130  # exit statuses

# New objects until Python looks for garbage. By default 700, and a tenth of the time until the first batch goes into
# looking through what importing MXNet, Numba and matplotlib has made, none of which is garbage.
_COLLECT_AFTER = 100_000


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line, without the usage."""

    def error(self, message: str):
        """Print `message` and leave with status 2."""
        self.exit(BAD_INPUT, f"error: {message} (see {self.prog} --help)\n")


def positive_int(text: str) -> int:
    """An argument type: a whole number of at least 1."""
    return _number(text, int, lambda n: n >= 1, "a whole number of at least 1")


def natural_int(text: str) -> int:
    """An argument type: a whole number from 0 to 2**31 - 1, as seeds are."""
    return _number(text, int, lambda n: 0 <= n < 2**31, "a whole number from 0 to 2147483647")


def positive_float(text: str) -> float:
    """An argument type: a finite number above 0."""
    return _number(text, float, lambda x: x > 0 and math.isfinite(x), "a number above 0")


def _number(text: str, convert: type, is_right: Callable, what: str):
    try:
        number = convert(text)
    except ValueError:
        number = None
    if number is None or not is_right(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return number


def run(main: Callable[[], int]) -> int:
    """Call `main`; the errors made for the user, a missing MXNet and Ctrl-C become a message and an exit status."""
    thresholds = gc.get_threshold()
    gc.set_threshold(_COLLECT_AFTER, *thresholds[1:])
    try:
        status = main()
        print(end="", flush=True)  # while a closed pipe can still be caught
        return status
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # who reads our output, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
        return FAILED
    except (ImportError, OSError) as error:
        why = compat.why_no_mxnet()
        if why is None and isinstance(error, ImportError):
            raise
        print(f"error: {why or error}", file=sys.stderr)  # a full disk, say, with its file
        return FAILED if why is None else BAD_INPUT
    finally:
        gc.set_threshold(*thresholds)
    return BAD_INPUT
