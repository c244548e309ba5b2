"""Small tables of a layout as tensors, made once for each device.

A step that made them anew would copy from the host each time: it would wait for the device, and could not be
captured in a CUDA graph.
"""

import torch
from torch import Tensor

Table = tuple[int, ...] | tuple[tuple[int, ...], ...]
_made: dict[tuple[Table, torch.device], Tensor] = {}


def index_table(table: Table, where: Tensor | torch.device) -> Tensor:
    """Return whole numbers as an int64 tensor: the same one from every call on a device. Not to be changed.

    Args:
        table: the numbers, of any depth.
        where: the device, or a tensor that they go with. For a compiler, and beside tensors that only pretend
            to compute, they are made anew.

    Example:
        parents = index_table(layout.parents, x)
    """
    device = where.device if isinstance(where, Tensor) else where
    pretends = isinstance(where, Tensor) and type(where) not in (Tensor, torch.nn.Parameter)
    if pretends or torch.compiler.is_compiling():
        return torch.tensor(table, device=device)
    key = tuple(table), device
    if key not in _made:
        with torch.inference_mode(False):
            tensor = torch.tensor(table, device=device)
        if type(tensor) is not Tensor:
            return tensor
        _made[key] = tensor
    return _made[key]
