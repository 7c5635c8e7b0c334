"""The machine and the environment -> how many threads MXNet and the kernels use."""

import os
import re
import sys
from math import ceil, inf
from pathlib import Path

from gluon_lenet.errors import InputError

MOST_THREADS = 256  # beyond a thousand, MXNet hangs or crashes on a machine of few cores

_THREADS = ("OMP_NUM_THREADS", "MXNET_OMP_MAX_THREADS")  # the first one counts


def set_default() -> None:
    """Make MXNet use the physical cores, unless the environment sets a number or MXNet is already loaded.

    Its own default is half of the logical processors, however they are divided into cores.
    """
    if not any(map(os.environ.get, _THREADS)) and "mxnet" not in sys.modules:
        os.environ["MXNET_OMP_MAX_THREADS"] = str(physical_cores())


def keep_first_numbers() -> None:
    """Shorten lists of numbers in the environment to the first one: MXNet aborts the process on a list."""
    for variable in _THREADS:
        if os.environ.get(variable):
            os.environ[variable] = _first_number(os.environ[variable])


def physical_cores() -> int:
    """The number of physical cores this process may use: hyperthreads of one core count once."""
    if not hasattr(os, "sched_getaffinity"):  # macOS on Intel: nearly every Mac has two hyperthreads per core
        return max(1, os.cpu_count() // 2)
    return min(_cores(os.sched_getaffinity(0)), _container_limit())


def _cores(cpus, system=Path("/sys/devices/system/cpu")) -> int:
    """The number of cores that these logical processors belong to."""
    try:
        return len({(system / f"cpu{cpu}/topology/thread_siblings_list").read_text() for cpu in cpus})
    except OSError:  # some sandboxes hide /sys
        return len(cpus)


def _container_limit(cgroup=Path("/sys/fs/cgroup")) -> float:
    """The processors that `docker run --cpus` or Kubernetes allow this container, at least 1; inf without a limit."""
    files = ["cpu.max"] if (cgroup / "cpu.max").exists() else ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]
    try:
        quota, period = " ".join((cgroup / file).read_text() for file in files).split()
    except OSError:
        return inf
    return inf if quota in ("max", "-1") else max(1, ceil(int(quota) / int(period)))


def set_threads(n: int) -> None:
    """Make MXNet use `n` threads; raises RuntimeError if MXNet is loaded already: it reads the number at import."""
    if "mxnet" in sys.modules:
        raise RuntimeError("set_threads() must come before the first `import mxnet`, when MXNet reads the number")
    os.environ["OMP_NUM_THREADS"] = os.environ["MXNET_OMP_MAX_THREADS"] = str(n)


def num_threads() -> int:
    """The number of CPU threads MXNet uses; raises InputError as `check_threads` does."""
    check_threads()
    for name in _THREADS:
        if os.environ.get(name):
            return int(_first_number(os.environ[name]))
    # Not set: MXNet was loaded before prepare(), and uses half of the processors.
    return max(1, (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()) // 2)


def check_threads() -> None:
    """Raise InputError unless MXNet and the kernels can use the numbers of threads in the environment.

    MXNet itself computes nothing with 0 threads, and aborts the process on text or on more threads than the system has.
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
    return text.split(",")[0].strip()  # OpenMP allows one number per level of nesting
