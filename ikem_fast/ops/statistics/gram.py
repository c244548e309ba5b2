"""These losses over matrices of clips by clips: B² D operations where features by features take B D².

The sum of squares of ZᵀZ is that of ZZᵀ, and of AᵀB it is ⟨AAᵀ, BBᵀ⟩; the diagonal is taken off. Plain torch,
on any device and in any dtype, with derivatives of any order.
"""

from ikem_fast.ops._precision import compute_dtype, outside_autocast
from ikem_fast.ops._support import YES, Support
from ikem_fast.ops.statistics.reference import centered, spread, standardized


def support_for(z):
    """The `Support` for features (P,B,D): it pays where clips are fewer than features."""
    _, clips, features = z.shape
    if clips < features:
        return YES
    return Support(f"{clips} clips of {features} features: it takes fewer clips than features")


@outside_autocast
def variance_covariance(z, target, epsilon):
    """As in `reference`."""
    z = centered(z.to(compute_dtype(z)))
    variance = z.square().sum(1) / (z.shape[1] - 1)
    squares = ((z @ z.mT) / (z.shape[1] - 1)).square().sum((1, 2))
    return spread(variance, target, epsilon), (squares - variance.square().sum(1)) / z.shape[2]


@outside_autocast
def cross_correlation(a, b, weight, epsilon):
    """As in `reference`."""
    a, b = standardized(a, b, epsilon)
    diagonal = (a * b).mean(1)
    squares = ((a @ a.mT) * (b @ b.mT)).sum((1, 2)) / a.shape[1] ** 2
    return (diagonal - 1).square().sum(1) + weight * (squares - diagonal.square().sum(1))
