"""Ops give the same bits in every run, thread and process, whatever memory holds and whatever lies beside."""

import pytest
import torch

from ikem_fast import ops
from ikem_fast.nn.encoders.stgcn import STGCN
from ikem_fast.selftest import CASES
from tests.helpers import needs_kernel
from tests.ops import same_bits

pytestmark = needs_kernel
QUICK = [name for name in CASES if name != "blocks of STGCN"]


@pytest.mark.parametrize("name", CASES)
def test_over_runs_and_threads(name):
    assert all(same_bits.over_runs(name, 3)) and same_bits.in_threads(name, 2)


@pytest.mark.parametrize("name", CASES)
def test_in_poisoned_memory_by_deterministic_algorithms(name):
    assert same_bits.poisoned(name)


@pytest.mark.parametrize("name", QUICK[:4])
def test_after_a_fork(name):
    assert same_bits.in_process(name, "fork")


def test_clips_do_not_depend_on_their_batch():
    clips, frames = torch.randn(5, 3, 12, 25, 2), torch.tensor([12, 40, 7, 90, 3])
    whole = ops.derive_modalities(clips, frames)
    encoder = STGCN(hidden_channels=4, hidden_dim=8).eval()
    features = encoder(clips)[1]
    raw = [torch.randn(3, length, 25, 2) for length in (9, 30, 4)]
    lengths = torch.tensor([one.shape[1] for one in raw])
    prepared = ops.preprocess_clips(torch.cat(raw, 1), lengths)[0]
    for place in range(5):
        alone = slice(place, place + 1)
        assert torch.equal(ops.derive_modalities(clips[alone], frames[alone]), whole[:, alone])
        torch.testing.assert_close(encoder(clips[alone])[1], features[alone])  # oneDNN blocks by batch size
    for place, one in enumerate(raw):
        assert torch.equal(ops.preprocess_clips(one, lengths[place : place + 1])[0][0], prepared[place])


def test_neighbors_do_not_depend_on_their_batch():
    bank = torch.nn.functional.normalize(torch.randn(2, 300, 8), dim=2)
    queries = torch.randn(2, 7, 8)
    whole = ops.nearest_neighbors(queries, bank, 3)[0]
    for place in range(7):
        assert torch.equal(
            ops.nearest_neighbors(queries[:, place : place + 1], bank, 3)[0], whole[:, place : place + 1]
        )


def far_apart(tensor):
    """The same numbers, of which rows lie 2³¹ numbers apart: in memory that is mostly never touched."""
    try:
        memory = torch.empty((len(tensor) - 1) * 2**31 + tensor[0].numel())
    except RuntimeError:
        pytest.skip("no 8 GB of addresses here")
    spread = memory.as_strided(tensor.shape, (2**31, *tensor[0].contiguous().stride()))
    return spread.copy_(tensor)


def test_offsets_beyond_32_bits():
    clips = torch.randn(2, 3, 6, 25, 1)
    assert torch.equal(ops.derive_modalities(far_apart(clips)), ops.derive_modalities(clips))
    bank = torch.nn.functional.normalize(torch.randn(2, 40, 8), dim=2)
    queries, keys = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    assert torch.equal(ops.info_nce(queries, keys, far_apart(bank)), ops.info_nce(queries, keys, bank))
    assert torch.equal(
        ops.nearest_neighbors(queries, far_apart(bank), 2)[0], ops.nearest_neighbors(queries, bank, 2)[0]
    )
