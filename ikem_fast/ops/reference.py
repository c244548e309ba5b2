"""Every op in plain torch: the definition in readable form, and the truth that fused versions are held to.

Losses come back per clip; arguments are assumed valid (`api` checks them). Arithmetic is float32, or
float64 where an argument is; similarities and products over the bank are written out.
"""

import functools
import math

import torch
import torch.nn.functional as F

from ikem_fast import augment
from ikem_fast.skeleton import MAX_COORDINATE


def _outside_autocast(op):
    """Autocast would take the matrix products to low precision behind the op's back."""

    @functools.wraps(op)
    def full_precision(tensor, *args):
        with torch.autocast(tensor.device.type, enabled=False):
            return op(tensor, *args)

    return full_precision


@_outside_autocast
def derive_modalities(x, frames, modalities, layout, shear, crop_start, out_dtype):
    """x (N,3,T,V,M) → (P,N,3,T,V,M). Paper section 3.1; formulas in docs/method.md."""
    x = x.to(_compute_dtype(x))
    if crop_start is not None:
        x = augment.temporal_crop(x, crop_start, padding=x.shape[2] // 6)
    if shear is not None:
        x = augment.shear(x, shear.to(x.dtype))

    T = x.shape[2]
    speed = (T / frames.to(x.dtype) if frames is not None else x.new_ones(x.shape[0])).view(-1, 1, 1, 1, 1)
    joints_of = lambda table: torch.tensor(table, device=x.device)  # noqa: E731
    axis = joints_of(layout.axis_parents)

    def derivative(y):
        """Forward difference per original frame; the last frame, which has no successor, is 0."""
        return F.pad(y[:, :, 1:] - y[:, :, :-1], (0, 0, 0, 0, 0, 1)) * speed

    def bone():
        a, b, c = layout.torso
        normal = _cross(x[..., a, :] - x[..., c, :], x[..., b, :] - x[..., c, :])
        # In float64, to the last bit: the children's rotation axes are crossed with it.
        normal = _unit(normal.double()).to(x.dtype)
        bones = x - x[..., joints_of(layout.parents), :]
        is_root = torch.arange(layout.num_joints, device=x.device) == layout.root
        return torch.where(is_root[:, None], normal.unsqueeze(-2), bones)

    def rotation_axis():
        bones = bone()
        return _cross(bones, bones[..., axis, :])

    def angular_velocity():
        u = _unit(bone())
        w = u[..., axis, :]
        sine = torch.linalg.vector_norm(_cross(u, w), dim=1, keepdim=True)
        cosine = (u * w).sum(1, keepdim=True)
        # A zero bone has no direction and turns by nothing; atan2 has no gradient at (0, 0).
        undefined = (sine == 0) & (cosine == 0)
        angle = torch.atan2(sine, torch.where(undefined, torch.ones_like(cosine), cosine))
        return derivative(angle) * _unit(rotation_axis())

    def acceleration():
        second = derivative(derivative(x))
        second[:, :, max(T - 2, 0) :] = 0
        return second

    derive = {
        "joint": lambda: x,
        "motion": lambda: derivative(x),
        "bone": bone,
        "acceleration": acceleration,
        "rotation_axis": rotation_axis,
        "angular_velocity": angular_velocity,
    }
    return torch.stack([derive[name]() for name in modalities]).to(out_dtype)


def preprocess_clips(raw, starts, lengths, frames, layout):
    """raw (3,ΣF,V,M), starts and lengths (N,) → (N,3,frames,V,M) float32, true frame counts (N,) int64."""
    N, total, device = len(lengths), raw.shape[1], raw.device
    if not total:
        return raw.new_zeros((N, 3, frames, *raw.shape[2:]), dtype=torch.float32), torch.zeros_like(lengths)
    clip = torch.repeat_interleave(torch.arange(N, device=device), lengths, output_size=total)
    count = lambda flags: torch.zeros_like(lengths).index_add_(0, clip, flags.long())  # noqa: E731
    is_first = (raw[:, :, 0, 0] != 0).any(0)
    is_any = (raw[..., 0] != 0).any(0).any(-1)
    valid = torch.where((count(is_first) > 0)[clip], is_first, is_any)
    usable = (raw.abs() < MAX_COORDINATE).all(0).flatten(1).all(1)  # NaN is not
    true_frames = torch.where(count(~usable) > 0, -1, count(valid))

    # The frames of the result lie between frames `before` and `after` of the valid ones.
    source = torch.argsort((~valid).long(), stable=True)
    length = count(valid)[:, None]
    t = torch.arange(frames, device=device, dtype=torch.float64)
    position = (t + 0.5) * (length.double() / frames) - 0.5
    position = position.clamp(min=0).minimum(length - 1).clamp(min=0)
    before = position.long()
    weight = (position - before).to(raw.dtype)[..., None, None]
    first = length.cumsum(0) - length
    frame = lambda index: raw[:, source[(first + index).clamp(max=total - 1)]]  # noqa: E731
    start = frame(before)  # (3,N,T,V,M)
    x = start + (frame((before + 1).minimum(length - 1).clamp(min=0)) - start) * weight
    x = x - x[..., layout.root, None, :]

    right, left = layout.shoulders
    across = (x[..., right, :] - x[..., left, :]).double()  # (3,N,T,M)
    cos = across[0] / ((across[0] ** 2 + across[2] ** 2).sqrt() + 1e-4)
    sin = (1 - cos * cos).sqrt() * torch.where(across[2].sum(1, keepdim=True) >= 0, -1, 1)
    cos, sin = (turn.to(x.dtype)[:, :, None] for turn in (cos, sin))
    turned = torch.stack((cos * x[0] - sin * x[2], x[1], sin * x[0] + cos * x[2]), 1)
    there = (true_frames > 0).view(-1, 1, 1, 1, 1)
    return torch.where(there, turned, 0).float(), true_frames


@_outside_autocast
def info_nce(q, k, queue, temperature):
    """(P,N,D), (P,N,D), (P,K,D) → (P,N): log(e^pos + e^S) − pos."""
    return _contrast(*_features(q, k, queue), temperature)


@_outside_autocast
def cross_modal_contrast(q, k, queue, temperature, topk, context):
    """(P,N,D), (P,N,D), (P,K,D) → (P,N): mean over j ≠ i of ℓ_ij."""
    q, k, queue = _features(q, k, queue)
    P = len(q)
    positive = (q * k).sum(-1) / temperature
    s = q @ queue.mT
    mined = s.detach().topk(topk, -1).indices
    return torch.stack([
        sum(_relational(positive[i], s[i], s[j], mined[j], temperature, context) for j in range(P) if j != i)
        / (P - 1)
        for i in range(P)
    ])  # fmt: skip


@_outside_autocast
def implicit_exchange(z, k, queue, temperature):
    """z (P,N,P·D), k (P,N,D), queue (P,K,D) → (P,N): each z_i against all banks side by side."""
    z, k, queue = _features(z, k, queue)
    return _contrast(z, _side_by_side(k), _side_by_side(queue), temperature)


@_outside_autocast
def relational_distillation(student, teacher, queue, temperature, topk, context):
    """student (S,N,P·D), teacher (P,N,D), queue (P,K,D) → (S,N): mean over the teacher's modalities."""
    u, t, queue = _features(student, teacher, queue)
    positive = (u * _side_by_side(t)).sum(-1) / temperature
    s_student = u @ _side_by_side(queue).mT
    s_teacher = t @ queue.mT
    mined = s_teacher.topk(topk, -1).indices
    return torch.stack([
        sum(
            _relational(positive[a], s_student[a], s_teacher[i], mined[i], temperature, context)
            for i in range(len(t))
        )
        / len(t)
        for a in range(len(u))
    ])  # fmt: skip


@_outside_autocast
def nearest_neighbors(q, queue, topk):
    """(P,N,D), (P,K,D) → values (P,N,topk), indices (P,N,topk) int64, most similar first."""
    q, _, queue = _features(q, q, queue)
    return tuple((q @ queue.mT).topk(topk, -1))


def _relational(positive, s, s_other, mined, temperature, context):
    """ℓ_ij (N,): own similarities s (N,K), another modality's s_other (N,K) and nearest keys (N,topk)."""
    score = s.gather(-1, mined).sum(-1)
    partition = torch.logaddexp(positive, torch.logsumexp(s / temperature, -1))
    if not context:
        return partition - (positive + score / temperature) / (1 + mined.shape[-1])
    c = s * s_other
    score = score + c.gather(-1, mined).sum(-1)
    partition = torch.logaddexp(partition, torch.logsumexp(c / temperature, -1))
    return partition - (positive + score / temperature) / (1 + 2 * mined.shape[-1])


def _contrast(q, k, queue, temperature):
    """InfoNCE of unit q (P,N,D) against unit k (P,N,D) and queue (K,D) or (P,K,D) → (P,N).

    Cross entropy of the written-out logits: the published formulation, which this rounds alike.
    """
    logits = torch.cat([(q * k).sum(-1, keepdim=True), q @ queue.mT], -1) / temperature
    target = torch.zeros(logits.shape[:-1], dtype=torch.int64, device=q.device)
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target)


def _features(learned, fixed, queue):
    """To the dtype of computation; the first two normalised; gradients reach the first alone."""
    dtype = _compute_dtype(learned, fixed, queue)
    learned = F.normalize(learned.to(dtype), dim=-1)
    return learned, F.normalize(fixed.detach().to(dtype), dim=-1), queue.detach().to(dtype)


def _side_by_side(unit):
    """(P,R,D) unit rows → (R,P·D) unit rows: the concatenation over modalities, divided by √P."""
    return torch.cat(tuple(unit), -1) / math.sqrt(len(unit))


def _compute_dtype(*tensors):
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def _unit(v):
    """Vectors of unit length along dim 1; zero vectors stay 0, with gradient 0."""
    return F.normalize(v, dim=1, eps=1e-12)


def _cross(a, b):
    """a × b along dim 1, each product rounded by itself, so that parallel vectors give exactly 0.

    torch.linalg.cross fuses one product of each difference where the CPU can: b × b is then not 0.
    """
    (ax, ay, az), (bx, by, bz) = a.unbind(1), b.unbind(1)
    return torch.stack((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx), 1)
