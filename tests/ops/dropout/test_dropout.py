"""Dropout, held to torch's own to the bit: outputs, gradients, and where the generator is left."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ikem_fast import ops
from ikem_fast.nn.dropout import Dropout
from ikem_fast.ops._support import Support
from ikem_fast.ops.dropout import native
from tests.helpers import needs_kernel

theirs = F.dropout  # whatever replaces it
SHAPES = [(0, 3), (1,), (7, 9), (311,), (312,), (313, 5), (2, 16, 50, 25), (3, 4, 5, 6, 7)]


def after(draws, call, seed=3):
    """What a call gives after so many draws of 32 bits, and the bytes of the generator behind it."""
    torch.manual_seed(seed)
    for _ in range(draws):
        torch.empty(()).random_()
    return call(), torch.get_rng_state()


def expect_alike(mine, want):
    assert torch.equal(mine[1], want[1]), "the generator is left where torch leaves it"
    assert mine[0].stride() == want[0].stride()
    assert torch.equal(mine[0].view(torch.int32), want[0].view(torch.int32)), "to the sign of a zero"


@needs_kernel
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("p", [0.5, 0.1, 0.9, 1e-9, 1 - 1e-9])
@pytest.mark.parametrize("inplace", [False, True])
def test_the_same_elements_as_torch_s(shape, p, inplace):
    x = torch.randn(shape)
    for draws in (0, 1, 623, 624, 1000):
        mine = after(draws, lambda: ops.dropout(x.clone(), p, inplace=inplace, impl="fused"))
        expect_alike(mine, after(draws, lambda: theirs(x.clone(), p, inplace=inplace)))


@needs_kernel
@pytest.mark.parametrize("order", [torch.channels_last, torch.channels_last_3d])
def test_elements_are_drawn_for_as_they_lie_in_memory(order):
    x = torch.randn(3, 4, 5, 6, 7)[..., : 7 if order == torch.channels_last_3d else 1]
    x = (x if order == torch.channels_last_3d else x[..., 0]).contiguous(memory_format=order)
    expect_alike(after(0, lambda: ops.dropout(x, impl="fused")), after(0, lambda: theirs(x)))


@needs_kernel
def test_what_is_no_number_stays_none():
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, 0.0, -1.0] * 50)
    mine, want = (after(0, lambda call=call: call(x)) for call in (ops.dropout, theirs))
    torch.testing.assert_close(mine[0], want[0], rtol=0, atol=0, equal_nan=True)


@needs_kernel
@pytest.mark.parametrize("inplace", [False, True])
def test_gradients_are_torch_s_in_any_order_of_memory(inplace):
    x, weights = torch.randn(2, 5, 8, 9, requires_grad=True), torch.randn(9, 8, 5, 2)

    def gradients(call):
        y = call(x * 1.0, 0.3, inplace=inplace)
        (first,) = torch.autograd.grad((y.permute(3, 2, 1, 0) ** 3 * weights).sum(), x, create_graph=True)
        return y, first, torch.autograd.grad(first.square().sum(), x)[0]

    mine, want = (after(0, lambda call=call: gradients(call))[0] for call in (ops.dropout, theirs))
    assert all(torch.equal(a, b) for a, b in zip(mine, want, strict=True))


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_nothing_is_drawn_where_nothing_is_zeroed_at_random(impl):
    x = torch.randn(5)
    for p, training in ((0.0, True), (0.5, False), (1.0, True)):
        mine = after(0, lambda p=p, training=training: ops.dropout(x, p, training, impl=impl))
        expect_alike(mine, after(0, lambda p=p, training=training: theirs(x, p, training)))
    assert ops.dropout(x, training=False) is x


@needs_kernel
@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (torch.randn(6, dtype=torch.float64), "float32 on a CPU, found torch.float64"),
        (torch.randn(6, 8)[:, ::2], r"contiguous tensors, found strides \(8, 2\)"),
        (torch.randn(4, 5, 6).transpose(0, 1), "contiguous tensors"),
    ],
)
def test_torch_computes_where_the_kernels_cannot(x, reason):
    torch.manual_seed(1)
    mine, want = (after(0, lambda call=call: call(x, 0.4)) for call in (ops.dropout, theirs))
    assert torch.equal(mine[0], want[0]) and torch.equal(mine[1], want[1])
    with pytest.raises(RuntimeError, match=reason):
        ops.dropout(x, impl="fused")


@needs_kernel
def test_torch_computes_where_it_draws_in_another_way(monkeypatch):
    assert native._draws_alike()
    monkeypatch.setattr(native, "_draws_alike", lambda: Support("this torch draws in another way"))
    x = torch.randn(20)
    expect_alike(after(0, lambda: ops.dropout(x)), after(0, lambda: theirs(x)))
    with pytest.raises(RuntimeError, match="draws in another way"):
        ops.dropout(x, impl="fused")


@needs_kernel
def test_transforms_and_compilation_take_torch_s():
    x = torch.randn(4, 3)
    kept = torch.vmap(ops.dropout, randomness="different")(x)
    assert ((kept == 0) | (kept == 2 * x)).all()
    compiled = torch.compile(lambda x: ops.dropout(x, 0.5) * 1, fullgraph=True, backend="eager")
    expect_alike(after(0, lambda: compiled(x)), after(0, lambda: theirs(x)))


@needs_kernel
def test_modules_of_torch_take_it(monkeypatch):
    """One line changes all of another codebase's; ours is a module of torch's kind."""
    x, module = torch.randn(2, 3, 4), nn.Dropout(0.3, inplace=True)
    want = after(0, lambda: module(x.clone()))
    calls = []
    monkeypatch.setattr(F, "dropout", lambda *arguments: calls.append(1) or ops.dropout(*arguments))
    expect_alike(after(0, lambda: module(x.clone())), want)
    assert len(calls) == 1
    ours = Dropout(0.3, inplace=True)
    assert isinstance(ours, nn.Dropout)
    expect_alike(after(0, lambda: ours(x.clone())), want)
    assert ours.eval()(x) is x


def test_wrong_arguments_are_refused():
    for p in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"p: expected a probability in 0 … 1, found"):
            ops.dropout(torch.ones(2), p)
    with pytest.raises(ValueError, match="impl"):
        ops.dropout(torch.ones(2), impl="fast")


@needs_kernel
def test_the_op_itself_refuses_what_would_read_out_of_bounds():
    x, state = torch.ones(8), torch.get_rng_state()
    call = torch.ops.ikem_fast.dropout
    for odd in (state[:-1], torch.full_like(state, 255), torch.zeros_like(state)):
        with pytest.raises(RuntimeError, match="state: expected"):
            call(odd.clone(), x, 0.5, 2.0, x, None)
    for out, mask in ((torch.ones(7), None), (x, torch.ones(9, dtype=torch.uint8)), (x, torch.ones(8))):
        with pytest.raises(RuntimeError, match=r"(out|mask): expected 8 numbers"):
            call(state.clone(), x, 0.5, 2.0, out, mask)
    for spread in (torch.ones(1).expand(8), torch.ones(8, 2)[:, 0]):
        with pytest.raises(RuntimeError, match="x: expected 8 numbers side by side"):
            call(state.clone(), spread, 0.5, 2.0, x, None)
    with pytest.raises(RuntimeError, match="keep: expected a probability"):
        call(state.clone(), x, 1.5, 2.0, x, None)
    with pytest.raises(RuntimeError, match="mask: expected 8 numbers"):
        torch.ops.ikem_fast.scale_kept(x, torch.ones(7, dtype=torch.uint8), 2.0, x)
