"""The Triton kernels on a GPU: what the interpreter cannot show."""

import functools

import pytest
import torch
import torch.nn.functional as F

from ikem_fast import ops
from ikem_fast.ops.bank import reference
from tests import losses
from tests.losses import LOSSES, doubled, each_loss, relative

pytest.importorskip("triton")
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

draw = functools.partial(losses.draw, P=6, N=128, K=4096, D=128, S=3, dtype=torch.bfloat16, device="cuda")
gradient = functools.partial(losses.gradient, impl="fused", reduction="none")


@each_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("size", [{}, {"P": 3, "N": 7, "K": 1001, "D": 100}, {"N": 1, "K": 1}], ids=str)
def test_error_budget(name, dtype, size, monkeypatch):
    """No further from float64 than twice the plain formulation in the same dtype, plus roundings: one of 16
    bits, 16 of float32, which is multiplied in parts.
    """
    arguments = draw(dtype=dtype, **size)
    fused = gradient(name, arguments)
    exact = gradient(name, doubled(arguments), impl="reference")
    monkeypatch.setattr(reference, "compute_dtype", lambda *tensors: dtype)
    plain = gradient(name, arguments, impl="reference")
    for part in range(2):
        roundings = 16 if dtype == torch.float32 else 1
        budget = 2 * relative(plain[part], exact[part]) + roundings * torch.finfo(dtype).eps
        assert relative(fused[part], exact[part]) <= budget


@each_loss
def test_same_bits_every_run(name):
    arguments = draw(K=32768)
    first = gradient(name, arguments)
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(first, gradient(name, arguments), strict=True))


@each_loss
def test_graph_replays_with_a_changing_bank(name):
    arguments = draw(N=32)
    learned, *others = LOSSES[name]
    leaf = arguments[learned].clone().requires_grad_()

    def step():
        loss = getattr(ops, name)(leaf, *(arguments[other] for other in others), impl="fused")
        return loss, torch.autograd.grad(loss.sum(), leaf)[0]

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    for _ in range(2):
        arguments["queue"].copy_(F.normalize(torch.randn_like(arguments["queue"]), dim=-1))
        graph.replay()
        assert all(torch.equal(a, b) for a, b in zip(captured, step(), strict=True))


@each_loss
def test_compiles_whole(name):
    compiled = torch.compile(getattr(ops, name), fullgraph=True, dynamic=True)
    for N in (48, 56):
        arguments = draw(N=N)
        leaves = [arguments[LOSSES[name][0]].clone().requires_grad_() for _ in range(2)]
        for op, leaf in zip((compiled, getattr(ops, name)), leaves, strict=True):
            op(leaf, *(arguments[other] for other in LOSSES[name][1:])).sum().backward()
        torch.testing.assert_close(leaves[0].grad, leaves[1].grad)


@each_loss
def test_auto_is_fused(name):
    arguments = draw(N=16)
    assert all(
        torch.equal(a, b)
        for a, b in zip(gradient(name, arguments, impl="auto"), gradient(name, arguments), strict=True)
    )


@each_loss
def test_memory_beyond_the_inputs(name):
    """The N×K similarities of all pairs would be half a gigabyte of float32."""
    arguments = draw(K=32768)
    gradient(name, arguments)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    gradient(name, arguments)
    assert torch.cuda.max_memory_allocated() - before < 160e6


@pytest.mark.parametrize("topk", [1, 16])
def test_nearest_neighbors(topk):
    arguments = draw(K=32768, dtype=torch.float32)
    values, indices = ops.nearest_neighbors(arguments["q"], arguments["queue"], topk, impl="fused")
    similarities = F.normalize(arguments["q"].double(), dim=-1) @ arguments["queue"].double().mT
    torch.testing.assert_close(values.double(), similarities.topk(topk, -1).values, rtol=0, atol=2e-6)
    torch.testing.assert_close(similarities.gather(-1, indices), values.double(), rtol=0, atol=2e-6)


def test_offsets_beyond_32_bits():
    """A bank of more than 2³¹ numbers."""
    if torch.cuda.mem_get_info()[0] < 20 << 30:
        pytest.skip("needs 20 GiB of GPU memory")
    K = (1 << 30) // 128 + 64
    queue = torch.zeros(2, K, 128, dtype=torch.bfloat16, device="cuda")
    queue[:, -1, 0] = 1
    q = torch.zeros(2, 4, 128, dtype=torch.bfloat16, device="cuda")
    q[..., 0] = 1
    _, indices = ops.nearest_neighbors(q, queue, 1, impl="fused")
    assert (indices == K - 1).all()
    loss = ops.info_nce(q, q, queue, temperature=0.1, impl="fused")
    expected = torch.log(1 + torch.tensor(1.0) + (K - 1) * torch.exp(torch.tensor(-10.0)))
    torch.testing.assert_close(loss.cpu(), expected.expand(2), rtol=1e-3, atol=1e-3)
