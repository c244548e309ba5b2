"""Small tables of a layout as tensors, made once for each device.

A step that made them anew would copy from the host each time: it would wait for the device, and could not be
captured in a CUDA graph.
"""

import torch
from torch import Tensor

Table = tuple[int, ...] | tuple[tuple[int, ...], ...]
_made: dict[tuple[Table, torch.device], Tensor] = {}


def index_table(table: Table, device: torch.device) -> Tensor:
    """Return whole numbers as an int64 tensor on a device: the same one from every call. Not to be changed.

    Example:
        parents = index_table(layout.parents, x.device)
    """
    if torch.compiler.is_compiling():  # a compiler keeps its own
        return torch.tensor(table, device=device)
    key = table, device
    if key not in _made:
        with torch.inference_mode(False):
            tensor = torch.tensor(table, device=device)
        if type(tensor) is not Tensor:  # of a mode that only pretends to compute
            return tensor
        _made[key] = tensor
    return _made[key]
