"""The Triton kernels without a GPU, under Triton's interpreter (compiled ahead of time: tests/compiled)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

ROOT = Path(__file__).resolve().parents[3]


def test_under_the_interpreter():
    """`interpreted_losses.py` passes in a process whose Triton interprets; prints its table of errors."""
    losses = Path(__file__).with_name("interpreted_losses.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", losses]
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    print(run.stdout[-12000:])
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
