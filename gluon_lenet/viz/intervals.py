"""The results of repeated runs -> their mean, and how uncertain it is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

# The 97.5 % quantiles of Student's t with 1, 2, ... 30 degrees of freedom.
T_95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


def interval(runs: Sequence[float]) -> tuple[float, float]:
    """The mean of independent runs, and half the width of its 95 % confidence interval (Student's t)."""
    count = len(runs)
    if count < 2:
        raise ValueError("an interval needs two runs or more")
    t = T_95[min(count - 1, len(T_95)) - 1]
    return statistics.mean(runs), t * statistics.stdev(runs) / math.sqrt(count)
