"""In what precision ops compute: float32, or float64 where an argument is; autocast has no say."""

import functools

import torch


def outside_autocast(op):
    """Autocast would take the matrix products to low precision behind the op's back."""

    @functools.wraps(op)
    def full_precision(tensor, *args):
        with torch.autocast(tensor.device.type, enabled=False):
            return op(tensor, *args)

    return full_precision


def compute_dtype(*tensors):
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
