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
SHARED_MEMORY = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}
bfloat16, float32 = torch.bfloat16, torch.float32


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


# Triton keeps what it compiled in its cache: the second run of these takes seconds.
each_bank = pytest.mark.parametrize("bank", [bfloat16, float32], ids=["bank bfloat16", "bank float32"])


@each_bank
def test_hopper_runs_the_pinned_kernels_from_registers_and_pipelines(bank):
    """sm_90: nothing spills, shared memory suffices, matrix instructions are Hopper's and overlap."""
    for name, tile, used in resources.table(bfloat16, bank, 90):
        assert used.spilled == 0, (name, used)
        assert used.shared <= SHARED_MEMORY[90], (name, used)
        assert not used.serialized, (name, used)
        assert used.registers <= 255, (name, used)
        assert (used.wgmma > 0) == (tile != resources.A_ROW), (name, used)


@each_bank
@pytest.mark.parametrize("arch", [80, 100])
def test_other_architectures_run_the_pinned_kernels_from_registers(arch, bank):
    for name, _, used in resources.table(bfloat16, bank, arch):
        assert used.shared <= SHARED_MEMORY[arch], (name, used)
        # A wider bank takes registers on its way into the factors; a wrong tile spills 50 KB and more.
        assert used.spilled <= (96 if bank == bfloat16 else 1200), (name, used)


@pytest.mark.parametrize("arch", SHARED_MEMORY)
def test_float32_features_compile_and_fit(arch):
    for name, _, kernel in resources.compiled(float32, float32, arch):
        assert kernel.metadata.shared <= SHARED_MEMORY[arch], name


@pytest.mark.parametrize("arch", SHARED_MEMORY)
@pytest.mark.parametrize("dtype", [bfloat16, float32], ids=str)
def test_the_widest_features_compile_and_fit(arch, dtype):
    """Two kernels of those with P = 8 and D = 256: the others take minutes in float32."""
    for name, kernel, constants in resources.kernels(dtype, dtype, divmod(arch, 10), 8, 256):
        if name in ("nearest_neighbors, topk 1", "info_nce, loss and gradient"):
            compiled = resources.compile_kernel(kernel, constants, dtype, dtype, arch)
            assert compiled.metadata.shared <= SHARED_MEMORY[arch], name
