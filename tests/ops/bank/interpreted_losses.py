"""The Triton kernels under Triton's interpreter, against float64: run by `test_triton.py` in a process of
its own, since the interpreter is chosen when Triton is first imported."""

import functools
import os

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounterWithBackend

from ikem_fast import ops
from ikem_fast.ops.bank import reference
from tests import interpreter, losses
from tests.losses import LOSSES, RELATIONAL, doubled, each_loss, relative

assert os.environ.get("TRITON_INTERPRET") == "1", "run through test_triton.py"

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def poisoned():
    """Deterministic mode fills what `torch.empty` returns with NaN: nothing may go unwritten."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


draw = functools.partial(losses.draw, D=20)
gradient = functools.partial(losses.gradient, impl="fused", reduction="none")


def errors(name, arguments, **options):
    """Relative errors of the fused loss and gradient, against float64."""
    loss, grad = gradient(name, arguments, **options)
    exact, exact_grad = gradient(name, doubled(arguments), impl="reference", **options)
    assert loss.dtype == torch.float32
    assert grad.dtype == arguments[LOSSES[name][0]].dtype
    assert loss.isfinite().all() and grad.isfinite().all()
    return relative(loss, exact), relative(grad, exact_grad)


@each_loss
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_error_budget(name, dtype, monkeypatch, capsys):
    """No further from float64 than twice the plain formulation in the same dtype, plus one rounding."""
    arguments = draw(N=16, dtype=dtype)
    fused = gradient(name, arguments)
    exact = gradient(name, doubled(arguments), impl="reference")
    with monkeypatch.context() as patched:
        patched.setattr(reference, "compute_dtype", lambda *tensors: dtype)
        plain = gradient(name, arguments, impl="reference")
    for part, *values in zip(("loss", "gradient"), fused, plain, exact, strict=True):
        mine, theirs = (relative(value, values[-1]) for value in values[:2])
        budget = 2 * theirs + torch.finfo(dtype).eps
        with capsys.disabled():
            figures = f"fused {mine:8.1e}  plain {theirs:8.1e}  budget {budget:8.1e}"
            print(f"\n{name:24s} {dtype!s:15s} {part:9s} {figures}", end="")
        assert mine <= budget


SIZES = {
    "one of everything": {"P": 2, "N": 1, "K": 1, "D": 1, "S": 1},
    "two groups of clips, three chunks of keys": {"P": 2, "N": 17, "K": 130, "D": 16, "S": 2},
    "odd P": {"P": 5, "N": 2, "K": 9, "D": 3, "S": 3},
    "most modalities": {"P": 8, "N": 1, "K": 20, "D": 4, "S": 1},
    "widest features": {"P": 2, "N": 2, "K": 18, "D": 256, "S": 1},
}


@each_loss
@pytest.mark.parametrize("size", SIZES)
def test_sizes(name, size):
    arguments = draw(**SIZES[size])
    loss, grad = gradient(name, arguments, temperature=0.2)
    exact, exact_grad = gradient(name, doubled(arguments), impl="reference", temperature=0.2)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grad.double(), exact_grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", RELATIONAL)
@pytest.mark.parametrize(("topk", "context"), [(3, True), (2, False), (16, True)])
def test_neighbours_and_context(name, topk, context):
    assert max(errors(name, draw(N=2, K=20), topk=topk, context=context)) < 1e-5


def test_students_of_one_modality_share_its_bank():
    assert max(errors("relational_distillation", draw(P=1, N=2, K=9, D=4, S=3))) < 1e-5


@each_loss
@pytest.mark.parametrize("temperature", [0.01, 1.0])
@pytest.mark.parametrize("alignment", [-1, 1])
def test_temperatures(name, temperature, alignment):
    """Features opposite to, and equal to, every key of the bank: the ends of the range of exponents."""
    key = F.normalize(torch.randn(2, 1, 8), dim=-1)
    row = alignment * torch.cat(list(key), -1).expand(2, 2, 16)
    arguments = {
        "q": alignment * key.expand(2, 2, 8),
        "teacher": alignment * key.expand(2, 2, 8),
        "k": -alignment * key.expand(2, 2, 8),
        "queue": key.expand(2, 40, 8).contiguous(),
        "z": row,
        "student": row,
    }
    loss, grad = gradient(name, arguments, temperature=temperature)
    exact, exact_grad = gradient(name, doubled(arguments), impl="reference", temperature=temperature)
    torch.testing.assert_close(loss.double(), exact, rtol=2e-5, atol=1e-5)
    torch.testing.assert_close(grad.double(), exact_grad, rtol=1e-3, atol=1e-4)


@each_loss
def test_bank_of_another_dtype(name):
    arguments = draw(N=2, K=20)
    mixed = {n: t if n == "queue" else t.half() for n, t in arguments.items()}
    assert max(errors(name, mixed)) < 8 * torch.finfo(torch.float16).eps
    arguments["queue"] = arguments["queue"].bfloat16()
    assert max(errors(name, arguments)) < 1e-5


@each_loss
def test_strides_and_repetition(name):
    """A bank that is part of a larger one, features in another order, the same bits from every run."""
    arguments = draw(N=2, K=20)
    plain = gradient(name, arguments)
    again = gradient(name, arguments)
    larger = torch.full((3, 30, 24), torch.nan)
    larger[:, :20, :20] = arguments["queue"]
    strided = {n: t.transpose(0, 1).contiguous().transpose(0, 1) for n, t in arguments.items()}
    sliced = gradient(name, strided | {"queue": larger[:, :20, :20]})
    columns = gradient(name, arguments | {"queue": arguments["queue"].mT.contiguous().mT})
    for first, *others in zip(plain, again, sliced, columns, strict=True):
        assert all(torch.equal(first, other) for other in others)


@each_loss
def test_offsets_beyond_32_bits(name):
    """Banks that lie more than 2³¹ numbers apart (address space that is never touched costs nothing)."""
    arguments = draw(P=2, N=2, K=18, D=16, dtype=torch.float16)
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        far = torch.empty(2**31 + 1024, dtype=torch.float16).as_strided((2, 18, 16), (2**31 + 64, 16, 1))
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = True
    far.copy_(arguments["queue"])
    near = gradient(name, arguments)
    with interpreter.overflow_checked():
        distant = gradient(name, arguments | {"queue": far})
    assert all(map(torch.equal, near, distant))


@each_loss
def test_expanded_gradient(name):
    arguments = draw(N=2, K=20)
    learned, *others = LOSSES[name]
    grads = []
    for weights in (1, torch.ones(arguments[learned].shape[:2])):
        leaf = arguments[learned].clone().requires_grad_()
        loss = getattr(ops, name)(leaf, *(arguments[o] for o in others), reduction="none", impl="fused")
        (loss * weights).sum().backward()
        grads.append(leaf.grad)
    assert torch.equal(*grads)


@each_loss
def test_without_gradient(name):
    arguments = draw(N=2, K=20)
    with torch.no_grad():
        loss = getattr(ops, name)(*(arguments[a] for a in LOSSES[name]), reduction="none", impl="fused")
    torch.testing.assert_close(loss, gradient(name, arguments)[0], rtol=1e-6, atol=1e-6)
    assert not loss.requires_grad


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("topk", [1, 5, 16])
def test_nearest_neighbors(dtype, topk):
    arguments = draw(P=2, N=3, K=70, dtype=dtype)
    values, indices = ops.nearest_neighbors(arguments["q"], arguments["queue"], topk, impl="fused")
    similarities = F.normalize(arguments["q"].double(), dim=-1) @ arguments["queue"].double().mT
    expected = similarities.topk(topk, -1)
    tolerance = 2 * torch.finfo(dtype).eps
    assert (values - expected.values).abs().max() <= tolerance
    assert (similarities.gather(-1, indices) - expected.values).abs().max() <= 2 * tolerance
    assert all(len(set(row.tolist())) == topk for row in indices.flatten(0, 1))


def test_equal_keys_are_taken_in_order():
    """Within a tile, across tiles and chunks, and where a better key comes after several equal ones."""
    queue = torch.full((1, 150, 8), 8**-0.5)
    _, indices = ops.nearest_neighbors(torch.ones(1, 2, 8), queue, 4, impl="fused")
    assert indices.tolist() == [[[0, 1, 2, 3]] * 2]
    queue[:, 140] *= 1.01
    queue[:, 7] *= 0.5
    _, indices = ops.nearest_neighbors(torch.ones(1, 1, 8), queue, 9, impl="fused")
    assert indices.tolist() == [[[140, 0, 1, 2, 3, 4, 5, 6, 8]]]


@pytest.mark.parametrize("stem", ["pretrain_odd", "student_odd"])
def test_golden_rows(shared, stem):
    """The odd sizes; `golden_check.py --impl fused` under the interpreter runs all of them."""
    import numpy as np

    golden = {k: torch.from_numpy(np.array(v)) for k, v in np.load(shared / "golden" / f"{stem}.npz").items()}
    options = {"temperature": float(golden["temperature"]), "impl": "fused"}
    mining = options | {"topk": int(golden["topk"])}
    rows = {
        "pretrain_odd": [
            ("info_nce", "q", "k", "info_nce", options),
            ("cross_modal_contrast", "q", "k", "cross_modal", mining),
            ("implicit_exchange", "z", "k", "implicit_exchange", options),
        ],
        "student_odd": [("relational_distillation", "student", "teacher", "relational", mining)],
    }
    for op, learned, other, row, arguments in rows[stem]:
        leaf = golden[learned].clone().requires_grad_()
        loss = getattr(ops, op)(leaf, golden[other], golden["queue"], **arguments)
        loss.sum().backward()
        for value, expected, tolerance in (
            (loss, golden[row], 1e-5),
            (leaf.grad, golden[f"grad_{row}_{learned}"], 1e-4),
        ):
            assert (value - expected).abs().max() <= tolerance * expected.abs().max(), row


def test_opcheck():
    a = draw(P=2, N=2, K=10, D=4, S=1)
    namespace = torch.ops.ikem_fast
    for wide, x, gradient_too in ((False, a["q"], True), (True, a["z"], False)):
        torch.library.opcheck(namespace.attention, (x, a["k"], a["queue"], 0.1, wide, gradient_too))
    for wide, x, y in ((False, a["q"], a["k"]), (True, a["student"], a["teacher"])):
        arguments, options = (x, y, a["queue"]), (0.1, wide, 2, True)
        torch.library.opcheck(namespace.relations, (*arguments, *options))
        saved = namespace.relations(*arguments, *options)[1:]
        grad = torch.rand(x.shape[:2])
        torch.library.opcheck(namespace.relations_backward, (grad, *arguments, *saved, *options))
    torch.library.opcheck(namespace.nearest, (a["q"], a["queue"], 2))


@pytest.mark.parametrize("name", ["implicit_exchange", "relational_distillation"])  # one of each operator
def test_compiles_whole_and_once(name):
    """fullgraph, forward and backward, dynamic batch size; one graph serves every batch."""
    torch._dynamo.reset()
    backend = CompileCounterWithBackend("aot_eager")
    loss_of = functools.partial(getattr(ops, name), impl="fused")
    compiled = torch.compile(loss_of, fullgraph=True, dynamic=True, backend=backend)
    compilations = []
    for N in (5, 4):  # other numbers than the other sizes, which the compiler would take for the same
        arguments = draw(N=N, K=7)
        learned, *others = LOSSES[name]
        leaf = arguments[learned].clone().requires_grad_()
        compiled(leaf, *(arguments[other] for other in others)).sum().backward()
        expected = arguments[learned].clone().requires_grad_()
        loss_of(expected, *(arguments[other] for other in others)).sum().backward()
        torch.testing.assert_close(leaf.grad, expected.grad)
        compilations.append(backend.frame_count)
    assert len(set(compilations)) == 1


def test_limits_are_named():
    arguments = draw(N=1, K=20)
    with pytest.raises(RuntimeError, match="up to 16 nearest keys and topk is 17"):
        ops.nearest_neighbors(arguments["q"], arguments["queue"], 17, impl="fused")
    with pytest.raises(RuntimeError, match="up to 256 numbers"):
        ops.info_nce(*(torch.ones(1, 1, 257) for _ in range(3)), impl="fused")
    with pytest.raises(RuntimeError, match="up to 8 modalities"):
        ops.info_nce(*(torch.ones(9, 1, 4) for _ in range(3)), impl="fused")


@pytest.mark.parametrize("K", [9, 150])
@pytest.mark.parametrize("with_mean", [True, False])
def test_attention_to_the_bank_alone(K, with_mean):
    """The operator behind `ops.contrast`: rows and banks that are not of unit length."""
    x, queue = 2 * torch.randn(2, 5, 20), torch.randn(2, 20, K).mT
    limits = torch.randn(2, 5)
    partition, mean, above = torch.ops.ikem_fast.softmax(x, queue, limits, with_mean)
    s = x.double() @ queue.double().mT
    torch.testing.assert_close(partition.double(), s.logsumexp(-1), rtol=1e-5, atol=1e-5)
    assert torch.equal(above, (s > limits.unsqueeze(-1)).sum(-1))
    if with_mean:
        torch.testing.assert_close(mean.double(), s.softmax(-1) @ queue.double(), rtol=1e-4, atol=1e-5)
    else:
        assert mean.numel() == 0


def test_losses_of_other_codebases():
    q, k, teacher = torch.randn(3, 1, 5, 20)
    queue = F.normalize(torch.randn(1, 20, 40), dim=1)
    calls = {
        "moco_loss": lambda q, k, **o: ops.moco_loss(q, k, queue.to(q.dtype), 0.2, **o),
        "soft_contrast": lambda q, k, **o: ops.soft_contrast(
            q, teacher.to(q.dtype), k, queue.to(q.dtype), 0.2, 0.1, **o
        ),
        "multi_positive_nce": lambda q, k, **o: ops.multi_positive_nce(
            q, k, queue.to(q.dtype), torch.arange(10).view(1, 5, 2), 0.2, **o
        ),
    }
    for call in calls.values():
        found = []
        for impl, dtype in (("fused", torch.float32), ("reference", torch.float64)):
            leaves = [x.to(dtype).requires_grad_() for x in (q, k)]
            loss = call(*leaves, reduction="none", impl=impl)
            found.append([loss.detach(), *torch.autograd.grad(loss.sum(), leaves)])
        for mine, exact in zip(*found, strict=True):
            assert relative(mine, exact) < 1e-5
