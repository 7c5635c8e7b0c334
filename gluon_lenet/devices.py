"""A device's name, "gpu(1)" or "cpu(0),cpu(1)", -> the mx.Context for it; and why a GPU cannot be used."""

from __future__ import annotations

import re

import mxnet as mx

from gluon_lenet.errors import InputError
from gluon_lenet.machine import nvidia

INSTALL_GPU_WHEEL = "make train GPU=1, or pip install --no-deps -r requirements-gpu.txt in an environment of its own"


def try_gpu(i: int = 0) -> mx.Context:
    """`gpu(i)` if that GPU works, else `cpu()`.

    The book's version returns any GPU that exists, even one that the wheel has no code for, and the next cell fails.
    """
    return mx.gpu(i) if why_no_gpu(i) is None else mx.cpu()


def try_all_gpus() -> list[mx.Context]:
    """Every GPU that works, or `[cpu()]`."""
    return [mx.gpu(i) for i in range(_num_gpus()) if why_no_gpu(i) is None] or [mx.cpu()]


def parse_ctx(text: str) -> list[mx.Context]:
    """The contexts that a `--ctx` text names: `auto`, or a list like `cpu`, `gpu`, `gpu(1)`, `cpu(0),cpu(1)`.

    `auto` is `gpu(0)` if it works, else the CPU; a GPU that is named must work.

    Raises:
        InputError: the text names no device, names one twice, mixes CPU and GPU, or names a GPU that cannot be used.
    """
    if text.strip() == "auto":
        return [try_gpu()]
    names = [name.strip() for name in text.split(",")]
    matches = [re.fullmatch(r"(cpu|gpu)(?:\((\d{1,3})\))?", name) for name in names]
    for name, match in zip(names, matches, strict=True):
        if match is None:
            raise InputError(f"unknown context {name!r}; choose from auto, cpu, gpu, gpu(1), or a list: cpu(0),cpu(1)")
    contexts = [mx.Context(match[1], int(match[2] or 0)) for match in matches]
    if len(set(contexts)) < len(contexts):
        raise InputError(f"context list {text!r} names a device twice; name each once")
    if len({ctx.device_type for ctx in contexts}) > 1:
        raise InputError(f"context list {text!r} mixes cpu and gpu; choose one kind")
    for ctx in contexts:
        if ctx.device_type == "gpu" and (why := why_no_gpu(ctx.device_id)):
            raise InputError(f"{ctx} cannot be used: {why}")
    return contexts


def why_no_gpu(i: int = 0) -> str | None:
    """Why `gpu(i)` cannot compute, in one line; None if it can.

    The driver is asked first: on a GPU that the wheel has no code for, MXNet fails only when a value is read back.
    """
    if not mx.runtime.Features().is_enabled("CUDA"):
        return f"this is MXNet's CPU wheel; for an NVIDIA GPU: {INSTALL_GPU_WHEEL}"
    try:
        gpus = nvidia.gpus()
    except nvidia.DriverError as error:
        return f"{error}; --ctx cpu works"
    if i >= len(gpus):
        return f"this machine has {len(gpus)} GPU(s): {', '.join(f'gpu({k}) {gpu}' for k, gpu in enumerate(gpus))}"
    return gpus[i].why_not() or _probe(i)


def _num_gpus() -> int:
    try:
        return len(nvidia.gpus())
    except nvidia.DriverError:
        return 0


def _probe(i: int) -> str | None:
    """The error, in one line, when `gpu(i)` adds two numbers and the sum is read back; None if the sum is right."""
    try:
        total = (mx.nd.ones((1,), ctx=mx.gpu(i)) + 1).asscalar()
    except mx.base.MXNetError as error:
        # MXNet puts its stack trace before or after the message: show the line that mentions CUDA
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = next((line for line in lines if "CUDA" in line or "cuda" in line), lines[0] if lines else "unknown")
        return f"it does not compute: {why}"
    return None if total == 2 else f"it does not compute: 1 + 1 gave {total}"
