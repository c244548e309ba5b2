"""Losses of the statistics of a batch: by clips and clips as by features and features."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradgradcheck

from ikem_fast import ops

each_impl = pytest.mark.parametrize("impl", ["fused", "reference"])


def variance_covariance(z):
    """As written down, an entry of C at a time."""
    B, D = z.shape
    C = [
        [((z[:, i] - z[:, i].mean()) * (z[:, j] - z[:, j].mean())).sum() / (B - 1) for j in range(D)]
        for i in range(D)
    ]
    variance = sum(torch.relu(1 - (C[i][i] + 1e-4).sqrt()) for i in range(D)) / D
    return variance, sum(C[i][j] ** 2 for i in range(D) for j in range(D) if i != j) / D


def cross_correlation(a, b, weight, standardize=True, epsilon=1e-5, correction=0):
    B, D = a.shape
    if standardize:
        a, b = ((x - x.mean(0)) / (x.var(0, correction=correction) + epsilon).sqrt() for x in (a, b))
    C = [[(a[:, i] * b[:, j]).sum() / B for j in range(D)] for i in range(D)]
    on = sum((C[i][i] - 1) ** 2 for i in range(D))
    return on + weight * sum(C[i][j] ** 2 for i in range(D) for j in range(D) if i != j)


def gradients(loss, *leaves):
    return [loss.detach(), *torch.autograd.grad(loss, leaves)]


@each_impl
@settings(max_examples=8, deadline=None)
@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 1000))
def test_are_the_formulas(impl, B, more, seed):
    torch.manual_seed(seed)
    D = B + more
    a, b = (0.7 * torch.randn(B, D, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mixed = lambda pair: 25 * pair[0] + pair[1]  # noqa: E731
    pairs = [
        (mixed(ops.variance_covariance(a, impl=impl)), mixed(variance_covariance(a)), (a,)),
        (ops.cross_correlation(a, b, 0.3, impl=impl), cross_correlation(a, b, 0.3), (a, b)),
    ]
    pairs += [
        (ops.cross_correlation(a, b, 0.3, **kind, impl=impl), cross_correlation(a, b, 0.3, **kind), (a, b))
        for kind in ({"standardize": False}, {"epsilon": 0, "correction": 1})
    ]
    for found, want, leaves in pairs:
        torch.testing.assert_close(gradients(found, *leaves), gradients(want, *leaves), rtol=1e-8, atol=1e-8)


@each_impl
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_error_budget_and_autocast(impl, dtype):
    """By clips and clips no further from float64 than twice by features and features."""
    a, b = (torch.randn(3, 24, 200, dtype=dtype) for _ in range(2))

    def both(impl, a, b):
        a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
        variance, covariance = ops.variance_covariance(a, impl=impl)
        loss = variance + covariance + ops.cross_correlation(a, b, impl=impl)
        return gradients(loss.sum(), a, b)

    exact = both("reference", a.double(), b.double())
    plain, mine = both("reference", a, b), both(impl, a, b)
    with torch.autocast("cpu", torch.bfloat16):
        within = both(impl, a, b)
    assert torch.equal(mine[0], within[0]) and mine[1].dtype == dtype
    for x, y, want in zip(mine, plain, exact, strict=True):
        budget = 2 * (y - want).norm() + torch.finfo(torch.float32).eps * want.norm()
        assert (x - want).norm() <= budget


def test_one_batch_and_several():
    a, b = torch.randn(2, 3, 5, 40)
    several, one = ops.variance_covariance(a), ops.variance_covariance(a[1])
    assert one[0].shape == () and several[0].shape == (3,)
    torch.testing.assert_close(one, (several[0][1], several[1][1]))
    torch.testing.assert_close(ops.cross_correlation(a[1], b[1]), ops.cross_correlation(a, b)[1])


def test_second_derivatives_and_compilation():
    a, b = (torch.randn(4, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert gradgradcheck(lambda a, b: ops.cross_correlation(a, b, impl="fused"), (a, b), fast_mode=True)
    assert gradgradcheck(lambda a: ops.variance_covariance(a, target=9, impl="fused"), a, fast_mode=True)
    compiled = torch.compile(ops.cross_correlation, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(a, b), ops.cross_correlation(a, b))


def test_transforms_go_by_features():
    a, b = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    one_by_one = torch.stack([ops.cross_correlation(x, y) for x, y in zip(a, b, strict=True)])
    torch.testing.assert_close(torch.func.vmap(ops.cross_correlation)(a, b), one_by_one)
    x = a[0].clone().requires_grad_()
    (slope,) = torch.autograd.grad(ops.cross_correlation(x, b[0]), x)
    _, along = torch.func.jvp(lambda x: ops.cross_correlation(x, b[0]), (a[0],), (a[1],))
    torch.testing.assert_close(along, (slope * a[1]).sum())


def test_the_smaller_matrix_is_taken_and_the_larger_refused():
    wide, tall = torch.randn(4, 300), torch.randn(300, 4)
    assert torch.equal(ops.cross_correlation(wide, wide), ops.cross_correlation(wide, wide, impl="fused"))
    assert torch.equal(ops.cross_correlation(tall, tall), ops.cross_correlation(tall, tall, impl="reference"))
    with pytest.raises(RuntimeError, match="300 clips of 4 features: it takes fewer clips than features"):
        ops.variance_covariance(tall, impl="fused")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.variance_covariance(torch.randn(1, 5)), "z: expected at least two clips"),
        (lambda: ops.variance_covariance(torch.randn(5)), r"z: expected shape \(P, B, D\), found \(5,\)"),
        (lambda: ops.cross_correlation(torch.randn(3, 5), torch.randn(3, 4)), "b: expected shape .*D=5"),
        (lambda: ops.cross_correlation(*torch.randn(2, 3, 5), impl="fast"), "impl: expected one of"),
        (lambda: ops.cross_correlation(*torch.randn(2, 3, 5), correction=3), "correction: expected one of 0"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
