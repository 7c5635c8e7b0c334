"""devices.py: what a --ctx text means, and which of the reasons a GPU has for not computing."""

import mxnet as mx
import pytest

from gluon_lenet import devices
from gluon_lenet.errors import InputError


def test_try_gpu_returns_a_device_that_computes():
    ctx = devices.try_gpu()
    assert (mx.nd.ones((2,), ctx=ctx) * 3).asnumpy().tolist() == [3, 3]
    for ctx in devices.try_all_gpus():
        assert mx.nd.ones((1,), ctx=ctx).asscalar() == 1


@pytest.mark.parametrize(
    ("text", "contexts"),
    [
        ("cpu", [mx.cpu()]),
        ("cpu(1)", [mx.cpu(1)]),
        ("cpu(0),cpu(1)", [mx.cpu(0), mx.cpu(1)]),
        (" cpu(0) , cpu(3) ", [mx.cpu(0), mx.cpu(3)]),
        ("auto", [devices.try_gpu()]),
    ],
)
def test_ctx_texts(text, contexts):
    assert devices.parse_ctx(text) == contexts


@pytest.mark.parametrize("text", ["", "tpu", "gpu(-1)", "gpu()", "cpu(0),", "cuda:0", "gpu(0)x", "CPU", "cpu;cpu(1)"])
def test_unknown_ctx_names_the_choices(text):
    with pytest.raises(InputError, match=r"unknown context .*; choose from auto, cpu, gpu"):
        devices.parse_ctx(text)


def test_ctx_lists_that_make_no_sense():
    with pytest.raises(InputError, match="names a device twice"):
        devices.parse_ctx("cpu,cpu(0)")
    with pytest.raises(InputError, match="mixes cpu and gpu"):
        devices.parse_ctx("cpu,gpu")


def test_a_gpu_that_is_asked_for_computes_or_is_an_error():
    why = devices.why_no_gpu(0)
    if why is None:
        assert devices.parse_ctx("gpu") == [mx.gpu(0)]
    else:
        with pytest.raises(InputError, match=r"gpu\(0\) cannot be used: ") as raised:
            devices.parse_ctx("gpu")
        assert why in str(raised.value)


# What MXNet says on a GPU that its kernels do not reach, as read off its source; needs such a GPU to see live.
NO_KERNEL = "Check failed: err == cudaSuccess (209 vs. 0) : Name: mxnet_op ErrStr:no kernel image is available"


@pytest.mark.parametrize(
    ("has_cuda", "num_gpus", "error", "says"),
    [
        (False, 0, None, "CPU wheel.*pip .*mxnet-cu"),
        (True, 0, None, "no NVIDIA driver or device"),
        (True, 1, None, r"has 1 GPU\(s\): gpu\(0\)"),
        (True, 3, NO_KERNEL, "newer than the wheel's kernels"),
        (True, 3, "CUDA: out of memory", "does not compute: CUDA: out of memory"),
    ],
)
def test_the_reasons_a_gpu_has(has_cuda, num_gpus, error, says):
    import re

    assert re.search(says, devices.explain_gpu(1, has_cuda, num_gpus, error))


def test_a_gpu_without_a_reason_computes():
    assert devices.explain_gpu(0, has_cuda=True, num_gpus=1, error=None) is None
