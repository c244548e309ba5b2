"""Batches: every clip once, in an order that seed and epoch decide alone."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.subjects.loader import hollow_dataset, read
from ikem_fast.data import Split
from ikem_fast.data.loader import BatchLoader, shuffled
from ikem_fast.runtime.shares import divide


def split_of(clips):
    array = np.arange(clips, dtype=np.float32)[:, None, None, None, None] * np.ones((3, 2, 5, 1), np.float32)
    frames = np.arange(clips, dtype=np.int32) + 1
    return Split(array, frames, np.zeros(clips, np.int64), np.array([str(i) for i in range(clips)]))


def share_of(rank, processes):
    return lambda clips: divide(clips, processes)[rank].clips


def order(loader, epoch):
    return torch.cat([clips[:, 0, 0, 0, 0] for clips, _ in loader.epoch(epoch)]).tolist()


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 3000), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 1000))
def test_shuffled_is_a_permutation(size, seed, epoch):
    result = shuffled(np.arange(size), size, (seed, epoch))
    np.testing.assert_array_equal(np.sort(result), np.arange(size))


def test_shuffled_is_uniform_enough():
    """Chi-squared of where position 0 goes: 29 degrees of freedom, 0.1% quantile 58."""
    size, draws = 30, 3000
    where = [shuffled(np.zeros(1, np.int64), size, (0, epoch))[0] for epoch in range(draws)]
    counts = np.bincount(where, minlength=size)
    assert ((counts - draws / size) ** 2 / (draws / size)).sum() < 58


def test_shuffled_does_not_need_the_whole_index():
    size = 10**12
    some = shuffled(np.arange(1000), size, (0, 1))
    assert len(set(some.tolist())) == 1000 and some.min() >= 0 and some.max() < size


@pytest.mark.parametrize(("drop_last", "batches"), [(False, [4, 4, 2]), (True, [4, 4])])
def test_an_epoch_has_every_clip_with_its_frames(drop_last, batches):
    loader = BatchLoader(split_of(10), 4, "cpu", drop_last=drop_last)
    seen = list(loader.epoch(1))
    assert [len(clips) for clips, _ in seen] == batches and len(loader) == len(batches)
    for clips, frames in seen:
        torch.testing.assert_close(clips[:, 0, 0, 0, 0] + 1, frames.float())
    if not drop_last:
        assert sorted(order(loader, 1)) == list(range(10))


def test_order_depends_on_seed_and_epoch_alone():
    loader = BatchLoader(split_of(50), 7, "cpu", seed=3)
    first, second = order(loader, 1), order(loader, 2)
    assert first != second
    again = BatchLoader(split_of(50), 7, "cpu", seed=3)
    assert order(again, 2) == second, "an epoch must not depend on those before it"
    assert order(BatchLoader(split_of(50), 9, "cpu", seed=3), 2) == second, "nor on the batch size"
    assert order(BatchLoader(split_of(50), 7, "cpu", seed=4), 1) != first
    stored = torch.cat([clips[:, 0, 0, 0, 0] for clips, _ in loader.in_order()])
    assert stored.tolist() == list(range(50))


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_processes_read_one_epoch_between_them(processes):
    """22 clips in batches of 7: uneven shares, and a last batch of one clip that all read."""
    whole = list(BatchLoader(split_of(22), 7, "cpu", seed=5).epoch(3))
    parts = [
        list(BatchLoader(split_of(22), 7, "cpu", seed=5, share=share_of(rank, processes)).epoch(3))
        for rank in range(processes)
    ]
    for clips, *shares in zip(whole, *parts, strict=True):
        together = shares[:1] if len(clips[0]) < processes else shares
        for part, expected in enumerate(clips):
            assert torch.equal(torch.cat([share[part] for share in together]), expected)


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory use from /proc")
def test_a_million_clips_take_no_more_memory_than_a_few(tmp_path):
    """60 batches are 230 MB of 30 GB; two of them are in flight."""
    dataset = hollow_dataset(tmp_path / "data", 1_000_000)
    found = read(dataset, batches=60, batch_size=128)
    assert found["growth"] < 8 * found["batch"], found
    order = found["seen"] - 1
    assert len(order.unique()) == 60 * 128
    np.testing.assert_array_equal(order, shuffled(np.arange(60 * 128), 1_000_000, (0, 1)))
