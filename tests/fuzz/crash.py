"""A reader that ends its process at every seventh case or so: what test_fuzz.py wants to see told."""

import os

from hypothesis import strategies as st

from fuzz.target import Target


def read(case: int) -> int:
    return os.abort() if case >= 6 else case


TARGET = Target(st.integers(0, 6), read, lambda case, value: None)
