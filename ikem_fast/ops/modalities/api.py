"""The modalities of a clip as a public op: check the arguments, choose who computes.

What is computed is written out in `definitions`, a file for each modality.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ikem_fast.ops._checks import check_choice, check_modalities, check_per_clip, check_tensor
from ikem_fast.ops._support import IMPLEMENTATIONS, Implementation, takes_fused
from ikem_fast.ops.modalities import native, reference
from ikem_fast.ops.modalities.definitions import DEFINITIONS, check_derivable
from ikem_fast.skeleton import MODALITIES, Layout, get_layout


def derive_modalities(
    x: Tensor,
    frames: Tensor | None = None,
    *,
    modalities: Sequence[str] = MODALITIES,
    layout: str | Layout = "ntu-rgb+d",
    shear: Tensor | None = None,
    crop_start: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
    impl: Implementation = "auto",
) -> Tensor:
    """Derive the modalities of a batch of clips, augmenting the clips first if asked to.

    With s = T / frames (the clip's own frame rate after resampling to T frames), parent and axis tables of
    the layout, n(v) = v / ‖v‖, and forward differences that are 0 where a later frame is missing:

    - joint: x
    - motion: m_t = s (x_{t+1} − x_t)
    - bone: b_v = x_v − x_{parent(v)}; the root carries the unit normal of the torso, or 0 where the layout
      has no torso
    - acceleration: s (m_{t+1} − m_t)
    - rotation_axis: r_v = b_v × b_{axis(v)}
    - angular_velocity: s (θ_{t+1} − θ_t) n(r)_t, θ the angle between b_v and b_{axis(v)} in radians

    Args:
        x: (N,3,T,V,M) float: joint coordinates, in any unit of length.
        frames: (N,) each clip's frame count before resampling; T where left out, so that s = 1.
        modalities: which to derive, in this order, out of those in `definitions/`; the paper's six where
            left out.
        layout: name of a joint layout, or a `skeleton.Layout`, with V joints.
        shear: (N,3,3) a matrix for each clip: x' = M x. Shear, rotation, scaling and mirroring alike.
        crop_start: (N,) in 0 … 2·(T//6): start of a window of T frames in the clip padded on both sides by
            T//6 mirrored frames.
        out_dtype: dtype of the result; float64 for float64 input, else float32, where left out.
        impl: "auto", "fused" or "reference".

    Returns:
        (P,N,3,T,V,M). Differentiable with respect to x. Bodies that are 0 stay 0; nothing becomes NaN.

    Example:
        clips = torch.randn(8, 3, 50, 25, 2)
        joint, motion = derive_modalities(clips, modalities=("joint", "motion"))

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range, or the layout no torso,
            which rotation_axis and angular_velocity need; the message names it.
        RuntimeError: impl="fused" and there is no native kernel for this device or dtype.

    Source: section 3.1 of arXiv 2309.12009.
    """
    body = get_layout(layout)
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        found = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
        raise TypeError(f"x: expected a floating-point tensor (N,3,T,V,M), found {found}")
    if x.dim() != 5 or x.shape[1] != 3 or x.shape[2] < 1 or x.shape[3] != body.num_joints:
        raise ValueError(
            f"x: expected shape (N, 3, T, V={body.num_joints}, M) for layout {body.name!r}, "
            f"found {tuple(x.shape)}"
        )
    check_modalities(modalities, DEFINITIONS)
    check_derivable(modalities, body)
    check_choice("impl", impl, IMPLEMENTATIONS)
    clips = x.shape[0]
    if frames is not None:
        check_per_clip("frames", frames, clips, like=x, low=1)
    if shear is not None:
        check_tensor("shear", shear, (("N", clips), ("3", 3), ("3", 3)), like=x)
    if crop_start is not None:
        check_per_clip("crop_start", crop_start, clips, like=x, low=0, high=2 * (x.shape[2] // 6))
    if out_dtype is None:
        out_dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    ops = native if takes_fused(impl, native.support_for(x, modalities, out_dtype)) else reference
    return ops.derive_modalities(x, frames, modalities, body, shear, crop_start, out_dtype)
