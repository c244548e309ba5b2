"""The numbers that the published code printed, through the checker kept beside them."""

import subprocess
import sys

import pytest

# What the names of the checker's rows begin with, and how many there are at least.
ROWS = {
    "modalities/": 6,
    "stgcn/": 50,
    "pretrain_": 18,
    "student_": 6,
    "preprocess/": 4,
    "augment/": 2,
    "trajectory/": 8,
    "student trajectory/": 4,
}


@pytest.fixture(scope="module")
def told(shared):
    """What the checker says, a line a row."""
    checker = shared / "tools" / "golden_check.py"
    if not checker.is_file():
        pytest.skip(f"no {checker}")
    command = [sys.executable, str(checker), str(shared / "golden")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 or "FAILS" in done.stdout, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("begin", ROWS)
def test_golden_rows(told, begin):
    rows = [line for line in told if line.startswith(begin)]
    assert len(rows) >= ROWS[begin]
    assert all(line.endswith("  ok") for line in rows), "\n".join(rows)
