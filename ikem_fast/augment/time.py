"""Augmentations in time, of given parameters: nothing is drawn, and all are differentiable."""

import math
from typing import Literal

import torch
from torch import Tensor

from ikem_fast.augment.clips import check, kept, on_clips

BLUR_TAPS = 15


@on_clips
def temporal_crop(x: Tensor, start: Tensor, padding: int) -> Tensor:
    """Take a window of T frames out of each clip padded on both sides by mirrored frames.

    The mirror repeats the edge: the padded clip is frames padding−1 … 0, 0 … T−1, T−1 … T−padding.

    Args:
        x: (N,3,T,V,M).
        start: (N,) integer, first frame of the window in the padded clip, in 0 … 2·padding.
        padding: frames added on each side, 0 … T.

    Returns:
        (N,3,T,V,M).

    Example:
        temporal_crop(x, draw_crop_start(len(x), 50), padding=50 // 6)  # of clips of 50 frames
    """
    T = x.shape[2]
    check("start", start, (len(x),))
    if not 0 <= padding <= T:
        raise ValueError(f"padding: expected 0 … {T}, the frames of a clip, found {padding}")
    return _take_frames(
        x, _mirrored(start[:, None] + torch.arange(-padding, T - padding, device=x.device), T)
    )


@on_clips
def crop_resize(x: Tensor, start: Tensor, length: Tensor, frames: int | None = None) -> Tensor:
    """Stretch a window of each clip by linear interpolation (half-pixel centers).

    Args:
        x: (N,3,T,V,M).
        start: (N,) first frame of the window, whole or not.
        length: (N,) frames in the window, ≥ 1. Where the window goes past an end of the clip, the frame at
            that end is held.
        frames: how many there shall be, T where left out; CMD and its kin make 64 of 300.

    Returns:
        (N,3,frames,V,M).

    Example:
        crop_resize(x, torch.zeros(len(x)), torch.full((len(x),), 30), frames=64)  # 30 frames become 64
    """
    N, _, T, _, _ = x.shape
    frames = T if frames is None else frames
    if frames < 1 and T > 0:
        raise ValueError(f"frames: expected at least 1, found {frames}")
    check("start", start, (N,))
    check("length", length, (N,))
    start, length = start.to(torch.float32)[:, None], length.to(torch.float32)[:, None]
    center = (torch.arange(frames, device=x.device) + 0.5) * length / frames - 0.5
    at = (start + torch.minimum(center.clamp(min=0), length - 1)).clamp(0, max(T - 1, 0))
    return _between_frames(x, at)


@on_clips
def warp_time(x: Tensor, curve: Tensor) -> Tensor:
    """Play clips faster here and slower there; the first and the last frame stay where they are.

    Args:
        x: (N,3,T,V,M).
        curve: (N,2) a, b: where the clip stood at t in 0 … 1, it stands at
            t + a sin(πt)/π + b sin(2πt)/2π, held within 0 … 1. It never runs backwards while |a| + |b| ≤ 1.

    Returns:
        (N,3,T,V,M) in the dtype of x, by linear interpolation.

    Example:
        warp_time(x, draw_uniform((len(x), 2), -0.4, 0.4))
    """
    N, _, T, _, _ = x.shape
    check("curve", curve, (N, 2))
    t = torch.linspace(0, 1, T, device=x.device)
    waves = torch.stack([torch.sin(math.pi * t) / math.pi, torch.sin(2 * math.pi * t) / (2 * math.pi)])
    shift = (curve.to(torch.float32)[:, :, None] * waves).sum(1)
    at = (t + shift).clamp(0, 1) * (T - 1)
    return _between_frames(x, at)


@on_clips
def reverse_time(x: Tensor, reversed_: Tensor) -> Tensor:
    """Play clips backwards: reversed_ (N,) bool.

    Example:
        reverse_time(x, torch.rand(len(x)) < 0.5)
    """
    check("reversed_", reversed_, (len(x),), kind=torch.bool)
    frame = torch.arange(x.shape[2], device=x.device)
    return _take_frames(x, torch.where(reversed_[:, None], frame.flip(0), frame))


@on_clips
def blur(
    x: Tensor,
    sigma: Tensor,
    *,
    normalize: bool = True,
    ends: Literal["mirrored", "zero"] = "mirrored",
) -> Tensor:
    """Blur over time: Gaussian, 15 taps, standard deviation sigma (N,) in frames.

    Args:
        x: (N,3,T,V,M).
        sigma: (N,).
        normalize: weights add up to 1; with False the middle one is 1, as in AimCLR.
        ends: what is beyond the ends of a clip: its mirror image, or zeros, as in AimCLR.

    Example:
        blur(x, draw_uniform((len(x),), 0.1, 2.0))
    """
    T = x.shape[2]
    check("sigma", sigma, (len(x),))
    if ends not in ("mirrored", "zero"):
        raise ValueError(f"ends: expected 'mirrored' or 'zero', found {ends!r}")
    tap = torch.arange(BLUR_TAPS, device=x.device) - BLUR_TAPS // 2
    exponent = -0.5 * (tap / sigma[:, None].clamp(min=1e-3)) ** 2
    weight = torch.softmax(exponent, 1) if normalize else exponent.exp()
    frame = tap[:, None] + torch.arange(T, device=x.device)
    inside = (frame >= 0) & (frame < T)
    # (taps,T,T): tap k at t reads frame j
    reaches = torch.nn.functional.one_hot(_mirrored(frame, T), T).to(weight.dtype)
    if ends == "zero":
        reaches = reaches * inside[:, :, None]
    return _mix_frames(x, torch.tensordot(weight, reaches, 1))


@on_clips
def mask_frames(x: Tensor, masked: Tensor) -> Tensor:
    """Multiply whole frames by 0: masked (N,T) bool.

    Example:
        mask_frames(x, draw_chosen(len(x), x.shape[2], 5))  # five frames of each clip
    """
    check("masked", masked, (len(x), x.shape[2]), kind=torch.bool)
    return x * kept(masked, x).view(len(x), 1, x.shape[2], 1, 1)


def _take_frames(x, frame):
    """The frames (N,T) of each clip, as rows of V·M values, which copy far faster than single values."""
    N, C, T, V, M = x.shape
    if N == 1:
        return x.index_select(2, frame[0])
    row = torch.arange(0, N * C * T, T, device=x.device).view(N, C, 1) + frame[:, None]
    return x.reshape(N * C * T, V * M).index_select(0, row.flatten()).view(N, C, frame.shape[1], V, M)


def _between_frames(x, at):
    """Clips at times (N,·) in frames, 0 … T−1, by linear interpolation."""
    N, _, T, _, _ = x.shape
    before = at.long()
    dtype = torch.promote_types(torch.float32, x.dtype)
    weight = (at - before).to(dtype).view(N, 1, at.shape[1], 1, 1)
    frames = (_take_frames(x, frame).to(dtype) for frame in (before, (before + 1).clamp(max=max(T - 1, 0))))
    return torch.lerp(*frames, weight).to(x.dtype)


def _mix_frames(x, weight):
    """Frame t of clip n becomes Σ_j weight[n,t,j] x_j: weight (N,T,T)."""
    dtype = torch.promote_types(weight.dtype, x.dtype)
    with torch.autocast(x.device.type, enabled=False):
        return (weight.to(dtype)[:, None] @ x.to(dtype).flatten(3)).view(x.shape).to(x.dtype)


def _mirrored(frame, T):
    """Frames of an endlessly mirrored clip (…, 1, 0, 0, 1, …, T−1, T−1, T−2, …) as frames of the clip."""
    frame = frame % (2 * T)
    return torch.minimum(frame, 2 * T - 1 - frame).long()
