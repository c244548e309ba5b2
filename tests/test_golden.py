"""The numbers that the published code printed, through the checker kept beside them."""

import subprocess
import sys

import pytest

CHECKS = (
    "modalities",
    "encoder",
    "pretrain",
    "student",
    "preprocess",
    "augment",
    "trajectory",
    "student_trajectory",
)


@pytest.mark.parametrize("name", CHECKS)
def test_golden_rows(shared, name):
    checker = shared / "tools" / "golden_check.py"
    if not checker.is_file():
        pytest.skip(f"no {checker}")
    command = [sys.executable, str(checker), str(shared / "golden"), "--only", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " ok" in done.stdout
