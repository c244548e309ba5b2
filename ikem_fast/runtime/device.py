"""Where a command computes."""

import torch

from ikem_fast.errors import InputError

UNFIT = {"meta": "it computes no values", "mps": "it has no float64, which probes compute in; take cpu"}


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """Choose the torch device of a `device` setting, a GPU of its own for each process of a machine.

    A GPU also becomes the process's current one: what torch allocates and launches without naming a device
    (streams, graphs, random numbers) is then on it, and nothing waits on another.

    Args:
        name: "auto" (a GPU where there is one), "cpu", "cuda" (the one of this process), "cuda:1", ….
        local_rank: which process of this machine this is.

    Raises InputError for one that is not there.

    Example:
        device = choose_device("auto")
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
    if device.type in UNFIT:
        raise InputError(f"device: {name!r} cannot be used: {UNFIT[device.type]}")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device
