"""The Triton kernels compiled for GPUs that are not here: registers, spills, shared memory, instructions."""

import pytest
import torch

pytest.importorskip("triton")

from tests.compiled import resources

SHARED_MEMORY = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}
bfloat16, float32 = torch.bfloat16, torch.float32


# Triton keeps what it compiled in its cache: the second run of these takes seconds.
each_pair = pytest.mark.parametrize(
    ("features", "bank"),
    [(bfloat16, bfloat16), (bfloat16, float32), (float32, float32)],
    ids=["bfloat16", "bfloat16, bank float32", "float32"],
)


@each_pair
def test_hopper_runs_every_kernel_from_registers_and_pipelines(features, bank):
    """sm_90, pinned tiles and those that tuning may take: nothing spills, shared memory suffices, and matrix
    instructions overlap; they are Hopper's, but in the smallest tiles, of fewer than 64 rows.
    """
    for name, tile, used in resources.table(features, bank, 90, every=True):
        assert used.spilled == 0, (name, tile, used)
        assert used.shared <= SHARED_MEMORY[90], (name, tile, used)
        assert not used.serialized, (name, tile, used)
        assert used.registers <= 255, (name, tile, used)
        assert (used.wgmma > 0) == (tile != resources.A_ROW and not tile.startswith(("16×", "32×"))), name


@each_pair
@pytest.mark.parametrize("arch", [80, 100])
def test_other_architectures_run_every_kernel_from_registers(arch, features, bank):
    """The pinned tiles; one that tuning may take and that does not fit or is slow is not taken by it."""
    for name, tile, used in resources.table(features, bank, arch):
        assert used.shared <= SHARED_MEMORY[arch], (name, tile, used)
        # Of a wrong tile 50 KB and more.
        assert used.spilled <= 160, (name, tile, used)


@pytest.mark.parametrize(("arch", "dtype"), [(80, float32), (90, bfloat16), (90, float32), (100, float32)])
def test_the_widest_features_compile_and_fit(arch, dtype):
    """P = 8 and D = 256. Some of these spill, and none much."""
    for name, tile, used in resources.table(dtype, dtype, arch, P=8, D=256):
        assert used.shared <= SHARED_MEMORY[arch], (name, tile, used)
        assert used.spilled <= 1024, (name, tile, used)
