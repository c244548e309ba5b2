"""The encoder's Triton kernels without a GPU, under Triton's interpreter (compiled: tests/compiled)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

ROOT = Path(__file__).resolve().parents[3]


# In halves, since interpreted kernels run on one core and tests may run on several.
@pytest.mark.parametrize("half", ["float32", "not float32"])
def test_under_the_interpreter(half):
    """`interpreted_blocks.py` passes in a process whose Triton interprets."""
    blocks = Path(__file__).with_name("interpreted_blocks.py")
    alone = ["-p", "no:cacheprovider", "-p", "no:xdist"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *alone, blocks, "-k", half],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
