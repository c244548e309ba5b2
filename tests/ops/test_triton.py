"""The Triton kernels without a GPU: run under the interpreter, and compiled for GPUs that are not here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from benchmarks import resources

ROOT = Path(__file__).resolve().parents[2]
HOPPER_SHARED_MEMORY = 227 * 1024


def test_under_the_interpreter():
    """`interpreted_losses.py` passes in a process whose Triton interprets; prints its table of errors."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/ops/interpreted_losses.py",
    ]
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    print(run.stdout[-12000:])
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]


@pytest.mark.parametrize("bank", [torch.bfloat16, torch.float32], ids=["bank bfloat16", "bank float32"])
def test_hopper_runs_the_pinned_kernels_from_registers_and_pipelines(bank):
    """sm_90: nothing spills, shared memory suffices, matrix instructions overlap."""
    for name, _, used in resources.table(torch.bfloat16, bank, 90):
        assert used.spilled == 0, (name, used)
        assert used.shared <= HOPPER_SHARED_MEMORY, (name, used)
        assert not used.serialized, (name, used)
        assert used.registers <= 255, (name, used)


@pytest.mark.parametrize("arch", [80, 100])
def test_other_architectures_compile(arch):
    limit = {80: 163, 100: 227}[arch] * 1024
    for name, _, used in resources.table(torch.bfloat16, torch.bfloat16, arch):
        assert used.shared <= limit, (name, used)
