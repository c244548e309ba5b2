"""The bank losses as Triton kernels, for CUDA tensors (and for CPU tensors under Triton's interpreter).

The similarities of features and bank stay on chip. `attention` holds the kernels of `info_nce` and
`implicit_exchange`, `relations` those of `cross_modal_contrast` and `relational_distillation`, `neighbors`
those that find nearest keys; `tiles` what they share, `launch` how they are launched, `library` their
registration with torch.
"""

import torch

from ikem_fast.ops.bank.triton.launch import INTERPRETED, MAX_DIM, MAX_MODALITIES, MAX_TOPK
from ikem_fast.ops.bank.triton.library import Attention, Relations, nearest_keys

__all__ = [
    "INTERPRETED",
    "cross_modal_contrast",
    "implicit_exchange",
    "info_nce",
    "nearest_neighbors",
    "obstacle",
    "relational_distillation",
]


def obstacle(queue, topk):
    """What keeps the kernels from computing with this bank (P,K,D) and topk; None if nothing does."""
    P, _, D = queue.shape
    if P > MAX_MODALITIES:
        return f"the kernels take up to {MAX_MODALITIES} modalities and there are {P}"
    if D > MAX_DIM:
        return f"the kernels take features of up to {MAX_DIM} numbers a modality and these have {D}"
    if topk > MAX_TOPK:
        return f"the kernels find up to {MAX_TOPK} nearest keys and topk is {topk}"
    return None


def info_nce(q, k, queue, temperature):
    """(P,N,D), (P,N,D), (P,K,D) → (P,N)."""
    return Attention.apply(q, k, queue, temperature, False, _learns(q))


def implicit_exchange(z, k, queue, temperature):
    """z (P,N,P·D), k (P,N,D), queue (P,K,D) → (P,N)."""
    return Attention.apply(z, k, queue, temperature, True, _learns(z))


def cross_modal_contrast(q, k, queue, temperature, topk, context):
    """(P,N,D), (P,N,D), (P,K,D) → (P,N)."""
    return Relations.apply(q, k, queue, temperature, False, topk, context)


def relational_distillation(student, teacher, queue, temperature, topk, context):
    """student (S,N,P·D), teacher (P,N,D), queue (P,K,D) → (S,N)."""
    return Relations.apply(student, teacher, queue, temperature, True, topk, context)


def nearest_neighbors(q, queue, topk):
    """(P,N,D), (P,K,D) → values (P,N,topk), indices (P,N,topk) int64, most similar first."""
    return nearest_keys(q, queue, topk)


def _learns(features):
    return torch.is_grad_enabled() and features.requires_grad
