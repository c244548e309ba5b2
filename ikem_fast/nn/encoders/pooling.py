"""From features over time, joints and bodies to one feature of a clip."""

import torch


def pool_time(x: torch.Tensor, segments: int = 1) -> torch.Tensor:
    """Pool over time: the mean and the maximum of each segment of equal length, side by side.

    Args:
        x: (T, …, H), of any T ≥ 1; segments share a frame where they cannot be of whole frames.
        segments: how many.

    Returns:
        (…, 2·segments·H): the means, then the maxima.
    """
    T = len(x)
    parts = [x[s * T // segments : -(-(s + 1) * T // segments)] for s in range(segments)]
    return torch.cat([*(part.mean(0) for part in parts), *(part.amax(0) for part in parts)], -1)


def present_bodies(x: torch.Tensor) -> torch.Tensor:
    """Say which bodies of clips (N,C,T,V,M) are there, (N,M) bool: an absent one is all zeros.

    Where a clip has none (nothing of it moves, say, and x is its motion), all count as there.
    """
    present = (x != 0).flatten(1, 3).any(1)
    return present | ~present.any(1, keepdim=True)


def pool_bodies(x: torch.Tensor, present: torch.Tensor, *, maximum: bool) -> torch.Tensor:
    """Pool over the bodies that are there, in a way that their order does not matter.

    Args:
        x: (N,M,H).
        present: (N,M) bool, at least one of each clip.
        maximum: put the maximum beside the mean: with both, two bodies' features are kept, though not which
            is whose.

    Returns:
        (N,H), or (N,2·H) with the maximum.
    """
    there = present[..., None]
    mean = x.where(there, 0).sum(1) / there.sum(1)
    if not maximum:
        return mean
    return torch.cat([mean, x.where(there, -torch.inf).amax(1)], -1)


def joined_size(size: int, segments: int, bodies: int) -> int:
    """Return the size of a feature after `pool_time` and `pool_bodies`, of `size` before them."""
    return size * 2 * segments * (2 if bodies > 1 else 1)
