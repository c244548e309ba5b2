"""The ring: what enters, where, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ikem_fast.nn import MemoryBank


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 12), batches=st.lists(st.integers(1, 12), max_size=8))
def test_ring_holds_the_last_keys_in_order(size, batches):
    bank = MemoryBank(2, size, 3)
    history = list(bank.rows.unbind(1))
    for n in (min(n, size) for n in batches):
        keys = torch.randn(2, n, 3)
        bank.enqueue(keys)
        history += F.normalize(keys, dim=-1).unbind(1)
    newest = int(bank.pointer)
    in_age_order = torch.cat([bank.rows[:, newest:], bank.rows[:, :newest]], 1)
    torch.testing.assert_close(in_age_order, torch.stack(history[-size:], 1))


def test_more_keys_than_rows_are_refused_and_change_nothing():
    bank = MemoryBank(2, 4, 3)
    before = bank.rows.clone()
    for keys in (torch.randn(2, 5, 3), torch.randn(1, 2, 3), torch.randn(2, 2, 4)):
        with pytest.raises(ValueError, match=r"N ≤ 4 .*found"):
            bank.enqueue(keys)
    assert torch.equal(bank.rows, before) and int(bank.pointer) == 0


def test_low_precision_keys_become_unit_rows_of_the_bank():
    bank = MemoryBank(1, 8, 16)
    bank.enqueue(torch.randn(1, 8, 16, dtype=torch.bfloat16))
    assert bank.rows.dtype == torch.float32
    torch.testing.assert_close(bank.rows.norm(dim=-1), torch.ones(1, 8))
