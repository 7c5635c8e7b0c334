"""devices.py: parsing of --ctx, and the reasons why a GPU cannot be used."""

import subprocess

import mxnet as mx
import pytest

from conftest import ROOT
from gluon_lenet import devices
from gluon_lenet.errors import InputError
from gluon_lenet.machine import nvidia


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


# --- a stand-in for NVIDIA's driver, since most machines that run these tests have none -------------------------------


class Driver:
    """A fake libcuda: functions that write through pointers and return an error code."""

    def __init__(self, *gpus, init=0, version=12040):
        self.gpus, self.init, self.version = gpus, init, version

    def cuInit(self, flags):
        return self.init

    def cuDriverGetVersion(self, version):
        version._obj.value = self.version
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.gpus)
        return 0

    def cuDeviceGet(self, device, i):
        device._obj.value = i
        return 0

    def cuDeviceGetName(self, name, size, device):
        name.value = self.gpus[device.value].name.encode()
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = self.gpus[device.value].capability[{75: 0, 76: 1}[attribute]]
        return 0


OLD, GOOD, NEW = (
    nvidia.GPU(*row) for row in [("Tesla K80", (3, 7)), ("NVIDIA GeForce RTX 4090", (8, 9)), ("NVIDIA H100", (9, 0))]
)


def test_the_driver_names_its_gpus_and_their_capabilities():
    assert nvidia.gpus(lambda name: Driver(GOOD, NEW, OLD)) == [GOOD, NEW, OLD]


@pytest.mark.parametrize(
    ("driver", "says"),
    [
        (Driver(GOOD, init=100), "finds no GPU"),
        (Driver(), "finds no GPU"),
        (Driver(GOOD, init=803), r"does not start \(cuInit returns 803\)"),
        (Driver(GOOD, version=10020), "too old: .* 450.80 or newer"),
    ],
)
def test_drivers_that_cannot_be_used(driver, says):
    with pytest.raises(nvidia.DriverError, match=says):
        nvidia.gpus(lambda name: driver)


def test_no_driver():
    def load(name):
        raise OSError(f"{name}: cannot open shared object file")

    with pytest.raises(nvidia.DriverError, match="no NVIDIA driver is installed"):
        nvidia.gpus(load)


@pytest.mark.parametrize("capability", [(5, 0), (5, 2), (6, 1), (7, 0), (7, 5), (8, 0), (8, 6), (8, 9)])
def test_gpus_that_the_wheel_has_code_for(capability):
    assert nvidia.GPU("NVIDIA X", capability).why_not() is None


@pytest.mark.parametrize(
    ("capability", "relation"), [((3, 7), "older"), ((9, 0), "newer"), ((10, 0), "newer"), ((12, 0), "newer")]
)
def test_gpus_that_it_has_none_for_are_named(capability, relation):
    why = nvidia.GPU("NVIDIA X", capability).why_not()
    assert why.startswith("NVIDIA X (compute capability {}.{}) is {} than".format(*capability, relation))


@pytest.fixture
def gpu_wheel(monkeypatch):
    """Simulate MXNet's GPU wheel on a machine with these three GPUs; MXNet must not touch the last two."""

    class Features:
        def is_enabled(self, name):
            return name == "CUDA"

    monkeypatch.setattr(mx.runtime, "Features", Features)
    monkeypatch.setattr(devices.nvidia, "gpus", lambda: [GOOD, NEW, OLD])
    monkeypatch.setattr(devices, "_probe", {0: None}.__getitem__)


def test_a_gpu_is_judged_by_the_driver_before_mxnet_touches_it(gpu_wheel):
    assert devices.parse_ctx("gpu") == [mx.gpu(0)]
    assert devices.try_all_gpus() == [mx.gpu(0)]
    assert devices.try_gpu(1) == mx.cpu()
    with pytest.raises(InputError, match=r"gpu\(1\) cannot be used: NVIDIA H100 \(compute capability 9.0\) is newer"):
        devices.parse_ctx("gpu(0),gpu(1)")
    with pytest.raises(InputError, match=r"this machine has 3 GPU\(s\): gpu\(0\) NVIDIA GeForce RTX 4090 \(comp"):
        devices.parse_ctx("gpu(3)")


def test_the_cpu_wheel_says_how_to_get_the_other(monkeypatch):
    if mx.runtime.Features().is_enabled("CUDA"):
        pytest.skip("this is a GPU wheel")
    with pytest.raises(InputError, match="this is MXNet's CPU wheel; for an NVIDIA GPU: make train GPU=1"):
        devices.parse_ctx("gpu")


@pytest.mark.parametrize(
    ("gpus", "status", "says"),
    [([GOOD], 0, "NVIDIA GeForce RTX 4090 (comp"), ([NEW, OLD], 2, "newer than"), ([NEW, GOOD], 0, "newer than")],
)
def test_the_gpus_are_looked_at_before_gigabytes_are_installed(gpus, status, says, monkeypatch, capsys):
    monkeypatch.setattr(nvidia, "gpus", lambda: gpus)
    assert nvidia.main() == status
    assert says in capsys.readouterr().out


def test_make_gpu_without_a_driver_ends_at_once(tmp_path):
    """On machines without a GPU; downloads nothing."""
    try:
        nvidia.gpus()
        pytest.skip("this machine has a GPU")
    except nvidia.DriverError as error:
        why = str(error)
    make = ["make", "-C", str(ROOT), "train", "GPU=1", f"VENV={tmp_path / 'venv'}"]
    process = subprocess.run(make, capture_output=True, text=True, timeout=60)
    assert process.returncode == 2
    assert process.stderr.startswith(f"error: {why}; without GPU=1 the CPU computes\n")
    assert list(tmp_path.iterdir()) == []


def test_both_locks_have_the_same_versions():
    both = [
        {line for line in (ROOT / name).read_text().splitlines() if "==" in line and not line.startswith(("#", " "))}
        for name in ("requirements.txt", "requirements-gpu.txt")
    ]
    assert {line.partition("==")[0] for line in both[0] - both[1]} == {"mxnet"}
    more = {line.partition("==")[0] for line in both[1] - both[0]} - {"wheel"}
    assert "mxnet-cu117" in more
    assert all(name.startswith(("mxnet-cu117", "nvidia-")) and name.endswith(("-cu117", "-cu11")) for name in more)
