"""These losses with the matrix of features by features written out. Features are (P,B,D)."""

import torch

from ikem_fast.ops._precision import compute_dtype, outside_autocast


def variance_covariance(z, target, epsilon):
    """→ variance (P,), covariance (P,)."""
    return of_covariance(*covariance(z), target, epsilon)


def cross_correlation(a, b, weight, epsilon, correction):
    """→ (P,). epsilon: of the standardization, None where there is none."""
    return of_correlation(*correlation(a, b, epsilon, correction), weight)


@outside_autocast
def covariance(z):
    """→ the diagonal (P,D) of the covariance matrix, and the sum of squares beside it (P,)."""
    z = centered(z.to(compute_dtype(z)))
    return _in_and_beside_diagonal(z.mT @ z / (z.shape[1] - 1))


@outside_autocast
def correlation(a, b, epsilon, correction):
    """→ the diagonal (P,D) of the cross-correlation matrix, and the sum of squares beside it (P,)."""
    dtype = compute_dtype(a, b)
    a, b = a.to(dtype), b.to(dtype)
    if epsilon is not None:
        a, b = (x * scale_of(x, epsilon, correction) for x in map(centered, (a, b)))
    return _in_and_beside_diagonal(a.mT @ b / a.shape[1])


def centered(z):
    return z - z.mean(1, keepdim=True)


def scale_of(centered, epsilon, correction):
    """What features of mean 0 are multiplied by to have deviation 1, (P,1,D)."""
    variance = centered.square().sum(1, keepdim=True) / (centered.shape[1] - correction)
    return torch.rsqrt(variance + epsilon)


def of_covariance(diagonal, squares, target, epsilon):
    """How far deviations are below their target, in the mean; the squares for each feature."""
    variance = torch.relu(target - torch.sqrt(diagonal + epsilon)).mean(1)
    return variance, squares / diagonal.shape[1]


def of_correlation(diagonal, squares, weight):
    return (diagonal - 1).square().sum(1) + weight * squares


def _in_and_beside_diagonal(C):
    diagonal = C.diagonal(dim1=1, dim2=2)
    return diagonal, (C - torch.diag_embed(diagonal)).square().sum((1, 2))
