"""The upkeep of momentum contrast as public ops, in place."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ikem_fast.ops._checks import bank_of, check_tensor, lifted

Weights = nn.Module | Iterable[Tensor]


@torch.no_grad()
def ema_update_(targets: Weights, sources: Weights, momentum: float) -> None:
    """Move weights towards others: target ← momentum · target + (1 − momentum) · source, all in one go.

    Args:
        targets: a module, whose parameters move, or tensors.
        sources: a module of the same parameters in the same order, or tensors.
        momentum: in 0 … 1.

    Raises:
        ValueError: there are not as many of both, two differ in shape, or momentum is out of range.

    Example:
        query, key = torch.nn.Linear(3, 4), torch.nn.Linear(3, 4)
        ema_update_(key, query, 0.999)

    Source: He et al., Momentum Contrast, equation 2.
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum: expected a number in 0 … 1, found {momentum!r}")
    moved, towards = _tensors(targets), _tensors(sources)
    if len(moved) != len(towards):
        raise ValueError(f"sources: expected {len(moved)} tensors, as targets has, found {len(towards)}")
    for number, (target, source) in enumerate(zip(moved, towards, strict=True)):
        if target.shape != source.shape:
            found = tuple(source.shape)
            raise ValueError(
                f"sources: expected shape {tuple(target.shape)} for tensor {number}, found {found}"
            )
    if moved:
        torch._foreach_lerp_(moved, towards, 1.0 - momentum)


@torch.no_grad()
def enqueue_(queue: Tensor, keys: Tensor, pointer: Tensor) -> None:
    """Replace the oldest keys of a bank by new ones; the ring wraps at its end. Nothing waits for a GPU.

    Args:
        queue: the bank, changed in place: (K,D) or (D,K), or (P,K,D) or (P,D,K); any strides.
        keys: (N,D), or (P,N,D), N ≤ K, as they shall stand in the bank: what others normalise is so already.
        pointer: one int64, () or (1,), the place of the next key, changed in place.

    Raises:
        TypeError, ValueError: an argument has another type, shape or device; N > K, where a key would be
            replaced by another of its own batch.

    Example:
        queue, pointer = torch.randn(64, 4096), torch.zeros(1, dtype=torch.int64)  # (D,K), as MoCo keeps it
        enqueue_(queue, torch.randn(32, 64), pointer)  # pointer is 32 now

    Source: He et al., Momentum Contrast, section 3.1.
    """
    keys = lifted(keys)
    check_tensor("keys", keys, (("P", None), ("N", None), ("D", None)))
    P, N, D = keys.shape
    bank = bank_of(queue, P, D, like=keys)
    K = bank.shape[1]
    if N > K:
        raise ValueError(f"keys: expected at most {K} keys, the bank's size, found {N}")
    if not isinstance(pointer, torch.Tensor) or pointer.dtype != torch.int64 or pointer.numel() != 1:
        found = tuple(pointer.shape) if isinstance(pointer, torch.Tensor) else type(pointer).__name__
        raise ValueError(f"pointer: expected a tensor of one int64, found {found}")
    places = (pointer.reshape(()).to(bank.device) + torch.arange(N, device=bank.device)) % K
    bank.index_copy_(1, places, keys.to(bank.dtype))
    pointer.add_(N).remainder_(K)


def _tensors(weights):
    return list(weights.parameters() if isinstance(weights, nn.Module) else weights)
