"""A reader that kills its process in about one of seven cases, which test_fuzz.py expects to be reported."""

import os

from hypothesis import strategies as st

from fuzz.target import Target


def read(case: int) -> int:
    return os.abort() if case >= 6 else case


TARGET = Target(st.integers(0, 6), read, lambda case, value: None)
