"""The encoder's Triton kernels under Triton's interpreter, against plain torch in float64: run by
`test_triton_blocks.py` in a process of its own."""

import copy
import os

import pytest
import torch
from torch import nn

from ikem_fast.nn import STGCN
from ikem_fast.nn.encoders.stgcn import Block
from ikem_fast.ops.encoder.triton import Graph, fused_block
from tests import interpreter  # noqa: F401, quickens it

assert os.environ.get("TRITON_INTERPRET") == "1", "run through test_triton_blocks.py"


@pytest.fixture(autouse=True)
def poisoned():
    """Deterministic mode fills what `torch.empty` returns with NaN: nothing may go unwritten."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def adjacency(strategy="spatial"):
    return STGCN(hidden_channels=4, hidden_dim=4, strategy=strategy).A


def made(given, channels, partitions=3, **settings):
    """A block with normalizations away from the initial ones, which hide what is left out."""
    torch.manual_seed(0)
    block = Block(given, channels, partitions, **{"stride": 1, "dropout": 0.0, "residual": True} | settings)
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
    return block


def outcome(way, block, graph, x, dtype):
    """The output, all gradients and all buffers of a block, in float64; "plain" and "fused" in dtype."""
    block, exact = copy.deepcopy(block), way == "exact"
    if exact:
        block, dtype = block.double(), torch.float64
    wide = torch.float64 if exact else torch.float32
    importance = torch.linspace(0.5, 1.5, graph.numel(), dtype=wide).view(graph.shape).requires_grad_()
    A, x = graph.to(wide) * importance, x.to(dtype, copy=True).requires_grad_()
    if way == "fused":
        y = fused_block(block, x, A, Graph.of(graph))
    else:
        low = dtype in (torch.bfloat16, torch.float16)
        with torch.autocast("cpu", dtype if low else None, enabled=low):
            y = block(x.permute(0, 3, 1, 2), A).permute(0, 2, 3, 1)
    assert way != "fused" or y.dtype == dtype
    generator = torch.Generator().manual_seed(1)
    y.backward(torch.randn(y.shape, generator=generator).to(y.dtype))
    found = {"y": y, "x": x.grad, "importance": importance.grad}
    found |= {name: parameter.grad for name, parameter in block.named_parameters()}
    return {name: value.detach().double() for name, value in (found | dict(block.named_buffers())).items()}


def errors(got, exact):
    """Relative ones by name; what is zero in exact arithmetic is rounding, and left out."""
    return {
        name: ((got[name] - value).norm() / value.norm()).item()
        for name, value in exact.items()
        if value.abs().max() > 1e-9
    }


BLOCKS = {
    "first": ((3, 16), {"residual": False}, (2, 6)),
    "usual": ((16, 16), {}, (2, 6)),
    "wider": ((16, 32), {"stride": 2}, (1, 7)),
    "odd": ((5, 7), {"stride": 2}, (2, 4)),
    "of one frame": ((5, 5), {}, (1, 1)),
    "for torch": ((20, 70), {"stride": 2}, (1, 5)),
}


@pytest.mark.parametrize(
    ("name", "training"), [(name, True) for name in BLOCKS] + [("wider", False), ("for torch", False)]
)
def test_float32_is_off_float64_by_no_more_than_plain_torch(name, training):
    """Of every kind of block: of several tiles and of part of one, of several records of the weights."""
    channels, settings, (clips, frames) = BLOCKS[name]
    block = made(*channels, **settings).train(training)
    x = torch.randn(clips, frames, 25, channels[0])
    exact, plain, fused = (
        outcome(way, block, adjacency(), x, torch.float32) for way in ("exact", "plain", "fused")
    )
    theirs = errors(plain, exact)
    for part, off in errors(fused, exact).items():
        assert off <= 2 * theirs[part] + 1e-6, part


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "half"])
def test_low_precision_is_off_float64_by_no_more_than_plain_torch(dtype):
    """By no more than twice what plain torch is, plus one rounding; in bfloat16 by no more than four times.

    There the interpreter cuts off what a GPU rounds, which is twice as far off and all to one side.
    """
    times = 4 if dtype == torch.bfloat16 else 2
    block, x = made(16, 32, stride=2), torch.randn(2, 8, 25, 16).to(dtype)
    exact, plain, fused = (outcome(way, block, adjacency(), x, dtype) for way in ("exact", "plain", "fused"))
    theirs = errors(plain, exact)
    for part, off in errors(fused, exact).items():
        assert off <= times * theirs[part] + torch.finfo(dtype).eps, part


def test_partitions_by_distance():
    graph = adjacency("distance")
    block, x = made(4, 4, partitions=len(graph)), torch.randn(1, 3, 25, 4)
    exact, fused = (outcome(way, block, graph, x, torch.float32) for way in ("exact", "fused"))
    assert max(errors(fused, exact).values()) < 1e-5


def test_dropout_keeps_the_mean_and_masks_the_gradient():
    p = 0.25
    block, graph = Block(16, 16, 3, stride=1, dropout=p, residual=False), adjacency()
    nn.init.constant_(block.tcn[3].weight, 0.0)  # leaves 1 in each place ahead of the dropout
    nn.init.constant_(block.tcn[3].bias, 1.0)
    x, masks = torch.randn(1, 20, 25, 16), []
    for seed in (6, 5 << 32, 5, 5):
        y = fused_block(block, x, graph, Graph.of(graph), torch.tensor(seed))
        masks.append(y > 0)
        torch.testing.assert_close(y[masks[-1]], torch.full_like(y[masks[-1]], 1 / (1 - p)))
    y.sum().backward()
    torch.testing.assert_close(block.tcn[3].bias.grad, y.detach().sum((0, 1, 2)), rtol=1e-4, atol=0)
    *others, first, again = masks
    assert torch.equal(first, again)
    assert abs(first.float().mean().item() - (1 - p)) < 0.025
    independent = p * p + (1 - p) ** 2
    for other in (*others, first.roll(1, 1), first.roll(1, 2), first.roll(1, 3)):
        assert abs((first == other).float().mean().item() - independent) < 0.03


def test_a_whole_encoder_takes_them():
    """What is on both sides of the blocks, under autocast; with dropout and gradients where it trains."""
    torch.manual_seed(0)
    net, x = STGCN(hidden_channels=4, hidden_dim=8, num_classes=5, impl="fused"), torch.randn(1, 3, 4, 25, 1)
    with torch.autocast("cpu", torch.bfloat16):
        net(x)[1].float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in net.st_gcn_networks.parameters())
    assert net.edge_importance[0].grad.abs().max() > 0


def test_a_loaded_graph_is_the_one_that_counts():
    """And a whole encoder gives what plain torch gives."""
    net = STGCN(hidden_channels=4, hidden_dim=8, impl="fused").eval()
    x = torch.randn(1, 3, 2, 25, 1)
    with torch.no_grad():
        before = net(x)[1]
        net.load_state_dict(STGCN(hidden_channels=4, hidden_dim=8, strategy="distance").state_dict())
        fused = net(x)[1]
        net.impl = "reference"
        torch.testing.assert_close(fused, net(x)[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before, fused)


def test_what_the_kernels_cannot_do_is_said():
    net, x = STGCN(hidden_channels=4, hidden_dim=8, impl="fused"), torch.randn(1, 3, 2, 25, 1)
    net.st_gcn_networks[4].residual[1].momentum = None
    with pytest.raises(RuntimeError, match="momentum"):
        net(x)


def test_second_derivatives_are_refused():
    block, graph = made(4, 4), adjacency()
    x = torch.randn(1, 2, 25, 4, requires_grad=True)
    y = fused_block(block, x, graph, Graph.of(graph))
    (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="impl='reference'"):
        torch.autograd.grad(gradient.sum(), block.tcn[2].weight)
