"""The losses against a memory bank as public ops: check the arguments, choose who computes, reduce.

What each computes is written out in `reference`.
"""

from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from ikem_fast.ops._checks import (
    bank_of,
    check_choice,
    check_per_clip,
    check_tensor,
    check_topk,
    is_one,
    lifted,
    temperature_of,
)
from ikem_fast.ops._support import IMPLEMENTATIONS, Implementation, takes_fused
from ikem_fast.ops.bank import library, reference

Reduction = Literal["mean", "none"]


def info_nce(
    q: Tensor,
    k: Tensor,
    queue: Tensor,
    *,
    temperature: float = 0.07,
    reduction: Reduction = "mean",
    impl: Implementation = "auto",
) -> Tensor:
    """Contrast each query with its key against a bank of negative keys, a loss for each modality.

    log(e^pos + Σ_k e^{q·Q_k/τ}) − pos, with pos = q·k/τ.

    Args:
        q: (P,N,D) query features, or (N,D) of one modality; normalised inside. The only argument that
            receives a gradient: `moco_loss` has gradients for keys and temperature too.
        k: (P,N,D) key features; normalised inside.
        queue: (P,K,D) the bank, rows of unit length, or (P,D,K) as MoCo keeps it; of one modality (K,D) or
            (D,K). Any strides.
        temperature: τ > 0.
        reduction: "mean" over the batch, or "none".
        impl: "auto", "fused" or "reference".

    Returns:
        (P,), or (P,N) with reduction="none"; without P for (N,D); float64 where an argument is float64, else
        float32.

    Example:
        q = torch.randn(3, 8, 64, requires_grad=True)  # three modalities, eight clips
        queue = torch.nn.functional.normalize(torch.randn(3, 4096, 64), dim=-1)
        info_nce(q, torch.randn(3, 8, 64), queue).sum().backward()

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
        RuntimeError: impl="fused" and there is no fused implementation for this device or dtype.

    Source: phase 1 of arXiv 2309.12009; He et al., Momentum Contrast, equation 1.
    """
    one = is_one(q)
    q, k, queue, temperature = _bank_arguments(q, k, queue, temperature, reduction, impl)
    ops = _bank_ops(impl, q, k, queue)
    return _reduce(ops.info_nce(q, k, queue, temperature), reduction, one)


def cross_modal_contrast(
    q: Tensor,
    k: Tensor,
    queue: Tensor,
    *,
    temperature: float = 0.07,
    topk: int = 1,
    context: bool = True,
    reduction: Reduction = "mean",
    impl: Implementation = "auto",
) -> Tensor:
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

    Example:
        q = torch.randn(3, 8, 64, requires_grad=True)
        queue = torch.nn.functional.normalize(torch.randn(3, 4096, 64), dim=-1)
        cross_modal_contrast(q, torch.randn(3, 8, 64), queue, topk=2).sum().backward()

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
        RuntimeError: impl="fused" and there is no fused implementation for this device, dtype or topk.

    Source: phase 2 of arXiv 2309.12009; CrosSCLR (Li et al. 2021), sections 3.2 and 3.3.
    """
    q, k, queue, temperature = _bank_arguments(q, k, queue, temperature, reduction, impl)
    if q.shape[0] < 2:
        raise ValueError(f"q: expected at least two modalities (P ≥ 2), found shape {tuple(q.shape)}")
    check_topk(topk, queue.shape[1])
    ops = _bank_ops(impl, q, k, queue, topk=topk)
    return _reduce(ops.cross_modal_contrast(q, k, queue, temperature, topk, context), reduction)


def implicit_exchange(
    z: Tensor,
    k: Tensor,
    queue: Tensor,
    *,
    temperature: float = 0.07,
    reduction: Reduction = "mean",
    impl: Implementation = "auto",
) -> Tensor:
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

    Example:
        z = torch.randn(3, 8, 3 * 64, requires_grad=True)
        queue = torch.nn.functional.normalize(torch.randn(3, 4096, 64), dim=-1)
        implicit_exchange(z, torch.randn(3, 8, 64), queue).sum().backward()

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
        RuntimeError: impl="fused" and there is no fused implementation for this device or dtype.

    Source: section 3.3 of arXiv 2309.12009 (Implicit Knowledge Exchange Module).
    """
    one = is_one(z)
    z, k = lifted(z), lifted(k)
    check_tensor("k", k, (("P", None), ("N", None), ("D", None)))
    P, N, D = k.shape
    check_tensor("z", z, (("P", P), ("N", N), ("P·D", P * D)), like=k)
    queue = bank_of(queue, P, D, like=k)
    temperature = _options(temperature, reduction, impl)
    ops = _bank_ops(impl, z, k, queue)
    return _reduce(ops.implicit_exchange(z, k, queue, temperature), reduction, one)


def relational_distillation(
    student: Tensor,
    teacher: Tensor,
    queue: Tensor,
    *,
    temperature: float = 0.07,
    topk: int = 1,
    context: bool = True,
    reduction: Reduction = "mean",
    impl: Implementation = "auto",
) -> Tensor:
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

    Example:
        student = torch.randn(2, 8, 3 * 64, requires_grad=True)  # two students of three modalities
        queue = torch.nn.functional.normalize(torch.randn(3, 4096, 64), dim=-1)
        relational_distillation(student, torch.randn(3, 8, 64), queue).sum().backward()

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
        RuntimeError: impl="fused" and there is no fused implementation for this device, dtype or topk.

    Source: section 3.4 of arXiv 2309.12009 (relational cross-modality knowledge distillation).
    """
    one = is_one(student)
    student, teacher = lifted(student), lifted(teacher)
    check_tensor("teacher", teacher, (("P", None), ("N", None), ("D", None)))
    P, N, D = teacher.shape
    check_tensor("student", student, (("S", None), ("N", N), ("P·D", P * D)), like=teacher)
    queue = bank_of(queue, P, D, like=teacher)
    temperature = _options(temperature, reduction, impl)
    check_topk(topk, queue.shape[1])
    ops = _bank_ops(impl, student, teacher, queue, topk=topk)
    loss = ops.relational_distillation(student, teacher, queue, temperature, topk, context)
    return _reduce(loss, reduction, one)


def nearest_neighbors(
    q: Tensor, queue: Tensor, topk: int, *, impl: Implementation = "auto"
) -> tuple[Tensor, Tensor]:
    """The most similar keys of the bank for each query, without storing the N×K similarities.

    Args:
        q: (P,N,D) features, or (N,D) of one modality; normalised inside.
        queue: (P,K,D) or (P,D,K) the banks, of one modality (K,D) or (D,K), rows of unit length.
        topk: how many, 1 … K.
        impl: "auto", "fused" or "reference".

    Returns:
        values (P,N,topk): cosine similarities, largest first; float64 where an argument is, else float32.
        indices (P,N,topk) int64: rows of the bank. No gradients. Without P for (N,D).

    Example:
        queue = torch.nn.functional.normalize(torch.randn(1, 4096, 64), dim=-1)
        similarities, rows = nearest_neighbors(torch.randn(1, 8, 64), queue, 20)

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
        RuntimeError: impl="fused" and there is no fused implementation for this device, dtype or topk.

    Source: the mining of CrosSCLR (Li et al. 2021), section 3.2.
    """
    one, q = is_one(q), lifted(q)
    check_tensor("q", q, (("P", None), ("N", None), ("D", None)))
    queue = bank_of(queue, q.shape[0], q.shape[2], like=q)
    check_choice("impl", impl, IMPLEMENTATIONS)
    check_topk(topk, queue.shape[1])
    with torch.no_grad():
        values, indices = _bank_ops(impl, q, queue, topk=topk).nearest_neighbors(q, queue, topk)
    return (values[0], indices[0]) if one else (values, indices)


def knn_predict(
    features: Tensor,
    bank: Tensor,
    labels: Tensor,
    num_classes: int,
    k: int = 200,
    temperature: float | None = 0.1,
    *,
    impl: Implementation = "auto",
) -> Tensor:
    """Rank the classes of each clip by the votes of its nearest labeled clips, the likeliest first.

    A neighbor of similarity s votes with e^{(s − 1)/τ}; without a temperature each has one vote. Of classes
    with as many votes the first is likelier.

    Args:
        features: (N,D); normalised inside.
        bank: (K,D) or (D,K) features of labeled clips, rows of unit length.
        labels: (K,) int64 in 0 … num_classes−1.
        num_classes: how many there are.
        k: neighbors that vote; all where the bank has fewer.
        temperature: τ > 0, or None.
        impl: "auto", "fused" or "reference", of `nearest_neighbors`.

    Returns:
        (N,num_classes) int64: classes; the first column is the prediction.

    Example:
        bank = torch.nn.functional.normalize(torch.randn(500, 64), dim=-1)
        ranking = knn_predict(torch.randn(8, 64), bank, torch.randint(10, (500,)), 10, k=20)
        predicted = ranking[:, 0]

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
        RuntimeError: impl="fused" and there is no fused implementation for this device, dtype or k.

    Source: Wu et al. 2018, Non-Parametric Instance Discrimination, section 3.4.
    """
    check_tensor("features", features, (("N", None), ("D", None)))
    size = bank_of(bank, 1, features.shape[1], like=features, name="bank").shape[1]
    if labels.dtype != torch.int64:
        raise TypeError(f"labels: expected int64, found {labels.dtype}")
    check_per_clip("labels", labels, size, like=features, low=0, high=num_classes - 1)
    if temperature is not None:
        temperature = temperature_of(temperature)
    similarities, rows = nearest_neighbors(features, bank, min(k, size), impl=impl)
    votes = torch.ones_like(similarities)
    if temperature is not None:
        votes = ((similarities - 1) / temperature).exp()
    scores = votes.new_zeros(len(features), num_classes).scatter_add_(1, labels[rows], votes)
    return scores.argsort(dim=1, descending=True, stable=True)


def _bank_arguments(
    q: Tensor, k: Tensor, queue: Tensor, temperature: float, reduction: str, impl: str
) -> tuple[Tensor, Tensor, Tensor, float]:
    """Give q, k (P,N,D), the bank (P,K,D) and the temperature, all checked."""
    q, k = lifted(q), lifted(k)
    check_tensor("q", q, (("P", None), ("N", None), ("D", None)))
    P, N, D = q.shape
    check_tensor("k", k, (("P", P), ("N", N), ("D", D)), like=q)
    queue = bank_of(queue, P, D, like=q)
    return q, k, queue, _options(temperature, reduction, impl)


def _options(temperature: float, reduction: str, impl: str) -> float:
    """Check the options that every loss has, and give the temperature as a number."""
    check_choice("reduction", reduction, ("mean", "none"))
    check_choice("impl", impl, IMPLEMENTATIONS)
    return temperature_of(temperature)


def _bank_ops(impl: str, *tensors: Tensor, topk: int = 1) -> ModuleType:
    """The module that computes the bank losses of these tensors (features first, the bank last)."""
    return library if takes_fused(impl, library.support_for(*tensors, topk=topk)) else reference


def _reduce(loss: Tensor, reduction: str, one: bool = False) -> Tensor:
    loss = loss[0] if one else loss
    return loss.mean(-1) if reduction == "mean" else loss
