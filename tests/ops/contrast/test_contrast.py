"""The bank losses of other codebases: each against its formula in float64, however its arguments come."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounterWithBackend

from ikem_fast import ops
from tests.helpers import needs_inductor, needs_kernel
from tests.losses import relative

NAMES = ("moco_loss", "soft_contrast", "neighbor_kl", "all_neighbors_kl", "multi_positive_nce")
each_loss = pytest.mark.parametrize("name", NAMES)
each_impl = pytest.mark.parametrize(
    "impl", [pytest.param("fused", marks=needs_kernel), "reference"]
)  # auto is one of them
ROWS, TOPK = 4, 5


def draw(P=2, N=5, K=37, D=16, dtype=torch.float32):
    """Features and banks that are no unit rows, as some keep theirs; the same rows are mined twice."""
    normal = lambda *shape: torch.randn(*shape, dtype=torch.float64)  # noqa: E731
    q = normal(P, N, D)
    rows = torch.randint(K, (P, N, ROWS))
    rows[..., 0] = rows[..., 1]
    features = {"q": q, "k": q + 0.5 * normal(P, N, D), "teacher": q + normal(P, N, D)}
    banks = {"queue": 0.4 * normal(P, K, D), "guide": 0.4 * normal(P, K, D)}
    temperature = {"tau": torch.tensor(0.3)}
    return {name: x.to(dtype) for name, x in (features | banks | temperature).items()} | {"rows": rows}


def call(name, a, **options):
    """A loss of the arguments that `draw` gave."""
    q, k, queue, tau = a["q"], a["k"], a["queue"], a["tau"]
    if name == "moco_loss":
        return ops.moco_loss(q, k, queue, tau, **options)
    if name == "soft_contrast":
        return ops.soft_contrast(q, a["teacher"], k, queue, tau, 0.2, **options)
    if name == "multi_positive_nce":
        return ops.multi_positive_nce(q, k, queue, a["rows"], tau, **options)
    topk = None if name == "all_neighbors_kl" else TOPK
    return ops.neighbor_kl(q, a["teacher"], queue, a["guide"], tau, 0.2, topk, **options)


def formula(name, a):
    """The losses (P,N) as they are written down, a clip at a time, in the dtype of the arguments."""
    tau, losses = a["tau"], []
    for p in range(len(a["q"])):
        for n in range(a["q"].shape[1]):
            u, y, t = (a[x][p, n] / a[x][p, n].norm() for x in ("q", "k", "teacher"))
            s, positive = a["queue"][p] @ u / tau, u @ y / tau
            partition = torch.cat([positive[None], s]).exp().sum().log()
            if name == "moco_loss":
                losses.append(partition - positive)
            elif name == "soft_contrast":
                weights = torch.cat([(t @ y)[None], a["queue"][p] @ t]).div(0.2).exp().detach()
                logits = torch.cat([positive[None], s])
                losses.append(partition - (weights / weights.sum() * logits).sum())
            elif name == "multi_positive_nce":
                rows = sorted(set(a["rows"][p, n].tolist()))
                losses.append(partition - (positive + s[rows].sum()) / (1 + len(rows)))
            else:
                guide = a["guide"][p] @ t / 0.2
                best = guide.argsort(descending=True)[: len(guide) if name == "all_neighbors_kl" else TOPK]
                p_of = guide[best].exp() / guide[best].exp().sum()
                losses.append((p_of * (p_of / (s[best].exp() / s[best].exp().sum())).log()).sum())
    return torch.stack(losses).view(a["q"].shape[:2])


def differentiated(loss_of, name, a):
    """(losses, gradients of their weighted sum in q, k and τ): those that the formula has."""
    learned = ("q", "tau") if "kl" in name else ("q", "k", "tau")
    leaves = {x: a[x].detach().clone().requires_grad_() for x in learned}
    loss = loss_of(name, a | leaves)
    weights = torch.linspace(0.5, 2, loss.numel(), dtype=loss.dtype).view(loss.shape)
    return loss.detach(), *torch.autograd.grad((loss * weights).sum(), list(leaves.values()))


def exact(name, a):
    return differentiated(
        formula, name, {n: x.double() if x.is_floating_point() else x for n, x in a.items()}
    )


def none(impl, **options):
    return lambda name, a: call(name, a, impl=impl, reduction="none", **options)


@each_loss
@each_impl
@settings(max_examples=8, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(6, 90), st.integers(1, 40), st.integers(0, 1000))
def test_is_the_formula(name, impl, P, N, K, D, seed):
    torch.manual_seed(seed)
    a = draw(P, min(N, 7), K, D)
    for mine, want in zip(differentiated(none(impl), name, a), exact(name, a), strict=True):
        assert (mine - want).norm() <= 2e-5 * want.norm() + 5e-5


@each_loss
@needs_kernel
@pytest.mark.parametrize(("N", "K", "D"), [(70, 530, 8), (3, 2100, 20), (1, 1, 5)])
def test_tiles_and_parts_of_the_bank(name, N, K, D, monkeypatch):
    monkeypatch.setattr(f"{__name__}.TOPK", min(K, 300))
    a = draw(1, N, K, D)
    for mine, want in zip(differentiated(none("fused"), name, a), exact(name, a), strict=True):
        assert (mine - want).norm() <= 1e-5 * want.norm() + 1e-6


@each_loss
@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_error_budget(name, dtype, monkeypatch):
    """No further from float64 than twice the plain formulation in the same dtype, plus one rounding."""
    draws = [{n: x.to(dtype) if n != "rows" else x for n, x in draw(K=600).items()} for _ in range(30)]

    def over_draws(function):
        return [torch.stack(part) for part in zip(*map(function, draws), strict=True)]

    mine = over_draws(lambda a: differentiated(none("fused"), name, a))
    truth = over_draws(
        lambda a: differentiated(
            none("reference"), name, {n: x if n == "rows" else x.double() for n, x in a.items()}
        )
    )
    monkeypatch.setattr("ikem_fast.ops.contrast.reference.compute_dtype", lambda *tensors: dtype)
    plain = over_draws(lambda a: differentiated(none("reference"), name, a))
    for part in range(len(mine)):
        budget = 2 * relative(plain[part], truth[part]) + torch.finfo(dtype).eps
        assert relative(mine[part], truth[part]) <= budget


@each_loss
def test_gradcheck(name):
    """In the keys too, where the formula is differentiable in them: the teacher's softmax is held fixed."""
    a = draw(1, 2, 6, 4, torch.float64)
    names = ("q", "k", "tau") if name in ("moco_loss", "multi_positive_nce") else ("q", "tau")
    leaves = [a[x].requires_grad_() for x in names]
    assert torch.autograd.gradcheck(
        lambda *given: none("auto")(name, a | dict(zip(names, given, strict=True))), leaves
    )


@each_loss
@each_impl
def test_one_modality_and_banks_as_others_keep_them(name, impl):
    """(N,D) for (1,N,D); (D,K), every other number of a wider bank: the same numbers."""
    a = draw(P=1)
    want = differentiated(none(impl), name, a)
    one = {n: x[0] if x.dim() == 3 else x for n, x in a.items()}
    loss, *gradients = differentiated(none(impl), name, one)
    assert loss.shape == (5,)
    torch.testing.assert_close([loss, *gradients], [want[0][0], *(g.squeeze(0) for g in want[1:])])
    wider = torch.full((2 * 37, 2 * 16 + 3), torch.nan)
    wider[::2, 1:33:2] = one["queue"]
    for bank in (one["queue"].T.contiguous(), wider[::2, 1:33:2]):
        found = differentiated(none(impl), name, one | {"queue": bank})
        torch.testing.assert_close(list(found), [loss, *gradients])
    assert call(name, one, impl=impl).shape == () and call(name, a, impl=impl).shape == (1,)


@each_loss
@each_impl
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_dtypes_and_autocast(name, impl, dtype):
    a = {n: x.to(dtype) if n not in ("rows", "tau") else x for n, x in draw().items()}
    plain = differentiated(none(impl), name, a)
    assert plain[0].dtype == torch.float32 and plain[1].dtype == dtype
    for mine, want in zip(plain, exact(name, a), strict=True):
        assert (mine - want).norm() <= 16 * torch.finfo(dtype).eps * want.norm() + 1e-6
    with torch.autocast("cpu", torch.bfloat16):
        within = differentiated(none(impl), name, a)
    # Plain torch differentiates its products in low precision where the backward pass is under autocast too.
    parts = len(plain) if impl == "fused" else 1
    assert all(torch.equal(x, y) for x, y in zip(plain[:parts], within[:parts], strict=True))


@each_loss
def test_temperatures_as_they_come(name):
    a = draw()
    want = call(name, a | {"tau": 0.3})
    for tau in (
        np.float32(0.3),
        np.float64(0.3),
        torch.tensor(0.3),
        torch.tensor([0.3]),
        torch.tensor(0.3).double(),
    ):
        torch.testing.assert_close(call(name, a | {"tau": tau}), want)
    for tau in (0, -1.0, float("nan"), torch.tensor(-0.3), torch.ones(2), "warm", None):
        with pytest.raises(ValueError, match="temperature: expected a positive number"):
            call(name, a | {"tau": tau})


def test_a_temperature_that_cannot_learn_says_so():
    a, tau = draw(), torch.tensor(0.1, requires_grad=True)
    losses = (
        lambda: ops.soft_contrast(a["q"], a["teacher"], a["k"], a["queue"], 0.1, tau),
        lambda: ops.neighbor_kl(a["q"], a["teacher"], a["queue"], a["guide"], 0.1, tau),
        lambda: ops.info_nce(a["q"], a["k"], a["queue"], temperature=tau),
    )
    for loss in losses:
        with pytest.raises(
            ValueError, match=r"temperature: expected a number, found a tensor whose gradient"
        ):
            loss()


@each_impl
def test_ranks_give_accuracies(impl):
    a = draw(P=1, N=50, K=200)
    loss, rank = ops.moco_loss(a["q"], a["k"], a["queue"], 0.3, return_rank=True, impl=impl)
    torch.testing.assert_close(loss, call("moco_loss", a))
    u, y = F.normalize(a["q"], dim=-1), F.normalize(a["k"], dim=-1)
    logits = torch.cat([(u * y).sum(-1, keepdim=True), u @ a["queue"].mT], -1)[0]
    for k in (1, 5):
        hits = (logits.topk(k).indices == 0).any(-1)
        assert torch.equal(rank[0] < k, hits)
    assert rank.dtype == torch.int64 and rank.shape == (1, 50) and 0 < rank.max() < 200


@each_impl
def test_positives_as_rows_several_rows_or_a_mask(impl):
    a = draw()
    rows, more = a["rows"], torch.randint(37, (2, 5, 3))
    mask = torch.zeros(2, 5, 37, dtype=torch.bool).scatter_(-1, torch.cat([rows, more], -1), True)
    want = formula("multi_positive_nce", a | {"rows": torch.cat([rows, more], -1)}).mean(-1)
    for positives in ([rows, more], torch.cat([rows, more], -1), mask):
        found = ops.multi_positive_nce(a["q"], a["k"], a["queue"], positives, 0.3, impl=impl)
        torch.testing.assert_close(found, want)
    empty = ops.multi_positive_nce(a["q"], a["k"], a["queue"], rows[..., :0], 0.3, impl=impl)
    torch.testing.assert_close(empty, ops.moco_loss(a["q"], a["k"], a["queue"], 0.3, impl=impl))


@pytest.mark.parametrize(
    ("positives", "error", "message"),
    [
        (torch.zeros(2, 5, 3), TypeError, "expected rows, int64, or a mask, bool, found torch.float32"),
        ("rows", TypeError, "positives: .*found str"),
        (torch.full((2, 5, 3), 37), ValueError, r"positives: expected rows of 0 … 36, found 37 … 37"),
        (torch.full((2, 5, 3), -1), ValueError, r"positives: expected rows of 0 … 36"),
        (torch.zeros(2, 5, 36, dtype=torch.bool), ValueError, r"positives: .*mask of K=37"),
        (torch.zeros(5, 3, dtype=torch.int64), ValueError, r"positives: expected shape \(P=2, N=5"),
        ([torch.zeros(2, 5, 37, dtype=torch.bool)] * 2, ValueError, "expected tensors of rows, or one"),
    ],
)  # fmt: skip
def test_wrong_positives_are_refused(positives, error, message):
    a = draw()
    with pytest.raises(error, match=message):
        ops.multi_positive_nce(a["q"], a["k"], a["queue"], positives, 0.3)


@each_loss
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": torch.randn(2, 5, 15)}, "expected shape"),
        ({"queue": torch.randn(2, 37, 15)}, r"queue: expected shape \(P=2, K, D=16\), found \(2, 37, 15\)"),
        ({"queue": torch.randn(37, 16)}, r"queue: expected shape \(P=2"),
    ],
)
def test_wrong_shapes_are_refused(name, changes, message):
    with pytest.raises(ValueError, match=message):
        call(name, draw() | changes)


def test_a_teacher_of_another_width():
    a = draw()
    teacher, guide = torch.randn(2, 5, 9), torch.randn(2, 37, 9)
    both = [
        ops.neighbor_kl(a["q"], teacher, a["queue"], guide, 0.1, 0.1, 7, impl=impl)
        for impl in ("auto", "reference")
    ]
    torch.testing.assert_close(*both)
    with pytest.raises(ValueError, match=r"teacher_queue: expected shape \(P=2, K=37, D'=9\)"):
        ops.neighbor_kl(a["q"], teacher, a["queue"], guide[:, :30], 0.1, 0.1)


def test_sharp_teachers_stay_finite():
    a = draw()
    loss = ops.soft_contrast(a["q"], a["teacher"], a["k"], a["queue"], 0.01, 0.005)
    assert loss.isfinite().all()


@needs_kernel
def test_a_loss_near_zero_keeps_its_digits():
    axis = torch.eye(16)
    given = axis[0].expand(4, 16), axis[0].expand(4, 16), axis[1].expand(30, 16)
    loss = ops.moco_loss(*given, 0.1, reduction="none", impl="fused")
    want = ops.moco_loss(*(x.double() for x in given), 0.1, reduction="none")
    assert want.max() < 2e-3 and relative(loss, want) < 1e-5


@needs_kernel
@each_loss
def test_the_bank_may_change_before_the_backward_pass(name):
    """As a queue does that is filled in the forward pass: the gradient is there by then."""
    a = draw()
    q = a["q"].requires_grad_()
    want = torch.autograd.grad(call(name, a, impl="fused").sum(), q)[0]
    loss = call(name, a, impl="fused").sum()
    a["queue"].zero_()
    assert torch.equal(torch.autograd.grad(loss, q)[0], want)


@needs_kernel
@each_loss
def test_the_same_bits_for_any_number_of_threads(name):
    a, before, found = draw(1, 70, 2100), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(differentiated(none("fused"), name, a))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(x, y) for other in found[1:] for x, y in zip(found[0], other, strict=True))


@needs_kernel
@each_loss
def test_second_derivatives_are_refused_by_name(name):
    a = draw()
    loss = call(name, a | {"q": (q := a["q"].requires_grad_())}, impl="fused").sum()
    (gradient,) = torch.autograd.grad(loss, q, create_graph=True)
    with pytest.raises(RuntimeError, match="has no second derivatives; impl='reference' has"):
        gradient.sum().backward()
    with pytest.raises(RuntimeError, match="impl='fused' is not possible"):
        torch.func.grad(lambda q: call(name, a | {"q": q}, impl="fused").sum())(a["q"].detach())


@needs_kernel
def test_passes_opcheck():
    a, namespace = draw(N=4, K=9), torch.ops.ikem_fast
    limits = torch.randn(2, 4)
    for with_mean, limit in ((True, None), (False, limits), (True, limits)):
        torch.library.opcheck(namespace.softmax, (a["q"], a["queue"], limit, with_mean))
    for topk in (3, 9):
        arguments = (a["q"], a["teacher"], a["queue"], a["guide"], topk, True)
        torch.library.opcheck(namespace.neighbor_divergence, arguments)


@needs_kernel
@pytest.mark.parametrize(
    ("op", "change", "message"),
    [
        ("softmax", {0: torch.randn(2, 4, 7)}, "x: expected"),
        ("softmax", {2: torch.randn(2, 3)}, "limits: expected"),
        ("neighbor_divergence", {1: torch.randn(2, 3, 16)}, "teacher: expected"),
        ("neighbor_divergence", {4: 10}, "topk: expected 1 … 9, found 10"),
    ],
)
def test_the_ops_themselves_refuse_what_would_read_out_of_bounds(op, change, message):
    a = draw(N=4, K=9)
    given = {
        "softmax": [a["q"], a["queue"], None, True],
        "neighbor_divergence": [a["q"], a["teacher"], a["queue"], a["guide"], 3, True],
    }[op]
    for place, value in change.items():
        given[place] = value
    with pytest.raises(RuntimeError, match=message):
        getattr(torch.ops.ikem_fast, op)(*given)


@needs_inductor
@needs_kernel
@each_loss
def test_compiles_whole_and_once(name):
    torch._dynamo.reset()
    backend = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(none("fused"), fullgraph=True, dynamic=True, backend=backend)
    counts = []
    for N in (5, 7, 4):
        a = draw(N=N, K=10)
        found = differentiated(compiled, name, a)
        torch.testing.assert_close(list(found), list(differentiated(none("fused"), name, a)))
        counts.append(backend.frame_count)
    assert len(set(counts)) == 1
