"""The machine and the environment -> how many threads MXNet and the kernels compute with."""

import os
import re
import sys
from math import ceil, inf
from pathlib import Path

from gluon_lenet.errors import InputError

MOST_THREADS = 256  # beyond a thousand, MXNet hangs or crashes on a machine of few cores

_THREADS = ("OMP_NUM_THREADS", "MXNET_OMP_MAX_THREADS")  # the first one counts


def set_default() -> None:
    """Let MXNet use the physical cores, if the environment does not say and MXNet is not loaded.

    It takes half of the logical processors by default, however they are divided into cores.
    """
    if not any(map(os.environ.get, _THREADS)) and "mxnet" not in sys.modules:
        os.environ["MXNET_OMP_MAX_THREADS"] = str(physical_cores())


def keep_first_numbers() -> None:
    """Shorten the environment's lists of numbers to the first: MXNet reads one, and ends the process at a list."""
    for variable in _THREADS:
        if os.environ.get(variable):
            os.environ[variable] = _first_number(os.environ[variable])


def physical_cores() -> int:
    """The number of physical cores this process may keep busy: hyperthreads of one core count once."""
    if not hasattr(os, "sched_getaffinity"):  # macOS on Intel: two hyperthreads a core on nearly every Mac
        return max(1, os.cpu_count() // 2)
    return min(_cores(os.sched_getaffinity(0)), _container_limit())


def _cores(cpus, system=Path("/sys/devices/system/cpu")) -> int:
    """The number of cores that these logical processors belong to."""
    try:
        return len({(system / f"cpu{cpu}/topology/thread_siblings_list").read_text() for cpu in cpus})
    except OSError:  # some sandboxes hide /sys
        return len(cpus)


def _container_limit(cgroup=Path("/sys/fs/cgroup")) -> float:
    """The processors `docker run --cpus` or Kubernetes leave to this container, at least 1; inf without a limit."""
    files = ["cpu.max"] if (cgroup / "cpu.max").exists() else ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]
    try:
        quota, period = " ".join((cgroup / file).read_text() for file in files).split()
    except OSError:
        return inf
    return inf if quota in ("max", "-1") else max(1, ceil(int(quota) / int(period)))


def set_threads(n: int) -> None:
    """Let MXNet compute with `n` threads; raises RuntimeError once MXNet is loaded: it reads the number only then."""
    if "mxnet" in sys.modules:
        raise RuntimeError("set_threads() must come before the first `import mxnet`: MXNet reads the number only then")
    os.environ["OMP_NUM_THREADS"] = os.environ["MXNET_OMP_MAX_THREADS"] = str(n)


def num_threads() -> int:
    """The number of CPU threads MXNet computes with; raises InputError as `check_threads`."""
    check_threads()
    for name in _THREADS:
        if os.environ.get(name):
            return int(_first_number(os.environ[name]))
    # Nothing told MXNet: it was loaded before prepare(), and took half of the processors.
    return max(1, (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()) // 2)


def check_threads() -> None:
    """Raise InputError unless the environment's numbers of threads are ones that MXNet and the kernels can use.

    MXNet itself computes nothing with none, and ends the process at a text, or at more threads than the system has.
    """
    for name in _THREADS:
        text = os.environ.get(name)
        if text and not re.fullmatch("[0-9]{1,9}", _first_number(text)):
            raise InputError(f"the environment variable {name} is {text!r:.60}, no number of threads; unset it")
        if text and not 1 <= int(_first_number(text)) <= MOST_THREADS:
            raise InputError(
                f"the environment variable {name} is {text:.60}; it must be a number of threads from 1 to "
                f"{MOST_THREADS}, or unset"
            )


def _first_number(text: str) -> str:
    return text.split(",")[0].strip()  # OpenMP allows one for each level of nesting
