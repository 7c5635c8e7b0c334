"""The GPU lock file, installed for real: MXNet's wheel finds every library but the driver's. `make test-gpu-libraries`

No GPU is needed, and none is used: a stand-in for NVIDIA's driver, made with the system's C compiler, has the functions
that are linked and one GPU, too new for the wheel.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, module_env, one_error_line

pytestmark = pytest.mark.gpu_libraries

DRIVER = r"""
#include <string.h>
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 12040; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int i) { *device = i; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "NVIDIA H100", size); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 9 : 0; return 0; }
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of an environment with the lock; it takes 4 GB until the tests end."""
    folder = tmp_path_factory.mktemp("gpu") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    lock = ROOT / "requirements-gpu.txt"
    install = [folder / "bin" / "python", "-m", "pip", "install", "-qq", "--use-pep517", "--no-deps", "-r", lock]
    env = os.environ | {"PIP_CONSTRAINT": str(lock), "PIP_BUILD_CONSTRAINT": str(lock)}
    subprocess.run(install, env=env, check=True)
    yield folder / "bin" / "python"
    shutil.rmtree(folder)


def ask(python, code: str, **env: str) -> str:
    process = subprocess.run([python, "-c", code], env=module_env(**env), capture_output=True, text=True, timeout=170)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_every_library_but_the_drivers_is_found(python):
    provide = (
        "from gluon_lenet.errors import InputError\nfrom gluon_lenet.machine import libraries\n"
        "try: libraries.provide(str)"
    )
    ask(python, f"{provide}\nexcept InputError: pass")  # libquadmath, say, as make does
    assert ask(python, "from gluon_lenet.machine import libraries; print(libraries.missing())") == "['libcuda.so.1']"


@pytest.fixture(scope="module")
def driver(python, tmp_path_factory) -> Path:
    """The folder of the stand-in for NVIDIA's driver."""
    folder = tmp_path_factory.mktemp("driver")
    site = Path(ask(python, "import sysconfig; print(sysconfig.get_path('purelib'))"))
    linked = ask(
        python,
        "from elftools.elf.elffile import ELFFile\n"
        f"symbols = ELFFile(open({str(site / 'mxnet' / 'libmxnet.so')!r}, 'rb')).get_section_by_name('.dynsym')\n"
        "print(*[symbol.name for symbol in symbols.iter_symbols() if symbol['st_shndx'] == 'SHN_UNDEF'])",
    )
    names = [name for name in linked.split() if name.startswith("cu") and name[2].isupper()]
    assert "cuLaunchKernel" in names
    code = DRIVER + "".join(f"int {name}(void) {{ return 100; }}\n" for name in names if f"int {name}(" not in DRIVER)
    (folder / "driver.c").write_text(code)
    out = ["-o", folder / "libcuda.so.1", "-Wl,-soname,libcuda.so.1"]
    subprocess.run(["cc", "-shared", "-fPIC", *out, folder / "driver.c"], check=True)
    return folder


def test_with_a_driver_mxnet_loads_and_computes_on_the_cpu(python, driver):
    code = (
        "import gluon_lenet, mxnet as mx; print(mx.runtime.Features().is_enabled('CUDA'), "
        "mx.nd.dot(mx.nd.ones((2, 3)), mx.nd.ones((3, 2))).sum().asscalar())"
    )
    assert ask(python, code, LD_LIBRARY_PATH=str(driver)) == "True 12.0"


def test_what_cudnn_and_the_others_open_by_name_loads_too(python, driver):
    code = (
        "import ctypes, sysconfig; from pathlib import Path; from gluon_lenet.machine import cuda; cuda.load()\n"
        "paths = sorted(Path(sysconfig.get_path('purelib')).glob('nvidia/*/lib/*.so*'))\n"
        "for path in paths: ctypes.CDLL(str(path))\n"
        "print(len(paths))"
    )
    assert int(ask(python, code, LD_LIBRARY_PATH=str(driver))) > 15


def test_a_gpu_that_is_too_new_is_named_before_mxnet_touches_it(python, driver, tmp_path):
    process = subprocess.run(
        [python, "-m", "gluon_lenet.train", "--ctx", "gpu"],
        cwd=tmp_path,
        env=module_env(LD_LIBRARY_PATH=str(driver)),
        capture_output=True,
        text=True,
        timeout=170,
    )
    one_error_line(process, "gpu(0) cannot be used: NVIDIA H100 (compute capability 9.0) is newer than the code")
