"""Runs killed by SIGKILL at random moments and resumed: the same bits. `make test-slow`; 1,000 by `make test-kill`"""

import os

import pytest

from kill import kill


@pytest.mark.slow
def test_runs_killed_at_30_random_moments_end_with_the_same_bits(tmp_path):
    """The fused kernels with momentum and a schedule, autograd with Adam and dropout; validation, so best and last."""
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"moments drawn with seed {seed}")  # shown if the test fails
    lanes = kill(tmp_path, 30, 2, seed)
    assert sum(lane.kills.total() for lane in lanes) == 30
