"""The encoder's Triton kernels compiled for GPUs that are not here, and what they are predicted to do."""

import copy
import functools

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

pytest.importorskip("triton")

from benchmarks import encoder_kernels
from benchmarks.compiled import compiled
from benchmarks.predict import CARDS
from benchmarks.run import read_results
from benchmarks.subjects import parts
from ikem_fast.nn.encoders.stgcn import Block
from ikem_fast.ops.encoder.triton import MAX_JOINTS, fused_blocks
from tests.compiled.test_kernels import ROOM, slow

PRODUCTS = {"graph", "temporal", "temporal_backward", "graph_weights", "temporal_weights"}
# Instructions that touch the stack, all and in the loop: of numbers that stay the same there.
ON_STACK = {"graph_weights": (40, 2)}
PASSES = {"statistics", "output", "output_sums", "coefficients", "output_backward"}


@functools.cache
def launched(given, channels, stride, frames, joints=25, dtype=torch.bfloat16):
    """The launches of a block forward and backward, those alike once."""
    block, mode = Block(given, channels, 3, stride, 0.5, residual=True), FakeTensorMode()
    found, blocks = [], [[block], [copy.deepcopy(block)]]
    parts.without_memory(nn.ModuleList(block for of_one in blocks for block in of_one), mode)
    with mode, parts.kernels_as_on_a_gpu(found.append):
        x = torch.empty(2, 256, frames, joints, given, dtype=dtype, requires_grad=True)
        A = torch.empty(2, 3, joints, joints, requires_grad=True)
        fused_blocks(blocks, x, [A]).sum().backward()
    return list({(launch.name, str(launch.variant)): launch for launch in found}.values())


def holds(launch, card):
    """Assert what holds for every kernel on every card."""
    made, arch = compiled(launch, CARDS[card].arch), CARDS[card].arch
    about = launch.name, launch.grid, made
    spills, looped = ON_STACK.get(launch.name, (0, 0))
    assert made.spills <= spills and made.looped_spills <= looped, about
    assert made.registers <= 255 and made.shared <= ROOM[arch], about
    assert made.all_multiply_adds == encoder_kernels.tile(launch), about


# An RTX 3090 is as a 4090.
@pytest.mark.parametrize("card", [slow("A100"), slow("RTX 4090"), slow("H200"), slow("B200"), "RTX 5090"])
def test_products_of_the_widest_block(card):
    """Between the narrow blocks and the last, whose convolution over time is left to torch."""
    launches = [launch for launch in launched(32, 64, 2, 25) if launch.name in PRODUCTS]
    assert {launch.name for launch in launches} == PRODUCTS
    for launch in launches:
        holds(launch, card)


@pytest.mark.parametrize(
    ("block", "names"),
    [((16, 16, 1, 50), PRODUCTS | PASSES), ((64, 256, 1, 13), PRODUCTS | PASSES | {"moments"})],
    ids=["narrow", "last"],
)
def test_every_kernel_of_a_block(block, names):
    launches = launched(*block)
    assert {launch.name for launch in launches} == names
    for launch in launches:
        holds(launch, "H200")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_as_many_joints_as_there_may_be_fit(dtype):
    """In what a program of an RTX 4090 has of memory; what is spilled there is another question."""
    for launch in launched(64, 64, 1, 25, MAX_JOINTS[dtype.itemsize], dtype):
        made = compiled(launch, CARDS["RTX 4090"].arch)
        assert made.shared <= ROOM[89], (launch.name, made)


def test_a_step_of_phase_2_is_predicted_to_be_faster_than_in_plain_torch():
    """By what was last counted with `python -m benchmarks parts`; 8,000 clips/s of an H200 are the target."""
    results = read_results(parts.COUNTED)
    for card in parts.CARDS:
        fused, plain = (
            parts.totals(results, "exchange", way)[-1][card] for way in (parts.FUSED, parts.PLAIN)
        )
        assert fused < plain, card
    assert parts.clips_per_second("H200") > 8000
