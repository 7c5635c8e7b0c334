"""How hypothesis draws random cases in this suite: as many as are asked for, the same ones for the same seed."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, seed, settings


def random_cases(number: int, of: int = 0):
    """A decorator beside `given`: `number` cases of the seed `of`; none is kept for the next time, none hurried."""
    draws = settings(
        max_examples=number,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    return lambda test: seed(of)(draws(test))
