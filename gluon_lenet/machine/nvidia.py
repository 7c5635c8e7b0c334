"""NVIDIA's driver -> its GPUs, by name and compute capability, and whether MXNet's GPU wheel has code for them.

The driver's own library, libcuda, is queried: it exists wherever a GPU can be used, numbers the GPUs as MXNet does
(both respect CUDA_VISIBLE_DEVICES, NVML does not), and keeps its functions from version to version. Only the standard
library is needed: `python -m gluon_lenet.machine.nvidia` checks the GPUs before gigabytes are installed for them.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass

# The wheel has machine code for 5.0, 6.0, 7.0, 8.0 and 8.6, which also runs on GPUs with the same major and a higher
# minor number, and no intermediate code that a driver could translate for others.
OLDEST, NEWEST = (5, 0), (8, 9)

_CUDA = 11000  # required of the driver, as cuDriverGetVersion counts: CUDA 11.7 runs on drivers of all 11.x
_NO_DEVICE, _MAJOR, _MINOR = 100, 75, 76  # of libcuda's error codes and device attributes


class DriverError(Exception):
    """There is no usable driver, or no GPU; the message is one sentence."""


@dataclass(frozen=True)
class GPU:
    """A GPU, as the driver describes it."""

    name: str
    capability: tuple[int, int]  # NVIDIA's "compute capability": the generation

    def __str__(self) -> str:
        return "{} (compute capability {}.{})".format(self.name, *self.capability)

    def why_not(self) -> str | None:
        """Why MXNet's wheel cannot compute on it, in one sentence; None if it can."""
        if OLDEST <= self.capability <= NEWEST:
            return None
        relation = "newer" if self.capability > NEWEST else "older"
        return (
            f"{self} is {relation} than the code in MXNet's last wheel, which is for compute capability 5.0 to 8.9 "
            "(Maxwell to Ada); use such a GPU, or --ctx cpu"
        )


def gpus(load: Callable = ctypes.CDLL) -> list[GPU]:
    """The GPUs, at least one, in the order of MXNet's gpu(0), gpu(1), ...

    Args:
        load: loads the driver's library.

    Raises:
        DriverError: there are none, or MXNet's wheel cannot use the driver.
    """
    try:
        driver = load("libcuda.so.1")
    except OSError:
        raise DriverError("no NVIDIA driver is installed (libcuda.so.1)") from None
    status = driver.cuInit(0)
    if status not in (0, _NO_DEVICE):
        raise DriverError(f"the NVIDIA driver does not start (cuInit returns {status}); nvidia-smi may say why")
    version, count = ctypes.c_int(), ctypes.c_int()
    if status == _NO_DEVICE or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        raise DriverError("the NVIDIA driver finds no GPU")
    if driver.cuDriverGetVersion(ctypes.byref(version)) or version.value < _CUDA:
        raise DriverError("the NVIDIA driver is too old: MXNet's wheel needs one of CUDA 11, version 450.80 or newer")
    return [_describe(driver, i) for i in range(count.value)]


def _describe(driver, i: int) -> GPU:
    device, major, minor, name = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    failed = (
        driver.cuDeviceGet(ctypes.byref(device), i)
        or driver.cuDeviceGetName(name, len(name), device)
        or driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
        or driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    )
    if failed:
        raise DriverError(f"the NVIDIA driver does not describe GPU {i} (error {failed}); nvidia-smi may say why")
    return GPU(name.value.decode(errors="replace"), (major.value, minor.value))


def main() -> int:
    """Print the GPUs; returns the exit status: 0 if MXNet's wheel can use one, or 2 after a line that says why not."""
    try:
        found = gpus()
    except DriverError as error:
        print(f"error: {error}; without GPU=1 the CPU computes", file=sys.stderr)
        return 2
    for gpu in found:
        print(gpu.why_not() or gpu)
    return 2 if all(gpu.why_not() for gpu in found) else 0


if __name__ == "__main__":
    sys.exit(main())
