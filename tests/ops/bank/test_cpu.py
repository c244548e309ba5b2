"""The compiled losses of CPU tensors: over tiles and parts of a bank, at their edges, for any strides."""

import functools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounterWithBackend

from ikem_fast import ops
from ikem_fast.ops._precision import compute_dtype
from tests import losses
from tests.helpers import needs_inductor, needs_kernel
from tests.losses import LOSSES, doubled, draw, each_loss, relative

ROOT = Path(__file__).resolve().parents[3]
pytestmark = needs_kernel


def gradient(name, arguments, impl="fused", **options):
    return losses.gradient(name, arguments, impl=impl, reduction="none", **options)


@each_loss
@pytest.mark.parametrize(
    ("N", "K", "D"),
    [
        (5, 5, 16),
        (5, 9, 16),
        (7, 37, 3),
        (3, 70, 33),
        (1, 600, 5),  # two tiles
        (131, 520, 8),  # two blocks of clips
        (6, 2070, 20),  # two parts of the bank
    ],
)
@pytest.mark.parametrize("options", [{}, {"topk": 3}, {"topk": 5, "context": False}], ids=str)
def test_sizes_that_divide_nothing(name, N, K, D, options):
    if options and name in ("info_nce", "implicit_exchange"):
        options = {"temperature": 0.01 * options["topk"]}
    arguments = draw(N=N, K=K, D=D)
    for mine, exact in zip(
        gradient(name, arguments, **options),
        gradient(name, doubled(arguments), "reference", **options),
        strict=True,
    ):
        assert relative(mine, exact) < 5e-6


@each_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_error_budget(name, dtype, monkeypatch):
    """No further from float64 than twice the plain formulation in the same dtype, plus one rounding."""
    draws = [{n: t.to(dtype) for n, t in draw(K=600).items()} for _ in range(10)]
    mine = [torch.stack(part) for part in zip(*(gradient(name, a) for a in draws), strict=True)]
    exact = [
        torch.stack(part)
        for part in zip(*(gradient(name, doubled(a), "reference") for a in draws), strict=True)
    ]
    assert compute_dtype(draws[0]["q"]) == torch.float32
    monkeypatch.setattr("ikem_fast.ops.bank.reference.compute_dtype", lambda *tensors: dtype)
    plain = [torch.stack(part) for part in zip(*(gradient(name, a, "reference") for a in draws), strict=True)]
    for part in range(2):
        budget = 2 * relative(plain[part], exact[part]) + torch.finfo(dtype).eps
        assert relative(mine[part], exact[part]) <= budget


@pytest.mark.parametrize("topk", [1, 12, 40, 700, 2500])
def test_nearest_keys_are_those_of_a_sort(topk):
    arguments = draw(K=2500)
    values, indices = ops.nearest_neighbors(arguments["q"], arguments["queue"], topk, impl="fused")
    similarities = F.normalize(arguments["q"], dim=-1) @ arguments["queue"].mT
    torch.testing.assert_close(values, similarities.topk(topk, -1).values)
    torch.testing.assert_close(values, similarities.gather(-1, indices))
    assert all(len(set(row.tolist())) == topk for row in indices.flatten(0, 1))


@pytest.mark.parametrize("copies", [400, 2000])
@pytest.mark.parametrize("topk", [1, 5, 300])
def test_of_equal_keys_the_first_is_nearest(topk, copies):
    queue = F.normalize(torch.randn(1, 3, 8), dim=-1).repeat(1, copies, 1)
    _, indices = ops.nearest_neighbors(torch.randn(1, 4, 8), queue, topk, impl="fused")
    assert torch.equal(indices, indices[..., :1] + torch.arange(0, 3 * topk, 3))


@pytest.mark.parametrize("topk", [1, 5, 30])
def test_keys_that_are_not_numbers_come_last(topk):
    queue = F.normalize(torch.randn(1, 2048, 8), dim=-1)
    queue[:, 3:] = torch.nan  # all but three
    values, indices = ops.nearest_neighbors(torch.randn(1, 4, 8), queue, topk, impl="fused")
    there = min(topk, 3)
    assert (indices[..., :there] < 3).all() and values[..., :there].isfinite().all()
    assert values[..., there:].isnan().all()


@each_loss
def test_a_bank_may_lie_in_memory_as_it_likes(name):
    """(D,K) as MoCo keeps it, every other number of a wider one, a slice: the same bits as a dense bank."""
    arguments = draw(K=600)
    dense = gradient(name, arguments)
    queue = arguments["queue"]
    wider = torch.full((3, 2 * 600, 2 * 16 + 3), torch.nan)
    wider[:, ::2, 1:33:2] = queue
    for strided in (queue.mT.contiguous().mT, wider[:, ::2, 1:33:2], queue.flip(0).flip(0)):
        found = gradient(name, arguments | {"queue": strided})
        assert all(torch.equal(a, b) for a, b in zip(dense, found, strict=True))


def test_a_transposed_bank_costs_no_multiple_of_a_dense_one():
    arguments = draw(P=2, N=64, K=8192, D=64)
    transposed = arguments | {"queue": arguments["queue"].mT.contiguous().mT}

    def seconds(arguments):
        begun = time.process_time()
        gradient("cross_modal_contrast", arguments)
        return time.process_time() - begun

    dense, strided = (min(seconds(a) for _ in range(3)) for a in (arguments, transposed))
    assert strided < 5 * dense  # it was 700 times


@each_loss
def test_backward_under_autocast_stays_in_full_precision(name):
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
    exact = gradient(name, doubled(arguments), "reference", temperature=0.1)[0]
    assert exact.max() < 2e-3
    assert relative(loss, exact) < 1e-4


@each_loss
def test_the_bank_may_change_before_the_backward_pass_or_the_change_is_refused(name):
    """Whatever the size: InfoNCE has its gradient by then; the others need the bank as it was."""
    for K in (8, 6000):
        arguments = draw(P=2, N=6, K=K)
        leaf = arguments[LOSSES[name][0]].requires_grad_()
        others = [arguments[argument] for argument in LOSSES[name][1:]]
        expected = torch.autograd.grad(getattr(ops, name)(leaf, *others).sum(), leaf)[0]
        loss = getattr(ops, name)(leaf, *others).sum()
        arguments["queue"].zero_()
        if name in ("info_nce", "implicit_exchange"):
            assert torch.equal(torch.autograd.grad(loss, leaf)[0], expected)
        else:
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                loss.backward()


INSTRUCTION_SETS = """
import sys, torch
sys.path.insert(0, {root!r})
from tests.losses import LOSSES, doubled, draw, gradient, relative
torch.manual_seed(0)
arguments = draw(N=9, K=700, D=37)
for name in LOSSES:
    found = gradient(name, arguments, impl="fused")
    exact = gradient(name, doubled(arguments), impl="reference")
    assert all(relative(a, b) < 5e-6 for a, b in zip(found, exact, strict=True)), name
"""


SETS = ("default", "avx2", "avx512")


@pytest.mark.parametrize("instructions", SETS)
def test_every_instruction_set_that_is_here(instructions):
    """Each has products of its own."""
    here = torch.backends.cpu.get_cpu_capability().lower()
    if here not in SETS or SETS.index(instructions) > SETS.index(here):
        pytest.skip(f"this processor has {here}, not {instructions}")
    environment = os.environ | {"ATEN_CPU_CAPABILITY": instructions}
    command = [sys.executable, "-c", INSTRUCTION_SETS.format(root=str(ROOT))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@each_loss
def test_the_same_bits_for_any_number_of_threads(name):
    arguments = draw(N=150, K=2100)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(gradient(name, arguments))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@needs_inductor
@each_loss
def test_compiles_whole_and_once(name):
    """By torch's default compiler; fullgraph, forward and backward; one graph serves every batch."""
    torch._dynamo.reset()
    backend = CompileCounterWithBackend("inductor")
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
def test_passes_opcheck(name):
    """Schema, fake and registration of the operators behind the losses."""
    a, namespace = draw(N=4, K=9), torch.ops.ikem_fast
    wide = name in ("implicit_exchange", "relational_distillation")
    if name in ("info_nce", "implicit_exchange"):
        x = a[LOSSES[name][0]]
        for with_direction in (True, False):
            torch.library.opcheck(namespace.attention, (x, a["k"], a["queue"], 0.1, wide, with_direction))
        return
    arguments = [a[argument] for argument in LOSSES[name]]
    options = (0.1, wide, 2, True)
    torch.library.opcheck(namespace.relations, (*arguments, *options))
    loss, *saved = namespace.relations(*arguments, *options)
    torch.library.opcheck(namespace.relations_backward, (torch.ones_like(loss), *arguments, *saved, *options))
    torch.library.opcheck(namespace.nearest, (a["q"], a["queue"], 2))


@each_loss
def test_same_bits_every_run_in_deterministic_mode(name):
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


def test_a_bank_with_a_key_that_is_no_number_gives_a_loss_that_is_none():
    arguments = draw()
    arguments["queue"][:, 3] = torch.nan
    for name in LOSSES:
        assert gradient(name, arguments)[0].isnan().all(), name


MEMORY = """
import resource, torch
from ikem_fast import ops
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
q, z = torch.randn(6, 128, 128, requires_grad=True), torch.randn(6, 128, 768, requires_grad=True)
queue = torch.randn(6, 32768, 128) / 128**0.5
ops.info_nce(q[:, :1], q[:, :1], queue[:, :8]).sum().backward()
before = peak()
(ops.cross_modal_contrast(q, q, queue).sum() + ops.implicit_exchange(z, q, queue).sum()).backward()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of a process from Linux")
def test_memory_at_the_size_of_the_method():
    """Cross and exchange, forward and backward: at most 64 MiB above the inputs; written out, 3 GB."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) <= 64 << 10
