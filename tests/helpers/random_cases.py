"""Settings of hypothesis in this suite: a fixed number of cases, the same for the same seed."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, seed, settings


def random_cases(number: int, of: int = 0):
    """A decorator for `given`: `number` cases of the seed `of`, without a database and without deadlines."""
    draws = settings(
        max_examples=number,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    return lambda test: seed(of)(draws(test))
