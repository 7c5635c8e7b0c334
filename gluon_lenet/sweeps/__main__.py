"""One training of a sweep, in a process of its own: a trial as JSON on stdin -> its result as JSON on stdout."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stdout

import msgspec

from gluon_lenet import cli
from gluon_lenet.compat.threads import num_threads, set_threads
from gluon_lenet.distributed.processes import follow_parent


def main() -> int:
    """Compute the result of one trial; whatever else is printed goes to stderr."""
    follow_parent()
    answer = os.dup(1)
    os.dup2(2, 1)
    from gluon_lenet.sweeps.trials import Trial

    trial = msgspec.json.decode(sys.stdin.buffer.read(), type=Trial)
    if trial.threads != num_threads():
        set_threads(trial.threads)
    from gluon_lenet.console import Console
    from gluon_lenet.sweeps.measure import measure  # here: MXNet reads the number of threads when it is loaded

    with redirect_stdout(io.StringIO()) as printed, Console(quiet=False) as console:
        result = measure(trial, console)
    with open(answer, "wb") as file:
        file.write(msgspec.json.encode(msgspec.structs.replace(result, printed=printed.getvalue().rstrip())))
    return 0


if __name__ == "__main__":
    cli.leave(cli.run(main))
