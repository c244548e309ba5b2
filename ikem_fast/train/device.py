"""Where a command computes, and how it keeps memory there."""

import ctypes

import torch

from ikem_fast.errors import InputError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)


def choose_device(name, local_rank=0):
    """The torch device of a `device` setting, a GPU of its own for each process of a machine.

    On a CPU, this process keeps the memory that it frees from now on.

    Raises InputError for one that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{local_rank}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device: {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    if device.type == "cpu":
        _keep_freed_memory()
    return device


def _keep_freed_memory():
    """Have glibc hold on to what is freed, as torch does on a GPU.

    Every step allocates the same activations again. Large ones come back from the system as pages of zeros,
    one fault each: up to half of a step's time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
