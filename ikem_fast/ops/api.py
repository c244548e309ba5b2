"""The public ops: check the arguments, pick an implementation, reduce.

What each op computes is written out in `reference`; this file decides only who computes it.
"""

import os

import torch

from ikem_fast.ops import _library, reference
from ikem_fast.ops._checks import (
    check_choice,
    check_modalities,
    check_per_clip,
    check_temperature,
    check_tensor,
    check_topk,
)
from ikem_fast.ops._support import IMPLEMENTATIONS, takes_fused
from ikem_fast.ops.bank import tiled
from ikem_fast.ops.modalities import native as modalities_native
from ikem_fast.ops.preprocessing import native as preprocessing_native
from ikem_fast.skeleton import MODALITIES, get_layout

try:
    from ikem_fast.ops.bank import triton
except ImportError:  # Triton is made for Linux and optional there
    triton = None


def derive_modalities(
    x,
    frames=None,
    *,
    modalities=MODALITIES,
    layout="ntu-rgb+d",
    shear=None,
    crop_start=None,
    out_dtype=None,
    impl="auto",
):
    """Derive the modalities of a batch of clips, augmenting the clips first if asked to.

    With s = T / frames (the clip's own frame rate after resampling to T frames), parent and axis tables of
    the layout, n(v) = v / ‖v‖, and forward differences that are 0 where a later frame is missing:

    - joint: x
    - motion: m_t = s (x_{t+1} − x_t)
    - bone: b_v = x_v − x_{parent(v)}; the root carries the unit normal of the torso
    - acceleration: s (m_{t+1} − m_t)
    - rotation_axis: r_v = b_v × b_{axis(v)}
    - angular_velocity: s (θ_{t+1} − θ_t) n(r)_t, θ the angle between b_v and b_{axis(v)} in radians

    Args:
        x: (N,3,T,V,M) float: joint coordinates, in any unit of length.
        frames: (N,) each clip's frame count before resampling; T where left out, so that s = 1.
        modalities: which to derive, in this order.
        layout: name of a joint layout, or a `skeleton.Layout`, with V joints.
        shear: (N,3,3) a matrix for each clip: x' = M x. Shear, rotation, scaling and mirroring alike.
        crop_start: (N,) in 0 … 2·(T//6): start of a window of T frames in the clip padded on both sides by
            T//6 mirrored frames.
        out_dtype: dtype of the result; float64 for float64 input, else float32, where left out.
        impl: "auto", "fused" or "reference".

    Returns:
        (P,N,3,T,V,M). Differentiable with respect to x. Bodies that are 0 stay 0; nothing becomes NaN.

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
        RuntimeError: impl="fused" and there is no native kernel for this device or dtype.

    Source: section 3.1 of arXiv 2309.12009.
    """
    layout = get_layout(layout)
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        found = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
        raise TypeError(f"x: expected a floating-point tensor (N,3,T,V,M), found {found}")
    if x.dim() != 5 or x.shape[1] != 3 or x.shape[2] < 1 or x.shape[3] != layout.num_joints:
        raise ValueError(
            f"x: expected shape (N, 3, T, V={layout.num_joints}, M) for layout {layout.name!r}, "
            f"found {tuple(x.shape)}"
        )
    check_modalities(modalities, MODALITIES)
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
    ops = modalities_native if takes_fused(impl, modalities_native.support_for(x, out_dtype)) else reference
    return ops.derive_modalities(x, frames, modalities, layout, shear, crop_start, out_dtype)


def preprocess_clips(raw, lengths, *, frames=50, layout="ntu-rgb+d", impl="auto"):
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

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
        RuntimeError: impl="fused" and there is no native kernel for this device.

    Source: the preprocessing of CrosSCLR, which IKEM takes over.
    """
    layout = get_layout(layout)
    if not isinstance(raw, torch.Tensor) or not raw.is_floating_point():
        found = raw.dtype if isinstance(raw, torch.Tensor) else type(raw).__name__
        raise TypeError(f"raw: expected a floating-point tensor (3,F,V,M), found {found}")
    if raw.dim() != 4 or raw.shape[0] != 3 or raw.shape[2] != layout.num_joints or raw.shape[3] < 1:
        raise ValueError(
            f"raw: expected shape (3, F, V={layout.num_joints}, M) for layout {layout.name!r}, "
            f"found {tuple(raw.shape)}"
        )
    if not isinstance(frames, int) or frames < 1:
        raise ValueError(f"frames: expected an integer of at least 1, found {frames!r}")
    check_choice("impl", impl, IMPLEMENTATIONS)
    check_per_clip("lengths", lengths, len(lengths), like=raw, low=0)
    if lengths.dtype != torch.int64:
        raise TypeError(f"lengths: expected int64, found {lengths.dtype}")
    if raw.device.type == "cpu" and lengths.sum() != raw.shape[1]:
        raise ValueError(
            f"lengths: expected the {raw.shape[1]} frames of raw in all, found {lengths.sum().item()}"
        )
    support = _library.support_on(raw.device.type)
    ops = preprocessing_native if takes_fused(impl, support) else reference
    raw = raw.detach().to(torch.float64 if raw.dtype == torch.float64 else torch.float32)
    return ops.preprocess_clips(raw, lengths.cumsum(0) - lengths, lengths, frames, layout)


def info_nce(q, k, queue, *, temperature=0.07, reduction="mean", impl="auto"):
    """Contrast each query with its key against a bank of negative keys, a loss for each modality.

    log(e^pos + Σ_k e^{q·Q_k/τ}) − pos, with pos = q·k/τ.

    Args:
        q: (P,N,D) query features; normalised inside. The only argument that receives a gradient.
        k: (P,N,D) key features; normalised inside.
        queue: (P,K,D) the bank, rows of unit length.
        temperature: τ > 0.
        reduction: "mean" over the batch, or "none".
        impl: "auto", "fused" or "reference".

    Returns:
        (P,), or (P,N) with reduction="none"; float64 where an argument is float64, else float32.

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
        RuntimeError: impl="fused" and there is no fused implementation for this device or dtype.

    Source: phase 1 of arXiv 2309.12009; He et al., Momentum Contrast, equation 1.
    """
    _check_bank_arguments(q, k, queue, temperature, reduction, impl)
    ops = _bank_ops(impl, q, k, queue)
    return _reduce(ops.info_nce(q, k, queue, temperature), reduction)


def cross_modal_contrast(
    q, k, queue, *, temperature=0.07, topk=1, context=True, reduction="mean", impl="auto"
):
    """Contrast each modality under the guidance of every other: mined neighbours, with their context.

    For modalities i ≠ j, s_i = q_i Q_iᵀ and c_ij = s_i ⊙ s_j over the bank, top_j the topk largest of s_j:

        ℓ_ij = log(e^pos_i + Σ e^{s_i/τ} + Σ e^{c_ij/τ}) − [pos_i + Σ_{top_j}(s_i + c_ij)/τ] / (1 + 2·topk)

    The loss of i is the mean over j. Gradients flow into both factors of c_ij.

    Args:
        q: (P,N,D) query features, P ≥ 2; normalised inside. The only argument that receives a gradient.
        k: (P,N,D) key features; normalised inside.
        queue: (P,K,D) the banks, rows of unit length; row r of every bank belongs to the same clip.
        temperature: τ > 0.
        topk: neighbours mined for each query, 1 … K.
        context: with False the products c_ij are left out (and the divisor is 1 + topk).
        reduction: "mean" over the batch, or "none".
        impl: "auto", "fused" or "reference".

    Returns:
        (P,), or (P,N) with reduction="none"; float64 where an argument is float64, else float32.

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
        RuntimeError: impl="fused" and there is no fused implementation for this device, dtype or topk.

    Source: phase 2 of arXiv 2309.12009; CrosSCLR (Li et al. 2021), sections 3.2 and 3.3.
    """
    _check_bank_arguments(q, k, queue, temperature, reduction, impl)
    if q.shape[0] < 2:
        raise ValueError(f"q: expected at least two modalities (P ≥ 2), found shape {tuple(q.shape)}")
    check_topk(topk, queue.shape[1])
    ops = _bank_ops(impl, q, k, queue, topk=topk)
    return _reduce(ops.cross_modal_contrast(q, k, queue, temperature, topk, context), reduction)


def implicit_exchange(z, k, queue, *, temperature=0.07, reduction="mean", impl="auto"):
    """Contrast each modality's exchange feature with the concatenation of all modalities' keys.

    InfoNCE of n(z_i) against k = [k_1 … k_P]/√P and the banks side by side, Q = [Q_1 … Q_P]/√P.

    Args:
        z: (P,N,P·D) outputs of the exchange heads; normalised inside. The only one with a gradient.
        k: (P,N,D) key features; normalised inside.
        queue: (P,K,D) the banks, rows of unit length; row r of every bank belongs to the same clip.
        temperature: τ > 0.
        reduction: "mean" over the batch, or "none".
        impl: "auto", "fused" or "reference".

    Returns:
        (P,), or (P,N) with reduction="none"; float64 where an argument is float64, else float32.

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
        RuntimeError: impl="fused" and there is no fused implementation for this device or dtype.

    Source: section 3.3 of arXiv 2309.12009 (Implicit Knowledge Exchange Module).
    """
    check_tensor("k", k, (("P", None), ("N", None), ("D", None)))
    P, N, D = k.shape
    check_tensor("z", z, (("P", P), ("N", N), ("P·D", P * D)), like=k)
    check_tensor("queue", queue, (("P", P), ("K", None), ("D", D)), like=k)
    _check_options(temperature, reduction, impl)
    ops = _bank_ops(impl, z, k, queue)
    return _reduce(ops.implicit_exchange(z, k, queue, temperature), reduction)


def relational_distillation(
    student, teacher, queue, *, temperature=0.07, topk=1, context=True, reduction="mean", impl="auto"
):
    """Distil the relations of a frozen teacher's modalities with the bank into students.

    With u_a = n(student_a), t_i = n(teacher_i), key t = [t_1 … t_P]/√P, banks side by side
    Q = [Q_1 … Q_P]/√P, pos_a = u_a·t/τ, s_a = u_a Qᵀ, c_ai = s_a ⊙ (t_i Q_iᵀ), top_i the topk largest of
    t_i Q_iᵀ, the loss of student a is the mean over i of

        log(e^pos_a + Σ e^{s_a/τ} + Σ e^{c_ai/τ}) − [pos_a + Σ_{top_i}(s_a + c_ai)/τ] / (1 + 2·topk)

    Args:
        student: (S,N,P·D) the students' features; normalised inside. The only one with a gradient.
        teacher: (P,N,D) the teacher's features, one for each of its modalities; normalised inside.
        queue: (P,K,D) the teacher's banks, rows of unit length; row r of every bank is the same clip.
        temperature: τ > 0.
        topk: neighbours mined for each anchor, 1 … K.
        context: with False the products c_ai are left out (and the divisor is 1 + topk).
        reduction: "mean" over the batch, or "none".
        impl: "auto", "fused" or "reference".

    Returns:
        (S,), or (S,N) with reduction="none"; float64 where an argument is float64, else float32.

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
        RuntimeError: impl="fused" and there is no fused implementation for this device, dtype or topk.

    Source: section 3.4 of arXiv 2309.12009 (relational cross-modality knowledge distillation).
    """
    check_tensor("teacher", teacher, (("P", None), ("N", None), ("D", None)))
    P, N, D = teacher.shape
    check_tensor("student", student, (("S", None), ("N", N), ("P·D", P * D)), like=teacher)
    check_tensor("queue", queue, (("P", P), ("K", None), ("D", D)), like=teacher)
    _check_options(temperature, reduction, impl)
    check_topk(topk, queue.shape[1])
    ops = _bank_ops(impl, student, teacher, queue, topk=topk)
    loss = ops.relational_distillation(student, teacher, queue, temperature, topk, context)
    return _reduce(loss, reduction)


def nearest_neighbors(q, queue, topk, *, impl="auto"):
    """The most similar keys of the bank for each query, without storing the N×K similarities.

    Args:
        q: (P,N,D) features; normalised inside.
        queue: (P,K,D) the banks, rows of unit length.
        topk: how many, 1 … K.
        impl: "auto", "fused" or "reference".

    Returns:
        values (P,N,topk): cosine similarities, largest first; float64 where an argument is, else float32.
        indices (P,N,topk) int64: rows of the bank. No gradients.

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
        RuntimeError: impl="fused" and there is no fused implementation for this device, dtype or topk.

    Source: the mining of CrosSCLR (Li et al. 2021), section 3.2.
    """
    check_tensor("q", q, (("P", None), ("N", None), ("D", None)))
    check_tensor("queue", queue, (("P", q.shape[0]), ("K", None), ("D", q.shape[2])), like=q)
    check_choice("impl", impl, IMPLEMENTATIONS)
    check_topk(topk, queue.shape[1])
    with torch.no_grad():
        return _bank_ops(impl, q, queue, topk=topk).nearest_neighbors(q, queue, topk)


def _check_bank_arguments(q, k, queue, temperature, reduction, impl):
    check_tensor("q", q, (("P", None), ("N", None), ("D", None)))
    P, N, D = q.shape
    check_tensor("k", k, (("P", P), ("N", N), ("D", D)), like=q)
    check_tensor("queue", queue, (("P", P), ("K", None), ("D", D)), like=q)
    _check_options(temperature, reduction, impl)


def _check_options(temperature, reduction, impl):
    check_temperature(temperature)
    check_choice("reduction", reduction, ("mean", "none"))
    check_choice("impl", impl, IMPLEMENTATIONS)


# With so few similarities (P·N·K) all of them fit in cache and "auto" takes plain torch on the CPU: as fast
# as tiles, and rounding as the published code does, which shows where a loss is near 0.
SMALL_BANK = 1 << 16


def _bank_ops(impl, *tensors, topk=1):
    """The module that computes the bank losses of these tensors (features first, the bank last)."""
    features, queue = tensors[0], tensors[-1]
    if impl == "auto" and features.device.type == "cpu":
        small = features.shape[1] * queue.shape[0] * queue.shape[1] <= SMALL_BANK
        impl = "reference" if small else "auto"
    if impl == "reference":
        return reference
    fused, obstacle = _fused_bank_ops(impl, tensors, topk)
    if obstacle and impl == "fused":
        raise RuntimeError(f"impl='fused': {obstacle}; call with impl='reference' or impl='auto'")
    return reference if obstacle else fused


def _fused_bank_ops(impl, tensors, topk):
    """The module for these tensors' device, and what keeps it from computing them (None if nothing does)."""
    device = tensors[-1].device.type
    if any(tensor.dtype == torch.float64 for tensor in tensors):
        return None, "fused losses compute in float32 and an argument is float64"
    if device == "cpu" and not (impl == "fused" and os.environ.get("TRITON_INTERPRET") == "1"):
        return tiled, None
    if device not in ("cpu", "cuda"):
        return None, f"there are no fused losses for device {tensors[-1].device}"
    if triton is None:
        return None, "Triton cannot be imported (pip install triton)"
    return triton, triton.obstacle(tensors[-1], topk)


def _reduce(loss, reduction):
    return loss.mean(-1) if reduction == "mean" else loss
