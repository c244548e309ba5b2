"""The encoder's Triton kernels on a GPU: what the interpreter cannot show."""

import copy

import pytest
import torch

from ikem_fast.nn import STGCN
from ikem_fast.nn.encoders.stgcn import encode_together

pytest.importorskip("triton")
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


def outcome(net, impl, x, dtype=torch.float32):
    """The feature and all gradients in the parameters, in float64, under autocast to dtype."""
    net = copy.deepcopy(net)
    net.impl = impl
    if dtype == torch.float64:
        net, x = net.double(), x.double()
    low = dtype in (torch.bfloat16, torch.float16)
    with torch.autocast("cuda", dtype if low else None, enabled=low):
        feature = net(x)[1]
    feature.double().square().sum().backward()
    gradient = torch.cat([p.grad.double().flatten() for p in net.st_gcn_networks.parameters()])
    return feature.double(), gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_off_float64_by_no_more_than_plain_torch(dtype, training):
    torch.manual_seed(0)
    net = STGCN(dropout=0.0).cuda().train(training)
    x = torch.randn(16, 3, 50, 25, 2, device="cuda")
    exact = outcome(net, "reference", x, torch.float64)
    plain, fused = (outcome(net, impl, x, dtype) for impl in ("reference", "fused"))
    for mine, theirs, true in zip(fused, plain, exact, strict=True):
        assert (mine - true).norm() <= 2 * (theirs - true).norm() + 1e-5 * true.norm()


def test_same_bits_every_run():
    net, x = STGCN(dropout=0.0).cuda(), torch.randn(32, 3, 50, 25, 2, device="cuda")
    first = outcome(net, "fused", x, torch.bfloat16)
    for _ in range(3):
        assert all(
            torch.equal(*pair) for pair in zip(first, outcome(net, "fused", x, torch.bfloat16), strict=True)
        )


def test_encoders_together_give_what_each_gives_alone():
    nets = [STGCN(dropout=0.0, impl="fused").cuda() for _ in range(3)]
    clips = torch.randn(3, 8, 3, 50, 25, 2, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        alone = [net(x)[1] for net, x in zip(copy.deepcopy(nets), clips, strict=True)]
        together = encode_together(nets, clips)
    for (_, mine), theirs in zip(together, alone, strict=True):
        assert torch.equal(mine, theirs)


def test_each_replay_of_a_captured_encoder_drops_others():
    net, x = STGCN(impl="fused").cuda(), torch.randn(4, 3, 50, 25, 2, device="cuda")
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            net(x)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            feature = net(x)[1]
    features = []
    for _ in range(3):
        graph.replay()
        features.append(feature.clone())
    assert not torch.equal(features[0], features[1]) and not torch.equal(features[1], features[2])
