"""How the processes of a run find each other, and none that died before them."""

import time
import uuid
from datetime import timedelta
from typing import Any

import torch.distributed as dist

FIRST = "ikem-fast/first"  # where the first process leaves its name
PAUSE = 0.05  # seconds between two looks for it


def meet(store: Any, rank: int, size: int, timeout: timedelta) -> Any:
    """Return a store of these processes alone, in each of them, when all have come.

    torchrun keeps its store when it starts processes again. Who came before the first would find there where
    one that is dead was to be reached: each therefore gives its name, of this start alone, to the one that
    calls itself the first, until that one answers.

    Args:
        store: of torch.distributed, that all reach.
        rank, size: this process is `rank` of `size`.
        timeout: how long to wait for the others.

    Raises torch.distributed.DistError where they do not come.

    Example:
        store = meet(next(dist.rendezvous("env://"))[0], rank, size, timedelta(seconds=300))
    """
    own = uuid.uuid4().hex
    if rank == 0:
        store.set(FIRST, own)
        places = [f"{own}/{other}" for other in range(1, size)]
        store.wait(places, timeout)
        for place in places:
            store.set(f"{place}/{store.get(place).decode()}", "")
        return dist.PrefixStore(own, store)
    deadline = time.monotonic() + timeout.total_seconds()
    while time.monotonic() < deadline:
        first = store.get(FIRST).decode()
        store.set(f"{first}/{rank}", own)
        if store.check([f"{first}/{rank}/{own}"]):
            return dist.PrefixStore(first, store)
        time.sleep(PAUSE)
    raise dist.DistError(f"no answer of the first process for {timeout.total_seconds():g} seconds")
