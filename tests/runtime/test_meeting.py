"""Processes that find each other in a store where others have been before."""

import threading
from datetime import timedelta

import pytest
import torch.distributed as dist

from ikem_fast.runtime.meeting import FIRST, meet

PATIENCE = timedelta(seconds=20)


def meeting(store, size, order):
    """Have threads in place of processes meet, started in an order; returns the stores that they got."""
    found, threads = {}, []
    for rank in order:
        thread = threading.Thread(
            target=lambda rank=rank: found.update({rank: meet(store, rank, size, PATIENCE)})
        )
        threads.append(thread)
        thread.start()
        thread.join(0.2)  # the next comes later
    for thread in threads:
        thread.join(PATIENCE.total_seconds())
    return [found[rank] for rank in range(size)]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_those_of_a_later_start_see_nothing_of_an_earlier_one(order):
    """torchrun keeps its store when it starts processes again."""
    store = dist.HashStore()
    for value in ("of the first start", "of the second"):
        stores = meeting(store, 3, order)
        assert not any(own.check(["address"]) for own in stores)
        stores[0].set("address", value)
        assert [own.get("address").decode() for own in stores] == [value] * 3


def test_one_waits_for_a_living_first_process():
    store = dist.HashStore()
    store.set(FIRST, "one that is dead")
    with pytest.raises(dist.DistError, match=r"no answer of the first process for 0\.2 seconds"):
        meet(store, 1, 2, timedelta(seconds=0.2))


def test_the_first_process_waits_for_all():
    store = dist.HashStore()
    with pytest.raises(dist.DistError):
        meet(store, 0, 2, timedelta(seconds=0.2))
