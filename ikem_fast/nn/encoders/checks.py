"""What an encoder may be told and given: one wording for all of them."""

import math

import torch


def check_sizes(**sizes: int) -> None:
    """Raise ValueError naming the first of some sizes that is not a whole number of at least 1."""
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}: expected a whole number ≥ 1, found {value!r}")


def check_dropout(dropout: float) -> None:
    """Raise ValueError unless dropout is a probability below 1."""
    if not isinstance(dropout, int | float) or isinstance(dropout, bool) or not 0 <= dropout < 1:
        raise ValueError(f"dropout: expected a probability in [0, 1), found {dropout!r}")


def check_smoothing(smoothing: float) -> None:
    """Raise ValueError unless smoothing is a finite number of frames, 0 or more."""
    number = isinstance(smoothing, int | float) and not isinstance(smoothing, bool)
    if not number or not 0 <= smoothing < math.inf:
        raise ValueError(f"smoothing: expected a finite number ≥ 0, found {smoothing!r}")


def check_choice(**choices: bool) -> None:
    """Raise ValueError naming the first of some choices that is neither true nor false."""
    for name, value in choices.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name}: expected true or false, found {value!r}")


def check_bodies(x: torch.Tensor, bodies: int) -> None:
    """Raise ValueError unless clips x (N,C,T,V,M) have so many bodies."""
    if x.shape[4] != bodies:
        raise ValueError(f"x: expected clips of {bodies} bodies, found {tuple(x.shape)}")


def check_clips(x: torch.Tensor, channels: int, joints: int) -> None:
    """Raise ValueError unless x is (N, C=channels, T, V=joints, M)."""
    if x.dim() != 5 or (x.shape[1], x.shape[3]) != (channels, joints):
        raise ValueError(f"x: expected shape (N, C={channels}, T, V={joints}, M), found {tuple(x.shape)}")
