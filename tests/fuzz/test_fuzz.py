"""1,000 random cases of every target (fuzz/__init__.py); 100,000 by `make fuzz`."""

import pytest

from fuzz import TARGETS
from fuzz.lanes import fuzz_portion


@pytest.mark.parametrize("name", TARGETS)
def test_1000_cases_are_refused_in_one_line_or_read_as_they_were_meant(name):
    counts = fuzz_portion(name, 1000, seed=0)
    assert counts.total() >= 1000
    assert min(counts["accepted"], counts["refused"]) >= 100, counts
