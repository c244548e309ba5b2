"""What all augmentations share: checks of clips and parameters, clips chosen of a batch."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor


def on_clips(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Have a function check that its first argument is clips before anything is drawn or computed."""

    @functools.wraps(function)
    def checked(x, *arguments, **options):
        if x.dim() != 5 or x.shape[1] != 3:
            hint = "; for a single clip, give x[None]" if x.dim() == 4 else ""
            raise ValueError(f"x: expected clips (N,3,T,V,M), found shape {tuple(x.shape)}{hint}")
        return function(x, *arguments, **options)

    return checked


def check(name, value, *shapes, kind=None):
    """Raise ValueError unless a parameter has one of these shapes, and a dtype where one is named."""
    if value.shape not in shapes:
        expected = " or ".join(str(tuple(shape)) for shape in shapes)
        raise ValueError(f"{name}: expected shape {expected}, found {tuple(value.shape)}")
    if kind is not None and value.dtype != kind:
        raise ValueError(f"{name}: expected {kind}, found {value.dtype}")


def choose(chosen: Tensor, changed: Tensor, x: Tensor) -> Tensor:
    """Take clips of `changed` where chosen (N,) is true, of `x` elsewhere; a weight of 0 or 1 is exact."""
    return torch.lerp(x, changed, chosen.to(x.dtype).view(len(x), 1, 1, 1, 1))


def kept(masked, x):
    """1 where nothing is masked, in the dtype of x."""
    return masked.logical_not().to(x.dtype)
