"""Preprocessing of raw clips as a public op: check the arguments, choose who computes.

What is computed is written out in `reference`.
"""

import torch
from torch import Tensor

from ikem_fast.ops._checks import check_choice, check_per_clip
from ikem_fast.ops._support import IMPLEMENTATIONS, Implementation, takes_fused
from ikem_fast.ops.preprocessing import native, reference
from ikem_fast.skeleton import Layout, get_layout


def preprocess_clips(
    raw: Tensor,
    lengths: Tensor,
    *,
    frames: int = 50,
    layout: str | Layout = "ntu-rgb+d",
    impl: Implementation = "auto",
) -> tuple[Tensor, Tensor]:
    """Preprocess a batch of raw clips of any lengths: centred, resampled, shoulders along x.

    For each clip: subtract the layout's root joint per frame and body. Resample the frames that hold body 0
    linearly to T = `frames`, with half-pixel centres, as an image resize; a frame holds body 0 if its first
    joint is not zero or, where that is zero throughout (coordinates centred on it beforehand), any joint.
    Turn every frame of every body about y by θ = ∓arccos(x / (‖(x, z)‖ + 1e-4)), (x, y, z) being the vector
    from the left to the right shoulder; the sign is − where z sums to ≥ 0 over the resampled clip, else +.

    Args:
        raw: (3,F1+…+FN,V,M) float: the clips one after another; empty bodies are zero and stay zero.
            Computed in float64 where it is that, else in float32.
        lengths: (N,) int64: F1 … FN.
        frames: T, at least 1.
        layout: name of a joint layout, or a `skeleton.Layout`, with V joints.
        impl: "auto", "fused" or "reference".

    Returns:
        (clips (N,3,T,V,M) float32, true frame counts (N,) int64: how many frames hold body 0). A count is 0
        where none does, −1 where a coordinate is NaN, infinite or 1e9 and more; such a clip is 0. Without
        gradient.

    Example:
        raw = torch.randn(3, 70 + 40, 25, 2)  # two clips, of 70 and 40 frames
        clips, frames = preprocess_clips(raw, torch.tensor([70, 40]))

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
        RuntimeError: impl="fused" and there is no native kernel for this device.

    Source: the preprocessing of CrosSCLR, which IKEM takes over.
    """
    body = get_layout(layout)
    if not isinstance(raw, torch.Tensor) or not raw.is_floating_point():
        found = raw.dtype if isinstance(raw, torch.Tensor) else type(raw).__name__
        raise TypeError(f"raw: expected a floating-point tensor (3,F,V,M), found {found}")
    if raw.dim() != 4 or raw.shape[0] != 3 or raw.shape[2] != body.num_joints or raw.shape[3] < 1:
        raise ValueError(
            f"raw: expected shape (3, F, V={body.num_joints}, M) for layout {body.name!r}, "
            f"found {tuple(raw.shape)}"
        )
    if not isinstance(frames, int) or frames < 1:
        raise ValueError(f"frames: expected an integer of at least 1, found {frames!r}")
    if body.shoulders is None:
        raise ValueError(f"layout: expected shoulders to turn clips by, found {body.name!r} without")
    check_choice("impl", impl, IMPLEMENTATIONS)
    check_per_clip("lengths", lengths, len(lengths), like=raw, low=0)
    if lengths.dtype != torch.int64:
        raise TypeError(f"lengths: expected int64, found {lengths.dtype}")
    if raw.device.type == "cpu" and lengths.sum() != raw.shape[1]:
        raise ValueError(
            f"lengths: expected the {raw.shape[1]} frames of raw in all, found {lengths.sum().item()}"
        )
    ops = native if takes_fused(impl, native.support_for(raw)) else reference
    raw = raw.detach().to(torch.float64 if raw.dtype == torch.float64 else torch.float32)
    return ops.preprocess_clips(raw, lengths.cumsum(0) - lengths, lengths, frames, body)
