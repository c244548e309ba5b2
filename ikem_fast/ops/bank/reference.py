"""The bank losses in plain torch: the definition in readable form, and the truth that kernels are held to.

Losses come back per clip; arguments are assumed valid (`api` checks them). Similarities and products over
the bank are written out.
"""

import math

import torch
import torch.nn.functional as F

from ikem_fast.ops._precision import compute_dtype, outside_autocast


@outside_autocast
def info_nce(q, k, queue, temperature):
    """(P,N,D), (P,N,D), (P,K,D) → (P,N): log(e^pos + e^S) − pos."""
    return _contrast(*_features(q, k, queue), temperature)


@outside_autocast
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


@outside_autocast
def implicit_exchange(z, k, queue, temperature):
    """z (P,N,P·D), k (P,N,D), queue (P,K,D) → (P,N): each z_i against all banks side by side."""
    z, k, queue = _features(z, k, queue)
    return _contrast(z, _side_by_side(k), _side_by_side(queue), temperature)


@outside_autocast
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


@outside_autocast
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
    dtype = compute_dtype(learned, fixed, queue)
    learned = F.normalize(learned.to(dtype), dim=-1)
    return learned, F.normalize(fixed.detach().to(dtype), dim=-1), queue.detach().to(dtype)


def _side_by_side(unit):
    """(P,R,D) unit rows → (R,P·D) unit rows: the concatenation over modalities, divided by √P."""
    return torch.cat(tuple(unit), -1) / math.sqrt(len(unit))
