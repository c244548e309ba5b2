"""Where a command computes."""

import torch

from ikem_fast.errors import InputError


def choose_device(name, local_rank=0):
    """The torch device of a `device` setting, a GPU of its own for each process of a machine.

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
    return device
