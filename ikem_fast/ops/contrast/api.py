"""The bank losses of other codebases as public ops: check the arguments, choose who computes, reduce.

What each computes is written out in `reference`.
"""

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from ikem_fast.ops._checks import (
    bank_of,
    check_choice,
    check_tensor,
    check_topk,
    is_one,
    lifted,
    temperature_of,
)
from ikem_fast.ops._support import IMPLEMENTATIONS, Implementation, Support, takes_fused
from ikem_fast.ops.bank import library
from ikem_fast.ops.bank.api import Reduction
from ikem_fast.ops.contrast import fused, reference

Temperature = float | Tensor


def moco_loss(
    q: Tensor,
    k: Tensor,
    queue: Tensor,
    temperature: Temperature = 0.07,
    *,
    return_rank: bool = False,
    reduction: Reduction = "mean",
    impl: Implementation = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Contrast each query with its key against a bank, with gradients for queries, keys and temperature.

    With u = q/‖q‖ and y = k/‖k‖: log(e^{u·y/τ} + Σ_r e^{u·Q_r/τ}) − u·y/τ. `info_nce` is the same where the
    query alone learns.

    Args:
        q: (N,D) query features, or (P,N,D) of several modalities; normalised inside.
        k: of the shape of q, the keys; normalised inside. They receive a gradient if they ask for one.
        queue: (K,D) or (D,K) the bank as it is, or (P,K,D) or (P,D,K); any strides. No gradient.
        temperature: τ > 0, a number or a tensor of one, which may be a parameter that learns.
        return_rank: give the rank of each key too, for accuracies: the top-5 is (rank < 5).float().mean().
        reduction: "mean" over the batch, or "none".
        impl: "auto", "fused" or "reference".

    Returns:
        The loss (), or (N,) with reduction="none"; with P in front for (P,N,D); float64 where an argument is
        float64, else float32. With return_rank (loss, rank): rank (N,) int64 is #{r : u·Q_r > u·y}.

    Example:
        q, k = torch.randn(2, 8, 64, requires_grad=True)
        queue = torch.nn.functional.normalize(torch.randn(64, 4096), dim=0)  # (D,K), as MoCo keeps it
        loss, rank = moco_loss(q, k, queue, 0.07, return_rank=True)
        top1 = (rank < 1).float().mean()

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
        RuntimeError: impl="fused" and there is no fused implementation for this device or dtype.

    Source: He et al., Momentum Contrast, equation 1; the loss of CrosSCLR, AimCLR and of NTXent with a bank.
    """
    one = is_one(q)
    q, k, queue = _features(("q", q), ("k", k), queue)
    temperature = temperature_of(temperature, learns=True)
    ops = _chosen(impl, reduction, library.support_for(q, k, queue))
    loss, rank = ops.moco_loss(q, k, queue, temperature, return_rank)
    loss = _reduce(loss, reduction, one)
    return (loss, rank[0] if one else rank) if return_rank else loss


def soft_contrast(
    student: Tensor,
    teacher: Tensor,
    k: Tensor,
    queue: Tensor,
    student_temperature: Temperature = 0.07,
    teacher_temperature: Temperature = 0.07,
    *,
    reduction: Reduction = "mean",
    impl: Implementation = "auto",
) -> Tensor:
    """Hold a view's similarities to key and bank to those of another view, by cross entropy.

    With y_0 = k/‖k‖, y_r = Q_r, u and t the student and the teacher of unit length and
    p = softmax_r(t·y_r/τ_t): log Σ_r e^{u·y_r/τ_s} − u·(Σ_r p_r y_r)/τ_s. It stays finite at any temperature.

    Args:
        student: (N,D) features of the view that learns, or (P,N,D); normalised inside.
        teacher: of the same shape, the view that is followed; normalised inside; no gradient.
        k: of the same shape, the keys; normalised inside. They receive a gradient if they ask for one.
        queue: (K,D) or (D,K) the bank as it is, or (P,K,D) or (P,D,K); any strides. No gradient.
        student_temperature: τ_s > 0, a number or a tensor of one, which may be a parameter that learns.
        teacher_temperature: τ_t > 0, a number or a tensor of one without a gradient.
        reduction: "mean" over the batch, or "none".
        impl: "auto", "fused" or "reference".

    Returns:
        The loss (), or (N,) with reduction="none"; with P in front for (P,N,D); float64 where an argument is
        float64, else float32.

    Example:
        strong = torch.randn(8, 64, requires_grad=True)
        weak, k = torch.randn(2, 8, 64)
        queue = torch.nn.functional.normalize(torch.randn(4096, 64), dim=-1)
        soft_contrast(strong, weak, k, queue, 0.1, 0.04).backward()

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
        RuntimeError: impl="fused" and there is no fused implementation for this device or dtype.

    Source: the distributional divergence minimization of AimCLR (Guo et al. 2022) and of HiCLR.
    """
    one = is_one(student)
    student, k, queue = _features(("student", student), ("k", k), queue)
    teacher = lifted(teacher)
    _check_like("teacher", teacher, student)
    student_temperature = temperature_of(student_temperature, name="student_temperature", learns=True)
    teacher_temperature = temperature_of(teacher_temperature, name="teacher_temperature")
    ops = _chosen(impl, reduction, library.support_for(student, teacher, k, queue))
    loss = ops.soft_contrast(student, teacher, k, queue, student_temperature, teacher_temperature)
    return _reduce(loss, reduction, one)


def neighbor_kl(
    student: Tensor,
    teacher: Tensor,
    student_queue: Tensor,
    teacher_queue: Tensor,
    student_temperature: Temperature = 0.1,
    teacher_temperature: float = 0.05,
    topk: int | None = None,
    *,
    reduction: Reduction = "mean",
    impl: Implementation = "auto",
) -> Tensor:
    """Hold a student's similarities to the teacher's nearest rows of a bank to the teacher's own, by KL.

    With u and t of unit length, R the topk rows r of largest t·T_r and p = softmax over R of t·T_r/τ_t:
    Σ_R p log p + log Σ_R e^{u·S_r/τ_s} − u·(Σ_R p_r S_r)/τ_s.

    Args:
        student: (N,D) features of the modality that learns, or (P,N,D); normalised inside. With
            student_temperature the only argument that receives a gradient.
        teacher: (N,D') or (P,N,D'), features of another; normalised inside.
        student_queue: S, (K,D) or (D,K) the student's bank as it is, or (P,K,D) or (P,D,K); any strides.
        teacher_queue: T, the teacher's likewise; row r of both is of the same clip.
        student_temperature: τ_s > 0, a number or a tensor of one, which may be a parameter that learns.
        teacher_temperature: τ_t > 0, a number or a tensor of one without a gradient.
        topk: how many rows, 1 … K; all where left out.
        reduction: "mean" over the batch, or "none".
        impl: "auto", "fused" (on a CPU) or "reference".

    Returns:
        The loss (), or (N,) with reduction="none"; with P in front for (P,N,D); float64 where an argument is
        float64, else float32.

    Example:
        joint, motion = torch.randn(2, 8, 64)
        banks = torch.nn.functional.normalize(torch.randn(2, 4096, 64), dim=-1)
        neighbor_kl(joint.requires_grad_(), motion, banks[0], banks[1], 0.1, 0.05, topk=2048).backward()

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
        RuntimeError: impl="fused" and there is no fused implementation for this device or dtype.

    Source: the cross-modal mutual distillation of CMD (Mao et al. 2022).
    """
    one = is_one(student)
    student, teacher = lifted(student), lifted(teacher)
    check_tensor("student", student, (("P", None), ("N", None), ("D", None)))
    P, N, D = student.shape
    check_tensor("teacher", teacher, (("P", P), ("N", N), ("D'", None)), like=student)
    own = bank_of(student_queue, P, D, like=student, name="student_queue")
    guide = bank_of(teacher_queue, P, teacher.shape[2], like=student, name="teacher_queue")
    check_tensor("teacher_queue", guide, (("P", P), ("K", own.shape[1]), ("D'", teacher.shape[2])))
    topk = own.shape[1] if topk is None else topk
    check_topk(topk, own.shape[1])
    temperatures = (
        temperature_of(student_temperature, name="student_temperature", learns=True),
        temperature_of(teacher_temperature, name="teacher_temperature"),
    )
    ops = _chosen(impl, reduction, library.divergence_support(student, teacher, own, guide))
    return _reduce(ops.neighbor_kl(student, teacher, own, guide, *temperatures, topk), reduction, one)


def multi_positive_nce(
    q: Tensor,
    k: Tensor,
    queue: Tensor,
    positives: Tensor | Sequence[Tensor],
    temperature: Temperature = 0.07,
    *,
    reduction: Reduction = "mean",
    impl: Implementation = "auto",
) -> Tensor:
    """Contrast each query with its key and rows of the bank that were mined, positives of equal weight.

    With R the rows of a query, each once:

        log(e^{u·y/τ} + Σ_r e^{u·Q_r/τ}) − (u·y + Σ_R u·Q_r) / (τ (1 + |R|))

    Args:
        q: (N,D) query features, or (P,N,D); normalised inside.
        k: of the shape of q, the keys; normalised inside. They receive a gradient if they ask for one.
        queue: (K,D) or (D,K) the bank as it is, or (P,K,D) or (P,D,K); any strides. No gradient.
        positives: rows of the bank, (N,R) or (P,N,R) int64, such as `nearest_neighbors` gives; or several of
            them, whose union counts; or a mask (N,K) or (P,N,K) bool.
        temperature: τ > 0, a number or a tensor of one, which may be a parameter that learns.
        reduction: "mean" over the batch, or "none".
        impl: "auto", "fused" or "reference".

    Returns:
        The loss (), or (N,) with reduction="none"; with P in front for (P,N,D); float64 where an argument is
        float64, else float32.

    Example:
        q, k, other = torch.randn(3, 8, 64)
        queue = torch.nn.functional.normalize(torch.randn(4096, 64), dim=-1)
        mined = [torch.topk(x @ queue.T, 5).indices for x in (q, other)]
        multi_positive_nce(q.requires_grad_(), k, queue, mined).backward()

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
            Whether rows are of the bank is looked at on a CPU alone, where it costs no wait.
        RuntimeError: impl="fused" and there is no fused implementation for this device or dtype.

    Source: the nearest neighbors mining of AimCLR (Guo et al. 2022), HiCLR and CrosSCLR, without context.
    """
    one = is_one(q)
    q, k, queue = _features(("q", q), ("k", k), queue)
    positives = _positives(positives, q, queue.shape[1])
    temperature = temperature_of(temperature, learns=True)
    ops = _chosen(impl, reduction, library.support_for(q, k, queue))
    if ops is reference and positives.dtype != torch.bool:
        mask = torch.zeros((*q.shape[:2], queue.shape[1]), dtype=torch.bool, device=q.device)
        positives = mask.scatter_(-1, positives, True)
    return _reduce(ops.multi_positive_nce(q, k, queue, positives, temperature), reduction, one)


def _features(first: tuple[str, Tensor], second: tuple[str, Tensor], queue: Tensor) -> tuple[Tensor, ...]:
    """Give two features (P,N,D) and their bank (P,K,D), checked."""
    x, y = lifted(first[1]), lifted(second[1])
    check_tensor(first[0], x, (("P", None), ("N", None), ("D", None)))
    _check_like(second[0], y, x)
    return x, y, bank_of(queue, x.shape[0], x.shape[2], like=x)


def _check_like(name: str, tensor: Tensor, like: Tensor) -> None:
    check_tensor(name, tensor, tuple(zip("PND", like.shape, strict=True)), like=like)


def _positives(positives: Tensor | Sequence[Tensor], q: Tensor, size: int) -> Tensor:
    """Give rows (P,N,R) or a mask (P,N,K), checked."""
    several = [positives] if isinstance(positives, Tensor) else list(positives)
    for part in several:
        if not isinstance(part, Tensor) or part.dtype not in (torch.int64, torch.bool):
            found = part.dtype if isinstance(part, Tensor) else type(part).__name__
            raise TypeError(f"positives: expected rows, int64, or a mask, bool, found {found}")
    several = [lifted(part) for part in several]
    kinds = {part.dtype for part in several}
    if len(kinds) != 1 or (torch.bool in kinds and len(several) > 1):
        raise ValueError("positives: expected tensors of rows, or one mask")
    for part in several:
        fits = part.dim() == 3 and part.shape[:2] == q.shape[:2] and part.device == q.device
        if not fits or (part.dtype == torch.bool and part.shape[2] != size):
            raise ValueError(
                f"positives: expected shape (P={q.shape[0]}, N={q.shape[1]}, rows) or a mask of K={size} on "
                f"{q.device}, found {tuple(part.shape)} on {part.device}"
            )
    rows = several[0] if len(several) == 1 else torch.cat(several, -1)
    looked_at = rows.dtype != torch.bool and rows.device.type == "cpu" and not torch.compiler.is_compiling()
    if looked_at and rows.numel() and not (rows.min() >= 0 and rows.max() < size):
        raise ValueError(
            f"positives: expected rows of 0 … {size - 1}, found {int(rows.min())} … {int(rows.max())}"
        )
    return rows


def _chosen(impl: str, reduction: str, support: Support) -> ModuleType:
    """Give the module that computes."""
    check_choice("reduction", reduction, ("mean", "none"))
    check_choice("impl", impl, IMPLEMENTATIONS)
    return fused if takes_fused(impl, support) else reference


def _reduce(loss: Tensor, reduction: str, one: bool) -> Tensor:
    loss = loss[0] if one else loss
    return loss.mean(-1) if reduction == "mean" else loss
