"""The tiled losses of CPU tensors, over several tiles and at their edges."""

import functools
import sys

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounterWithBackend

from benchmarks import harness
from ikem_fast import ops
from ikem_fast.ops import reference
from ikem_fast.ops.bank import tiled

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


@each_loss
def test_without_onednn_the_same(small_tiles, name, monkeypatch):
    """The products of processors that oneDNN is not taken on."""
    arguments = draw()
    with_it = gradient(name, arguments)
    monkeypatch.setattr(tiled, "_onednn_linear", None)
    without = gradient(name, arguments)
    assert all(relative(a, b) < 2e-6 for a, b in zip(with_it, without, strict=True))


@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize(("M", "T", "W"), [(5, 7, 11), (1, 1, 1), (1, 9, 4), (6, 1, 3), (3, 4, 1)])
def test_products_of_any_strides(B, M, T, W):
    rows, keys = torch.randn(B, M, W), torch.randn(B, T, W)
    expected = (rows.double() @ keys.double().mT).float()
    larger = torch.full((B, 2 * T, W + 3), torch.nan)
    larger[:, ::2, :W] = keys
    for r in (rows, rows.mT.contiguous().mT):
        for k in (keys, keys.mT.contiguous().mT, larger[:, ::2, :W]):
            torch.testing.assert_close(tiled.products(r, k), expected)


@each_loss
def test_compiles_whole_and_once(small_tiles, name):
    """fullgraph, forward and backward, dynamic batch size; one graph serves every batch."""
    torch._dynamo.reset()
    backend = CompileCounterWithBackend("aot_eager")
    loss_of = functools.partial(getattr(ops, name), impl="fused")
    compiled = torch.compile(loss_of, fullgraph=True, dynamic=True, backend=backend)
    compilations = []
    for N in (5, 7, 4):  # other numbers than the other sizes, which the compiler would take for the same
        arguments = draw(N=N, K=10)
        others = [arguments[other] for other in LOSSES[name][1:]]
        leaves = [arguments[LOSSES[name][0]].clone().requires_grad_() for _ in range(2)]
        for op, leaf in zip((compiled, loss_of), leaves, strict=True):
            op(leaf, *others).sum().backward()
        torch.testing.assert_close(leaves[0].grad, leaves[1].grad)
        compilations.append(backend.frame_count)
    assert len(set(compilations)) == 1


@each_loss
def test_same_bits_every_run_in_deterministic_mode(small_tiles, name):
    """The mode also fills what `torch.empty` returns with NaN: nothing may go unwritten."""
    arguments = draw()
    torch.use_deterministic_algorithms(True)
    try:
        first, again = gradient(name, arguments), gradient(name, arguments)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) and a.isfinite().all() for a, b in zip(first, again, strict=True))


@each_loss
def test_bank_beyond_32_bits(name):
    """Banks that lie more than 2³¹ numbers apart (address space that is never touched costs nothing)."""
    arguments = {n: t.bfloat16() for n, t in draw(P=2, N=2, K=18).items()}
    far = torch.empty(2**31 + 1024, dtype=torch.bfloat16).as_strided((2, 18, 16), (2**31 + 64, 16, 1))
    far.copy_(arguments["queue"])
    near, distant = gradient(name, arguments), gradient(name, arguments | {"queue": far})
    assert all(torch.equal(a, b) for a, b in zip(near, distant, strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of a process from Linux")
def test_memory_at_the_size_of_the_method():
    """Cross and exchange, forward and backward: at most half a gigabyte above the inputs."""
    names = ("cross_modal_contrast", "implicit_exchange")
    assert harness.peak_memory("fused", names, 128, 32768, "cpu", torch.float32) <= 0.5e9
