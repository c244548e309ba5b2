"""`python -m pytest --benchmark`: each way of each subject by itself, for pytest-benchmark to compare.

`-k losses` picks a subject, `--benchmark-json FILE` keeps the figures.
"""

import pytest

from benchmarks.subjects import SUBJECTS

CALLS = [(name, *call) for name, subject in SUBJECTS.items() for call in subject.calls()]


@pytest.mark.parametrize(
    ("subject", "group", "way", "make"), CALLS, ids=[" | ".join(call[:3]) for call in CALLS]
)
def test_speed(benchmark, subject, group, way, make):
    benchmark.group = f"{subject}: {group}"
    benchmark.pedantic(make(), rounds=3, warmup_rounds=1)
