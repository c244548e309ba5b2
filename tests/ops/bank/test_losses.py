"""The bank losses as a user calls them: their values, gradients, errors and invariances, on the CPU.

What is said here holds for every implementation; the compiled and the Triton versions have tests beside it.
"""

import functools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ikem_fast import ops
from ikem_fast.ops._support import support_on_gpu
from tests import losses
from tests.losses import LOSSES, RELATIONAL, call, doubled, each_loss, gradient

IMPLEMENTATIONS = ("auto", "reference")


def unit(*shape, dtype=torch.float64):
    return F.normalize(torch.randn(*shape, dtype=dtype), dim=-1)


draw = functools.partial(losses.draw, K=11, D=8, dtype=torch.float64)
each_impl = pytest.mark.parametrize("impl", IMPLEMENTATIONS)


def materialised(name, arguments, temperature, topk, context):
    """The formulation of the published code: a row of logits for each clip and pair, a mask of positives."""
    n = functools.partial(F.normalize, dim=-1)
    side_by_side = lambda x: n(torch.cat(list(x), -1))  # noqa: E731
    queue = arguments["queue"]

    def mean_log_likelihood(positive, own, other=None):
        logits, mask = [positive[:, None], own], [torch.ones_like(positive[:, None]), torch.zeros_like(own)]
        if other is not None:
            neighbours = torch.zeros_like(own).scatter(1, other.topk(topk, 1).indices, 1)
            mask = [mask[0], neighbours]
            if context:
                logits, mask = [*logits, own * other], [*mask, neighbours]
        logits, mask = torch.cat(logits, 1) / temperature, torch.cat(mask, 1)
        return -(mask * F.log_softmax(logits, 1)).sum(1) / mask.sum(1)

    if name in ("info_nce", "cross_modal_contrast"):
        q, k = n(arguments["q"]), n(arguments["k"])
        positive = [(a * b).sum(-1) for a, b in zip(q, k, strict=True)]
        s = [a @ bank.T for a, bank in zip(q, queue, strict=True)]
        if name == "info_nce":
            return torch.stack([mean_log_likelihood(*row) for row in zip(positive, s, strict=True)])
        others = [[j for j in range(len(q)) if j != i] for i in range(len(q))]
        return torch.stack([
            torch.stack([mean_log_likelihood(positive[i], s[i], s[j]) for j in others[i]]).mean(0)
            for i in range(len(q))
        ])  # fmt: skip
    learned, key = ("z", "k") if name == "implicit_exchange" else ("student", "teacher")
    keys = n(arguments[key])
    u, key = n(arguments[learned]), side_by_side(keys)
    s = u @ side_by_side(queue).T
    if name == "implicit_exchange":
        return torch.stack([mean_log_likelihood((a * key).sum(-1), b) for a, b in zip(u, s, strict=True)])
    s_teacher = keys @ queue.mT
    return torch.stack([
        torch.stack([mean_log_likelihood((u[a] * key).sum(-1), s[a], other) for other in s_teacher]).mean(0)
        for a in range(len(u))
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("name", "topk", "context"),
    [
        (name, topk, context)
        for name in LOSSES
        for topk in ((1, 3) if name in RELATIONAL else (1,))
        for context in ((True, False) if name in RELATIONAL else (True,))
    ],
)
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_closed_form_is_the_published_formulation(name, topk, context, temperature):
    arguments = draw()
    learned, mines = LOSSES[name][0], name in RELATIONAL
    options = {"topk": topk, "context": context} if mines else {}
    loss, grad = gradient(name, arguments, temperature=temperature, reduction="none", **options)

    leaf = arguments[learned].clone().requires_grad_()
    expected = materialised(name, arguments | {learned: leaf}, temperature, topk, context)
    weights = torch.linspace(0.5, 2, loss.numel(), dtype=loss.dtype).view(loss.shape)
    torch.testing.assert_close(loss, expected, rtol=1e-11, atol=1e-11)
    expected_grad = torch.autograd.grad((expected * weights).sum(), leaf)[0]
    torch.testing.assert_close(grad, expected_grad, rtol=1e-10, atol=1e-11)


@each_loss
@pytest.mark.parametrize("topk", [1, 2])
def test_gradcheck(name, topk):
    arguments = draw(P=3, N=2, K=5, D=4)
    learned, mines = LOSSES[name][0], name in RELATIONAL
    options = {"temperature": 0.3, "reduction": "none"} | ({"topk": topk} if mines else {})
    leaf = arguments[learned].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: call(name, arguments | {learned: x}, **options), leaf)


@each_loss
@each_impl
def test_only_the_learned_features_get_a_gradient(name, impl):
    arguments = {key: value.requires_grad_() for key, value in draw(dtype=torch.float32).items()}
    call(name, arguments, impl=impl).sum().backward()
    for argument in LOSSES[name]:
        assert (arguments[argument].grad is not None) == (argument == LOSSES[name][0]), argument


@each_loss
@each_impl
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(name, impl, dtype):
    arguments = draw(dtype=dtype)
    loss, grad = gradient(name, arguments, impl=impl)
    exact, exact_grad = gradient(name, doubled(arguments), impl="reference")
    assert loss.dtype == torch.float32 and grad.dtype == dtype and exact.dtype == torch.float64
    rounding = torch.finfo(dtype).eps
    assert (loss - exact).abs().max() <= 16 * rounding * exact.abs().max()
    assert (grad - exact_grad).norm() <= 16 * rounding * exact_grad.norm()


@each_loss
@each_impl
def test_features_and_bank_of_different_dtypes(name, impl):
    arguments = draw(dtype=torch.float32)
    mixed = arguments | {LOSSES[name][0]: arguments[LOSSES[name][0]].bfloat16()}
    loss, grad = gradient(name, mixed, impl=impl)
    exact, exact_grad = gradient(name, mixed, impl="reference")
    assert grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, exact, rtol=0.03, atol=0.03)
    torch.testing.assert_close(grad, exact_grad, rtol=0.1, atol=0.05)


@each_loss
@each_impl
def test_autocast_leaves_float32_features_alone(name, impl):
    arguments = draw(dtype=torch.float32)
    plain = call(name, arguments, impl=impl)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(call(name, arguments, impl=impl), plain, rtol=0, atol=0)


@each_loss
@each_impl
def test_mean_is_the_mean_of_none(name, impl):
    arguments = draw(dtype=torch.float32)
    per_clip = call(name, arguments, reduction="none", impl=impl)
    assert per_clip.shape == arguments[LOSSES[name][0]].shape[:2]
    torch.testing.assert_close(call(name, arguments, impl=impl), per_clip.mean(-1))


@each_loss
@each_impl
def test_one_clip_and_one_key(name, impl):
    arguments = draw(P=2, N=1, K=1, D=1, S=1, dtype=torch.float32)
    loss, grad = gradient(name, arguments, impl=impl)
    exact, exact_grad = gradient(name, doubled(arguments))
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad.double(), exact_grad, rtol=1e-5, atol=1e-5)


@each_loss
@each_impl
@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
@pytest.mark.parametrize("alignment", [-1, 0, 1])
def test_no_temperature_overflows_or_underflows(name, impl, temperature, alignment):
    """Features opposite to, unrelated to and equal to every key of the bank."""
    arguments = draw(P=2, N=3, K=4, D=8, dtype=torch.float32)
    if alignment:
        key = unit(2, 1, 8, dtype=torch.float32)
        arguments["queue"] = key.expand(2, 4, 8).contiguous()
        arguments["q"] = arguments["teacher"] = alignment * key.expand(2, 3, 8)
        arguments["k"] = -arguments["q"]
        arguments["z"] = arguments["student"] = alignment * torch.cat(list(key), -1).expand(2, 3, 16)
    loss, grad = gradient(name, arguments, temperature=temperature, impl=impl)
    exact, exact_grad = gradient(name, doubled(arguments), temperature=temperature)
    torch.testing.assert_close(loss.double(), exact, rtol=2e-5, atol=2e-5)
    torch.testing.assert_close(grad.double(), exact_grad, rtol=1e-3, atol=1e-4)


@each_loss
@each_impl
def test_features_of_zero_stay_finite(name, impl):
    arguments = draw(dtype=torch.float32)
    arguments[LOSSES[name][0]][:, 0] = 0
    loss, grad = gradient(name, arguments, impl=impl)
    assert loss.isfinite().all() and grad.isfinite().all()


@each_impl
def test_nearest_neighbors_are_those_of_a_sort(impl):
    arguments = draw(N=7, K=29, dtype=torch.float32)
    values, indices = ops.nearest_neighbors(arguments["q"], arguments["queue"], 5, impl=impl)
    similarities = F.normalize(arguments["q"], dim=-1) @ arguments["queue"].mT
    expected = similarities.sort(-1, descending=True)
    assert indices.dtype == torch.int64 and values.dtype == torch.float32
    torch.testing.assert_close(values, expected.values[..., :5])
    assert torch.equal(indices, expected.indices[..., :5])


def test_exchange_of_one_modality_is_info_nce():
    arguments = draw(P=1)
    torch.testing.assert_close(
        ops.implicit_exchange(arguments["q"], arguments["k"], arguments["queue"]),
        ops.info_nce(arguments["q"], arguments["k"], arguments["queue"]),
    )


sizes = st.fixed_dictionaries({
    "P": st.integers(2, 4), "N": st.integers(1, 6), "K": st.integers(1, 40), "D": st.integers(4, 12),
})  # fmt: skip


@each_loss
@settings(max_examples=15, deadline=None)
@given(sizes=sizes, seed=st.integers(0, 2**31), scale=st.floats(0.01, 100))
def test_invariances(name, sizes, seed, scale):
    """The length of a feature, the order of the bank and the order of the batch do not matter.

    (Vectors of few dimensions tie for the nearest key; which of them is taken is nobody's promise.)
    """
    torch.manual_seed(seed)
    arguments = draw(**sizes, dtype=torch.float32)
    P, N, K = sizes["P"], sizes["N"], sizes["K"]
    loss = call(name, arguments, reduction="none")
    close = functools.partial(torch.testing.assert_close, rtol=2e-5, atol=2e-5)

    longer = {k: v if k == "queue" else scale * v for k, v in arguments.items()}
    close(call(name, longer, reduction="none"), loss)
    shuffled = arguments | {"queue": arguments["queue"][:, torch.randperm(K)]}
    close(call(name, shuffled, reduction="none"), loss)
    batch = torch.randperm(N)
    reordered = {k: v if k == "queue" else v[:, batch] for k, v in arguments.items()}
    close(call(name, reordered, reduction="none"), loss[:, batch])
    if name in ("info_nce", "cross_modal_contrast"):
        order = torch.randperm(P)
        reordered = {argument: arguments[argument][order] for argument in LOSSES[name]}
        close(call(name, reordered, reduction="none"), loss[order])
    assert (loss >= -1e-5).all() or name in RELATIONAL


@each_loss
@each_impl
def test_any_strides(name, impl):
    arguments = draw(dtype=torch.float32)
    plain, plain_grad = gradient(name, arguments, impl=impl)
    strided = {key: value.transpose(0, 1).contiguous().transpose(0, 1) for key, value in arguments.items()}
    loss, grad = gradient(name, strided, impl=impl)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(grad, plain_grad)


@each_loss
@each_impl
def test_gradient_of_a_sum_has_stride_zero(name, impl):
    """`loss.sum()` hands back a gradient expanded from one number."""
    arguments = draw(dtype=torch.float32)
    learned = LOSSES[name][0]
    leaves = [arguments[learned].clone().requires_grad_() for _ in range(2)]
    for leaf, weights in zip(leaves, (1, torch.ones(leaves[0].shape[:2])), strict=True):
        (call(name, arguments | {learned: leaf}, reduction="none", impl=impl) * weights).sum().backward()
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad)


BAD_CALLS = {
    "q of a wrong type": (ops.info_nce, {"q": [1.0]}, TypeError, "q: expected a tensor .*found list"),
    "integers": (ops.info_nce, {"k": torch.ones(3, 5, 8).int()}, TypeError, "k: expected a floating-point"),
    "q without batch": (ops.info_nce, {"q": torch.ones(8)}, ValueError, r"q: expected shape \(P, N, D\)"),
    "keys of another batch": (ops.info_nce, {"k": torch.ones(3, 4, 8)}, ValueError, "k: .*N=5.*found"),
    "bank of another width": (
        ops.info_nce,
        {"queue": torch.ones(3, 9, 7)},
        ValueError,
        "queue: .*D=8.*found",
    ),
    "empty bank": (ops.info_nce, {"queue": torch.ones(3, 0, 8)}, ValueError, "queue: "),
    "temperature": (ops.info_nce, {"temperature": 0.0}, ValueError, "temperature: .*positive.*found 0.0"),
    "reduction": (ops.info_nce, {"reduction": "sum"}, ValueError, "reduction: .*'mean', 'none'.*'sum'"),
    "impl": (ops.info_nce, {"impl": "fast"}, ValueError, "impl: .*'fast'"),
    "topk above the bank": (ops.cross_modal_contrast, {"topk": 12}, ValueError, "topk: .*1 … 11.*found 12"),
    "topk not whole": (ops.relational_distillation, {"topk": 1.0}, ValueError, "topk: .*found 1.0"),
    "one modality": (
        ops.cross_modal_contrast,
        {"q": torch.ones(1, 5, 8), "k": torch.ones(1, 5, 8), "queue": torch.ones(1, 11, 8)},
        ValueError,
        "at least two modalities",
    ),
    "exchange features of width D": (
        ops.implicit_exchange,
        {"z": torch.ones(3, 5, 8)},
        ValueError,
        "z: .*P·D=24.*found",
    ),
    "students of another width": (
        ops.relational_distillation,
        {"student": torch.ones(2, 5, 8)},
        ValueError,
        "student: .*P·D=24.*found",
    ),
    "no neighbours": (ops.nearest_neighbors, {"topk": 0}, ValueError, "topk: .*found 0"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_errors_name_the_argument(case):
    op, wrong, error, message = BAD_CALLS[case]
    arguments = draw(dtype=torch.float32)
    options = {}
    for name, value in wrong.items():
        (arguments if name in arguments else options)[name] = value
    positional = LOSSES.get(op.__name__, ("q", "queue"))
    if op is ops.nearest_neighbors:
        options.setdefault("topk", 1)
    with pytest.raises(error, match=message):
        op(*(arguments[name] for name in positional), **options)


@each_loss
def test_fused_refuses_float64(name):
    with pytest.raises(RuntimeError, match=r"'reference' are: .*float64"):
        call(name, draw(), impl="fused")


@pytest.mark.parametrize(
    ("hip", "capability", "problem"),
    [
        (None, (9, 0), None),
        (None, (8, 6), None),
        (None, (7, 5), "compute capability 8.0 or newer, and cuda:0 has 7.5"),
        ("6.4", (9, 4), "built for ROCm 6.4"),  # what an MI300 calls itself, which is no Hopper
    ],
)
def test_gpus_that_the_kernels_are_not_made_for_are_named(hip, capability, problem, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    support_on_gpu.cache_clear()
    support = support_on_gpu(torch.device("cuda", 0))
    support_on_gpu.cache_clear()
    assert bool(support) == (problem is None)
    assert problem is None or problem in support.problem
