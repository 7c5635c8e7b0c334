"""1,000 random cases of every target (fuzz/__init__.py); `make fuzz` tries 100,000."""

import pytest

from fuzz import TARGETS
from fuzz.lanes import FoundError, fuzz_portion


@pytest.mark.parametrize("name", TARGETS)
def test_1000_cases_are_refused_in_one_line_or_read_as_they_were_meant(name):
    counts = fuzz_portion(name, 1000, seed=0)
    assert counts.total() >= 1000
    assert min(counts["accepted"], counts["refused"]) >= 50, counts


def test_a_case_that_ends_its_process_is_told():
    with pytest.raises(FoundError, match=r"crash, seed 0: it ended by SIGABRT(?s:.*)the last case was: 6$"):
        fuzz_portion("crash", 100, seed=0)
