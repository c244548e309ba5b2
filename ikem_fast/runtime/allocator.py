"""Keeping the memory that a process frees, for as long as a training or an evaluation runs."""

import contextlib
import ctypes
import sys
from collections.abc import Iterator

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of mallopt(3), with glibc's defaults
DEFAULTS = {M_MMAP_MAX: 65536, M_TRIM_THRESHOLD: 128 * 1024, M_MMAP_THRESHOLD: 128 * 1024}


@contextlib.contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Have glibc hold on to what is freed while the block runs, as torch does on a GPU; then undo it.

    Every step allocates the same activations again. Large ones come back from the system as pages of zeros,
    one fault each: up to half of a step's time. Elsewhere than on a CPU with glibc nothing happens.

    Args:
        device: that the block computes on.

    Example:
        with freed_memory_kept(torch.device("cpu")):
            train()
    """
    libc = ctypes.CDLL(None) if device.type == "cpu" and sys.platform == "linux" else None
    mallopt, trim = getattr(libc, "mallopt", None), getattr(libc, "malloc_trim", None)
    if mallopt is None:
        yield
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        for parameter, value in DEFAULTS.items():
            mallopt(parameter, value)
        if trim is not None:
            trim(0)
