"""The Triton kernels without a GPU, under Triton's interpreter (compiled ahead of time: tests/compiled)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

ROOT = Path(__file__).resolve().parents[3]


# In halves, since interpreted kernels run on one core and tests may run on several.
HALVES = ("info_nce or implicit_exchange", "not info_nce and not implicit_exchange")


@pytest.mark.parametrize("half", HALVES)
def test_under_the_interpreter(half):
    """`interpreted_losses.py` passes in a process whose Triton interprets; prints its table of errors."""
    losses = Path(__file__).with_name("interpreted_losses.py")
    alone = ["-p", "no:cacheprovider", "-p", "no:xdist"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *alone, losses, "-k", half],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    print(run.stdout[-12000:])
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]


def test_both_ways_of_allowing_tf32_are_heeded():
    """torch's current setting, after which its old one raises, and the old one."""
    code = """
import torch
from ikem_fast.ops import _triton
assert _triton.precision() == "tf32x3"
torch.set_float32_matmul_precision("high")
assert _triton.precision() == "tf32"
torch.set_float32_matmul_precision("highest")
assert _triton.precision() == "tf32x3"
torch.backends.cuda.matmul.fp32_precision = "tf32"
assert _triton.precision() == "tf32"
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
