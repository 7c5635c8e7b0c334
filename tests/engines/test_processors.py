"""The fused kernels on a processor without AVX-512, simulated on this one. `make test-slow`"""

import os
import subprocess
import sys

import pytest

import bench
from conftest import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("missing", [("avx512",), ("avx", "fma")], ids=["AVX2", "SSE"])
def test_the_kernels_tests_pass_on_lesser_processors(missing, tmp_path):
    env = os.environ | bench.lesser_processor(*missing) | {"NUMBA_CACHE_DIR": str(tmp_path)}
    lanes = "from gluon_lenet.engines.fused.sizes import LANES; print(LANES)"
    printed = subprocess.run(
        [sys.executable, "-c", lanes], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert printed.stdout == "8\n"
    tests = [sys.executable, "-m", "pytest", "-q", "-k", "not compil", "-m", ""]
    tests += ["tests/engines/test_tiles.py", "tests/engines/test_fused.py"]
    done = subprocess.run(tests, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
