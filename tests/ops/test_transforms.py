"""Second derivatives, forward mode and torch.func, through every op and implementation.

They give the numbers of the reference, or an error that names it; never another number in silence, and the
same at every size.
"""

import pytest
import torch
import torch.nn.functional as F

from ikem_fast import ops
from tests.helpers import needs_kernel

pytestmark = needs_kernel


def unit(*shape):
    return F.normalize(torch.randn(*shape), dim=-1)


def cases(K, frames):
    """Op's name → (learned argument, function of it and of impl)."""
    q, k, queue, z, student = unit(3, 2, 8), unit(3, 2, 8), unit(3, K, 8), unit(3, 2, 24), unit(2, 2, 24)
    clips = torch.randn(2, 3, frames, 25, 2)
    clips[..., 1] = 0  # an empty body
    return {
        "info_nce": (q, lambda x, impl: ops.info_nce(x, k, queue, impl=impl)),
        "cross_modal_contrast": (q, lambda x, impl: ops.cross_modal_contrast(x, k, queue, impl=impl)),
        "implicit_exchange": (z, lambda x, impl: ops.implicit_exchange(x, k, queue, impl=impl)),
        "relational_distillation": (
            student,
            lambda x, impl: ops.relational_distillation(x, q, queue, impl=impl),
        ),
        "derive_modalities": (clips, lambda x, impl: ops.derive_modalities(x, impl=impl).pow(2).mean()),
    }


def double_backward(f, x):
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
    return torch.autograd.grad(gradient.pow(2).sum(), x)[0]


def jvp(f, x):
    return torch.func.jvp(f, (x,), (torch.ones_like(x),))[1]


def forward_mode(f, x):
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        return torch.autograd.forward_ad.unpack_dual(f(dual)).tangent


def vmap(f, x):
    return torch.func.vmap(f)(torch.stack([x, 2 * x]))


def jacrev(f, x):
    return torch.func.jacrev(f)(x)


@pytest.mark.parametrize("transform", [double_backward, jvp, forward_mode, vmap, jacrev])
@pytest.mark.parametrize("op", cases(4, 4))
@pytest.mark.parametrize(("K", "frames"), [(4, 4), (12000, 9)], ids=["small", "large"])
def test_as_the_reference_or_refused_by_name(op, transform, K, frames):
    x, f = cases(K, frames)[op]
    want = transform(lambda x: f(x, "reference"), x)
    assert want.isfinite().all() and want.norm() > 0

    def outcome(impl):
        try:
            return transform(lambda x: f(x, impl), x)
        except RuntimeError as error:
            assert "'reference'" in str(error), error
            return None

    fused, auto = outcome("fused"), outcome("auto")
    for found in (fused, auto):
        if found is not None:
            assert (found - want).norm() <= 1e-4 * want.norm()
    if transform is double_backward:
        # That one will be asked for a second derivative cannot be seen beforehand.
        assert (fused is None) == (auto is None) == (op != "derive_modalities")
    else:
        assert fused is None and auto is not None


def test_a_gradient_that_is_only_looked_at_may_have_a_graph():
    x, f = cases(4, 4)["info_nce"]
    plain = x.clone().requires_grad_()
    first = torch.autograd.grad(f(plain, "fused").sum(), plain)[0]
    with_graph = torch.autograd.grad(f(plain, "fused").sum(), plain, create_graph=True)[0]
    assert torch.equal(first, with_graph)
