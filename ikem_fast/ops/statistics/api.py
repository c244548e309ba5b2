"""Losses of the statistics of a batch as public ops: check the arguments, choose who computes."""

import torch
from torch import Tensor

from ikem_fast.ops._checks import check_choice, check_tensor, is_one, lifted
from ikem_fast.ops._support import IMPLEMENTATIONS, Implementation, takes_fused
from ikem_fast.ops.statistics import gram, reference


def variance_covariance(
    z: Tensor, *, target: float = 1.0, epsilon: float = 1e-4, impl: Implementation = "auto"
) -> tuple[Tensor, Tensor]:
    """Say how much features of a batch vary too little, and how much they vary together.

    With C the covariance matrix of the features over the batch (divisor B − 1):

        variance = mean_d relu(target − √(C_dd + ε))
        covariance = Σ_{i≠j} C_ij² / D

    The sum is found as ‖ZZᵀ‖²/(B−1)² − Σ C_dd² where B < D: the D×D matrix is never made.

    Args:
        z: (B,D) features of B ≥ 2 clips, or (P,B,D); not normalised.
        target: the deviation that each feature shall have.
        epsilon: ε, under the root.
        impl: "fused" is by clips and clips, on any device and in any dtype, and wants B < D; "reference"
            makes the D×D matrix; "auto" takes the smaller.

    Returns:
        variance () and covariance (), or (P,) each; float64 where z is float64, else float32. Both are
        differentiable, as often as wanted.

    Example:
        z = torch.randn(128, 4096, requires_grad=True)
        variance, covariance = variance_covariance(z)
        (25 * variance + covariance).backward()

    Raises:
        TypeError, ValueError: an argument has another type, shape or range; the message names it.
        RuntimeError: impl="fused" and B ≥ D.

    Source: VICReg (Bardes et al. 2022), equations 1 to 4; the regularization of UmURL.
    """
    one, z = is_one(z), lifted(z)
    check_tensor("z", z, (("P", None), ("B", None), ("D", None)))
    _check_batch("z", z)
    check_choice("impl", impl, IMPLEMENTATIONS)
    ops = gram if takes_fused(impl, gram.support_for(z)) else reference
    variance, covariance = ops.variance_covariance(z, target, epsilon)
    return (variance[0], covariance[0]) if one else (variance, covariance)


def cross_correlation(
    a: Tensor,
    b: Tensor,
    weight: float = 5e-3,
    *,
    standardize: bool = True,
    epsilon: float = 1e-5,
    correction: int = 0,
    impl: Implementation = "auto",
) -> Tensor:
    """Have two views' features agree, each with itself and with no other: C near the identity.

    With C = AᵀB / B, A and B standardized over the batch: Σ_i (C_ii − 1)² + weight · Σ_{i≠j} C_ij². The
    second sum is found as ⟨AAᵀ, BBᵀ⟩/B² − Σ C_ii² where B < D: the D×D matrix is never made.

    Args:
        a: (B,D) features of one view of B ≥ 2 clips, or (P,B,D).
        b: of the same shape, of another view. Both receive gradients.
        weight: of what is off the diagonal.
        standardize: to mean 0 and deviation 1 over the batch, as a batch normalization without weights does;
            False takes features as they are.
        epsilon: beside the variance, of the standardization.
        correction: 0 or 1, the variance's divisor is B − correction, as in `torch.var`. USDRL divides by
            `z.std(0)`: epsilon=0, correction=1. C's divisor is B either way.
        impl: "fused" is by clips and clips, on any device and in any dtype, and wants B < D; "reference"
            makes the D×D matrix; "auto" takes the smaller.

    Returns:
        The loss (), or (P,); float64 where an argument is float64, else float32; differentiable as often as
        wanted.

    Example:
        a, b = torch.randn(2, 128, 4096, requires_grad=True)
        cross_correlation(a, b, 5e-3).backward()

    Raises:
        TypeError, ValueError: an argument has another type, shape, device or range; the message names it.
        RuntimeError: impl="fused" and B ≥ D.

    Source: Barlow Twins (Zbontar et al. 2021), equation 1; the decorrelation of USDRL.
    """
    one, a, b = is_one(a), lifted(a), lifted(b)
    check_tensor("a", a, (("P", None), ("B", None), ("D", None)))
    check_tensor("b", b, tuple(zip("PBD", a.shape, strict=True)), like=a)
    _check_batch("a", a)
    check_choice("correction", correction, (0, 1))
    check_choice("impl", impl, IMPLEMENTATIONS)
    ops = gram if takes_fused(impl, gram.support_for(a)) else reference
    loss = ops.cross_correlation(a, b, weight, epsilon if standardize else None, correction)
    return loss[0] if one else loss


def _check_batch(name: str, tensor: torch.Tensor) -> None:
    if tensor.shape[1] < 2:
        raise ValueError(f"{name}: expected at least two clips, found shape {tuple(tensor.shape)}")
