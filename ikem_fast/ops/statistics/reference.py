"""These losses with the matrix of features by features written out. Features are (P,B,D)."""

import torch

from ikem_fast.ops._precision import compute_dtype, outside_autocast


@outside_autocast
def variance_covariance(z, target, epsilon):
    """→ variance (P,), covariance (P,)."""
    z = centered(z.to(compute_dtype(z)))
    C = z.mT @ z / (z.shape[1] - 1)
    diagonal = C.diagonal(dim1=1, dim2=2)
    return spread(diagonal, target, epsilon), without_diagonal(C).square().sum((1, 2)) / z.shape[2]


@outside_autocast
def cross_correlation(a, b, weight, epsilon):
    """→ (P,). epsilon: of the standardization, None where there is none."""
    a, b = standardized(a, b, epsilon)
    C = a.mT @ b / a.shape[1]
    on = (C.diagonal(dim1=1, dim2=2) - 1).square().sum(1)
    return on + weight * without_diagonal(C).square().sum((1, 2))


def centered(z):
    return z - z.mean(1, keepdim=True)


def spread(variance, target, epsilon):
    """How far deviations (P,D) are below their target, in the mean."""
    return torch.relu(target - torch.sqrt(variance + epsilon)).mean(1)


def standardized(a, b, epsilon):
    """Both over the batch, in the dtype of computation."""
    dtype = compute_dtype(a, b)
    a, b = a.to(dtype), b.to(dtype)
    if epsilon is None:
        return a, b
    a, b = centered(a), centered(b)
    return tuple(x * torch.rsqrt(x.square().mean(1, keepdim=True) + epsilon) for x in (a, b))


def without_diagonal(C):
    return C - torch.diag_embed(C.diagonal(dim1=1, dim2=2))
