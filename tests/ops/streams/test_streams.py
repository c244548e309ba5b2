"""Streams as others define them: against loops over joints and frames, whatever the layout and dtype."""

import pytest
import torch

from ikem_fast import ops
from ikem_fast.ops import derive_modalities
from ikem_fast.skeleton import get_layout
from tests.helpers import needs_kernel

LAYOUT = get_layout("ntu-rgb+d")
each_impl = pytest.mark.parametrize("impl", [pytest.param("fused", marks=needs_kernel), "reference"])


def loops(x, parents):
    """Bone and motion of clips (N,C,T,V,M) as published loops make them."""
    bone, motion = torch.zeros_like(x), torch.zeros_like(x)
    for v, parent in enumerate(parents):
        if parent not in (-1, v):
            bone[:, :, :, v] = x[:, :, :, v] - x[:, :, :, parent]
    motion[:, :, :-1] = x[:, :, 1:] - x[:, :, :-1]
    return bone, motion


def draw(N=2, C=3, T=6, V=25, M=2, dtype=torch.float32):
    return torch.randn(N, C, T, V, M).to(dtype)


@each_impl
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sizes", [{}, {"C": 2, "M": 1}, {"C": 4, "T": 1}, {"N": 0}], ids=str)
def test_are_those_of_the_loops_to_the_bit(impl, dtype, sizes):
    x = draw(dtype=dtype, **sizes)
    joint, *found = ops.streams(x, LAYOUT.parents, impl=impl)
    assert joint is x
    for mine, want in zip(found, loops(x, LAYOUT.parents), strict=True):
        assert mine.dtype == dtype and torch.equal(mine, want)


@each_impl
def test_rows_of_a_frame_side_by_side(impl):
    """(N,T,M·V·C), as the files of CTR-GCN have it."""
    x = draw()
    flat = x.permute(0, 2, 4, 3, 1).reshape(2, 6, -1)
    for mine, want in zip(
        ops.streams(flat, "ntu-rgb+d", impl=impl)[1:], loops(x, LAYOUT.parents), strict=True
    ):
        assert torch.equal(mine.view(2, 6, 2, 25, 3).permute(0, 4, 1, 3, 2), want)
    permuted = flat.view(2, 6, 2, 25, 3).permute(0, 4, 1, 3, 2)
    assert torch.equal(
        ops.streams(permuted, "ntu-rgb+d", ("bone",), impl=impl)[0], loops(x, LAYOUT.parents)[0]
    )


@each_impl
def test_several_roots_and_what_is_no_number(impl):
    """A root's bone is 0 whatever the root is; nothing spreads to joints that hang on others."""
    x = draw(V=4)
    x[:, :, :, 0] = torch.nan
    (bone,) = ops.streams(x, (0, 0, -1, 2), ("bone",), impl=impl)
    assert not bone[:, :, :, [0, 2]].any() and bone[:, :, :, 1].isnan().all()
    assert torch.equal(bone[:, :, :, 3], x[:, :, :, 3] - x[:, :, :, 2])


@each_impl
@pytest.mark.parametrize("names", [("bone", "motion"), ("motion",), ("motion", "joint", "bone")], ids=str)
def test_gradients_are_those_of_the_loops(impl, names):
    x = draw(dtype=torch.float64).requires_grad_()
    found = ops.streams(x, LAYOUT.parents, names, impl=impl)
    made = dict(zip(("bone", "motion"), loops(x, LAYOUT.parents), strict=True)) | {"joint": x}
    weights = [torch.randn_like(x) for _ in names]
    mine = torch.autograd.grad(sum((w * y).sum() for w, y in zip(weights, found, strict=True)), x)[0]
    want = torch.autograd.grad(sum((w * made[n]).sum() for w, n in zip(weights, names, strict=True)), x)[0]
    torch.testing.assert_close(mine, want)


@each_impl
def test_derivatives_of_any_order(impl):
    x = draw(N=1, C=1, T=3, V=4, M=1, dtype=torch.float64).requires_grad_()

    def squares(x):
        return sum(y.pow(3).sum() for y in ops.streams(x, (0, 0, 1, 1), ("bone", "motion"), impl=impl))

    assert torch.autograd.gradcheck(squares, x) and torch.autograd.gradgradcheck(squares, x)


@each_impl
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_root_may_carry_the_torso_s_normal(impl, dtype):
    x = draw(dtype=dtype)
    motion, bone = ops.streams(x, LAYOUT, ("motion", "bone"), root="torso", impl=impl)
    assert torch.equal(bone, derive_modalities(x, modalities=("bone",), out_dtype=dtype, impl=impl)[0])
    assert torch.equal(motion, loops(x, LAYOUT.parents)[1])


@needs_kernel
def test_passes_opcheck_and_compiles_whole():
    x, namespace = torch.randn(3, 5, 4, requires_grad=True), torch.ops.ikem_fast
    for bone, motion in ((True, True), (True, False)):
        torch.library.opcheck(namespace.streams.default, (x, [-1, 0, 1, 1], bone, motion))
    grads = torch.randn(2, 3, 5, 4)
    torch.library.opcheck(namespace.streams_backward.default, (*grads, None, [-1, 0, 1, 1]))
    compiled = torch.compile(
        lambda x: ops.streams(x, LAYOUT.parents, impl="fused"),
        fullgraph=True,
        dynamic=True,
        backend="aot_eager",
    )
    for T in (4, 9):
        clips = draw(T=T).requires_grad_()
        found, want = compiled(clips), ops.streams(clips, LAYOUT.parents)
        assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))


@needs_kernel
@pytest.mark.parametrize("parents", [[0, 1], [3, 0, 0], [-2, 0, 0]])
def test_the_op_itself_refuses_what_would_read_out_of_bounds(parents):
    with pytest.raises(RuntimeError, match="parents: expected"):
        torch.ops.ikem_fast.streams(torch.randn(2, 2, 3), parents, True, True)


@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        (torch.zeros(2, 3, 5, 24, 2), {}, ValueError, r"x: expected shape \(N, C, T, V=25, M\) or"),
        (torch.zeros(2, 5, 100), {}, ValueError, r"V=25, C=3\), found \(2, 5, 100\)"),
        (torch.zeros(2, 3, 5, 25, 2).int(), {}, TypeError, "x: expected a floating-point tensor .*int32"),
        (torch.zeros(2, 3, 5, 25, 2), {"names": ("velocity",)}, ValueError, "expected one of 'joint'"),
        (
            torch.zeros(2, 3, 5, 25, 2),
            {"root": "torso"},
            ValueError,
            "root: 'torso' expects parents that are",
        ),
        (torch.zeros(2, 3, 5, 25, 2), {"parents": [25] * 25}, ValueError, "parents: expected joints −1 … 24"),
    ],
)
def test_wrong_arguments_are_refused(x, options, error, message):
    with pytest.raises(error, match=message):
        ops.streams(x, **({"parents": LAYOUT.parents} | options))
