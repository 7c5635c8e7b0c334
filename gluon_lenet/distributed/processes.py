"""A command -> a process group that ends with this process, and that can be ended within a bounded time."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_GRACE = 2.0  # seconds between SIGTERM and SIGKILL


def start(command: list[str], **kwargs) -> subprocess.Popen:
    """`subprocess.Popen` with a process group of its own; the command must call `follow_parent`."""
    environment = {**kwargs.pop("env", os.environ), "GLUON_LENET_PARENT": str(os.getpid())}
    return subprocess.Popen(command, start_new_session=True, env=environment, **kwargs)


def follow_parent() -> None:
    """Let this process be killed when the one that `start`ed it ends, however that happens.

    On Linux the kernel does it as soon as the thread ends that called `start`; elsewhere a thread looks each second.
    """
    parent = os.environ.get("GLUON_LENET_PARENT")
    if parent is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()
    if os.getppid() != int(parent):  # it ended before that
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def end(processes: list[subprocess.Popen], grace: float = _GRACE) -> None:
    """End the groups of all processes: SIGTERM, and SIGKILL for what is left after `grace` seconds; waits for them.

    A stopped process is continued, so that it can react to SIGTERM.
    """
    for process in processes:
        _signal(process, signal.SIGTERM)
        _signal(process, signal.SIGCONT)
    deadline = time.monotonic() + grace
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
    for process in processes:
        _signal(process, signal.SIGKILL)  # also those that a process which has ended left in its group
        process.wait()


def _signal(process: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
        os.killpg(process.pid, number)


def ending(status: int) -> str:
    """How a process with this `returncode` ended: "exit status 3", "killed by SIGKILL"."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal
        return f"killed by signal {-status}"
