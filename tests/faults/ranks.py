"""Processes of one run, which this one starts as torchrun would."""

import os
import socket
from collections.abc import Callable
from functools import partial

from ikem_fast.runtime import pulse


def joining(size: int) -> list[Callable[[], None]]:
    """For each of `size` processes, what it calls first to be one of them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [partial(_become, rank, size, port) for rank in range(size)]


def _become(rank, size, port):
    """Signs of life are looked for twice in less than a second."""
    pulse.BEAT, pulse.LOOK = 0.1, 0.5
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }  # fmt: skip
