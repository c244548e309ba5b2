"""The Triton kernels without a GPU, under Triton's interpreter (compiled ahead of time: tests/compiled)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

ROOT = Path(__file__).resolve().parents[3]


# In two processes at a time: interpreted kernels run on one core.
HALVES = ("info_nce or implicit_exchange", "not info_nce and not implicit_exchange")


def test_under_the_interpreter():
    """`interpreted_losses.py` passes in processes whose Triton interprets; prints its table of errors."""
    losses = Path(__file__).with_name("interpreted_losses.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", losses, "-k"]
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options = {"cwd": ROOT, "env": environment, "text": True, "stdout": subprocess.PIPE}
    runs = [subprocess.Popen([*command, half], **options) for half in HALVES]
    for run in runs:
        output, _ = run.communicate()
        print(output[-12000:])
        assert run.returncode == 0, output[-6000:]
