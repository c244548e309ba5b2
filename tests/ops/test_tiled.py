"""The tiled losses of CPU tensors, over several tiles and at their edges."""

import pytest
import torch
import torch.nn.functional as F

from ikem_fast import ops
from ikem_fast.ops import reference, tiled

LOSSES = {
    "info_nce": ("q", "k", "queue"),
    "cross_modal_contrast": ("q", "k", "queue"),
    "implicit_exchange": ("z", "k", "queue"),
    "relational_distillation": ("student", "teacher", "queue"),
}
each_loss = pytest.mark.parametrize("name", LOSSES)


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of 8 keys."""
    monkeypatch.setattr(tiled, "_MIN_KEYS", 8)
    monkeypatch.setattr(tiled, "_MAX_KEYS", 8)


def draw(P=3, N=5, K=37, D=16, S=2):
    """The bank holds a near neighbour of each query, so that rounding does not change which is nearest."""
    q = torch.randn(P, N, D)
    queue = torch.randn(P, K, D)
    queue[:, -N:] = q + 0.2 * queue[:, -N:]
    return {
        "q": q,
        "k": q + 0.5 * torch.randn(P, N, D),
        "z": torch.randn(P, N, P * D),
        "student": torch.randn(S, N, P * D),
        "teacher": q + 0.1 * torch.randn(P, N, D),
        "queue": F.normalize(queue, dim=-1),
    }


def gradient(name, arguments, impl="fused", **options):
    leaf = arguments[LOSSES[name][0]].detach().clone().requires_grad_()
    others = (arguments[argument] for argument in LOSSES[name][1:])
    loss = getattr(ops, name)(leaf, *others, reduction="none", impl=impl, **options)
    weights = torch.linspace(0.5, 2, loss.numel(), dtype=loss.dtype).view(loss.shape)
    return loss.detach(), torch.autograd.grad((loss * weights).sum(), leaf)[0]


def relative(value, exact):
    return ((value - exact).norm() / exact.norm()).item()


@each_loss
@pytest.mark.parametrize("K", [5, 8, 9, 37])
@pytest.mark.parametrize("options", [{}, {"topk": 3}, {"topk": 5, "context": False}], ids=str)
def test_tiles_that_divide_nothing(small_tiles, name, K, options):
    if options and name in ("info_nce", "implicit_exchange"):
        options = {"temperature": 0.01 * options["topk"]}
    arguments = draw(K=K)
    for mine, exact in zip(
        gradient(name, arguments, **options),
        gradient(name, {n: t.double() for n, t in arguments.items()}, "reference", **options),
        strict=True,
    ):
        assert relative(mine, exact) < 3e-6


@each_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_error_budget(small_tiles, name, dtype, monkeypatch):
    """No further from float64 than twice the plain formulation in the same dtype, plus one rounding."""
    draws = [{n: t.to(dtype) for n, t in draw().items()} for _ in range(10)]
    doubled = [{n: t.double() for n, t in arguments.items()} for arguments in draws]
    mine = [torch.stack(part) for part in zip(*(gradient(name, a) for a in draws), strict=True)]
    exact = [
        torch.stack(part) for part in zip(*(gradient(name, a, "reference") for a in doubled), strict=True)
    ]
    monkeypatch.setattr(reference, "_compute_dtype", lambda *tensors: dtype)
    plain = [torch.stack(part) for part in zip(*(gradient(name, a, "reference") for a in draws), strict=True)]
    for part in range(2):
        budget = 2 * relative(plain[part], exact[part]) + torch.finfo(dtype).eps
        assert relative(mine[part], exact[part]) <= budget


def test_nearest_keys_across_tiles(small_tiles):
    arguments = draw(K=50)
    values, indices = ops.nearest_neighbors(arguments["q"], arguments["queue"], 12, impl="fused")
    expected = (F.normalize(arguments["q"], dim=-1) @ arguments["queue"].mT).topk(12, -1)
    torch.testing.assert_close(values, expected.values)
    assert torch.equal(indices, expected.indices)


@each_loss
def test_backward_under_autocast_stays_in_full_precision(small_tiles, name):
    arguments = draw()
    plain = gradient(name, arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = gradient(name, arguments)
    assert all(torch.equal(a, b) for a, b in zip(plain, within, strict=True))


@pytest.mark.parametrize("name", ["info_nce", "implicit_exchange"])
def test_a_loss_near_zero_keeps_its_digits(name):
    """Queries equal to their keys and orthogonal to the bank: log(1 + a thousandth)."""
    axis = torch.eye(16)
    arguments = {
        "q": axis[0].expand(3, 4, 16),
        "k": axis[0].expand(3, 4, 16),
        "z": axis[0].repeat(3).expand(3, 4, 48),
        "queue": axis[1].expand(3, 30, 16),
    }
    loss = gradient(name, arguments, temperature=0.1)[0]
    exact = gradient(name, {n: t.double() for n, t in arguments.items()}, "reference", temperature=0.1)[0]
    assert exact.max() < 2e-3
    assert relative(loss, exact) < 1e-4
