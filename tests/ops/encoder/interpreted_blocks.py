"""The encoder's Triton kernels under Triton's interpreter, against plain torch in float64: run by
`test_triton_blocks.py` in a process of its own."""

import copy
import os

import pytest
import torch
from torch import nn

from ikem_fast.nn import STGCN
from ikem_fast.nn.encoders import stgcn
from ikem_fast.nn.encoders.stgcn import Block
from ikem_fast.ops.encoder.support import support_together
from ikem_fast.ops.encoder.triton import fused_blocks
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


def fused_block(block, x, A):
    """Of one encoder."""
    return fused_blocks([[block]], x[None], [A[None]]).squeeze(0)


def outcome(way, block, graph, x, dtype):
    """The output, all gradients and all buffers of a block, in float64; "plain" and "fused" in dtype."""
    block, exact = copy.deepcopy(block), way == "exact"
    if exact:
        block, dtype = block.double(), torch.float64
    wide = torch.float64 if exact else torch.float32
    importance = torch.linspace(0.5, 1.5, graph.numel(), dtype=wide).view(graph.shape).requires_grad_()
    A, x = graph.to(wide) * importance, x.to(dtype, copy=True).requires_grad_()
    if way == "fused":
        y = fused_block(block, x, A)
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


def test_dropout_keeps_the_mean_and_masks_the_gradient(monkeypatch):
    p = 0.25
    block, graph = Block(16, 16, 3, stride=1, dropout=p, residual=False), adjacency()
    nn.init.constant_(block.tcn[3].weight, 0.0)  # leaves 1 in each place ahead of the dropout
    nn.init.constant_(block.tcn[3].bias, 1.0)
    x, masks = torch.randn(1, 20, 25, 16), []
    for seed in (6, 5 << 32, 5, 5):
        monkeypatch.setattr(torch, "randint", lambda *_, seed=seed, **__: torch.tensor([[seed]]))
        y = fused_block(block, x, graph)
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


def two(**settings):
    """Two encoders of one form and other numbers, ready to train."""
    torch.manual_seed(0)
    sizes = {"hidden_channels": 4, "hidden_dim": 8, "num_classes": 5, "dropout": 0.0, "impl": "fused"}
    nets = [STGCN(**sizes | settings) for _ in range(2)]
    for net in nets:
        for name, importance in net.named_parameters():
            if name.startswith("edge_importance"):
                nn.init.uniform_(importance, 0.5, 1.5)
    return nets


@pytest.mark.parametrize("name", ["wider", "for torch"])
def test_blocks_of_several_encoders_give_what_each_gives_alone(name):
    """In the same launches, of other numbers, graphs among them; but for the order of sums."""
    channels, settings, (clips, frames) = BLOCKS[name]
    blocks = [made(*channels, **settings), made(*channels, **settings)]
    nn.init.normal_(blocks[1].tcn[2].weight, std=0.1)
    x, A = torch.randn(2, clips, frames, 25, channels[0]), adjacency() * torch.rand(2, 3, 25, 25)
    results = []
    for some in ([0, 1], [0], [1]):
        own, given, graphs = copy.deepcopy(blocks), x[some].requires_grad_(), A[some].requires_grad_()
        y = fused_blocks([[own[number]] for number in some], given, [graphs])
        y.square().sum().backward()
        of_each = [(*own[number].parameters(), *own[number].buffers()) for number in some]
        of_each = [[t.float() if t.grad is None else t.grad for t in tensors] for tensors in of_each]
        results += [
            [one, *grads, *others]
            for one, *grads, others in zip(y.detach(), given.grad, graphs.grad, of_each, strict=True)
        ]
    first, second, *alone = results
    for together, by_itself in zip((first, second), alone, strict=True):
        for mine, theirs in zip(together, by_itself, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "meanmax"])
@pytest.mark.parametrize("weighted", [True, False])
def test_encoders_of_one_form_are_computed_together(pooling, weighted, monkeypatch):
    """What is on both sides of the blocks, which are plain torch here."""
    nets = two(pooling=pooling, edge_importance_weighting=weighted)
    clips, together = torch.randn(2, 2, 3, 4, 25, 2), []

    def plain(encoders, x, graphs):
        assert x.is_contiguous()
        together.append(len(encoders))
        x = list(x.permute(0, 1, 4, 2, 3))
        for place, A in enumerate(graphs):
            x = [blocks[place](one, own) for blocks, one, own in zip(encoders, x, A, strict=True)]
        return torch.stack([one.permute(0, 2, 3, 1) for one in x])

    monkeypatch.setattr(stgcn, "fused_together", plain)
    alone = copy.deepcopy(nets)
    for net in alone:
        net.impl = "reference"
    pairs = stgcn.encode_together(nets, clips), [net(x) for net, x in zip(alone, clips, strict=True)]
    for one, of in zip(pairs, (nets, alone), strict=True):
        sum(output.sum() + feature.square().sum() for output, feature in one).backward()
        one += [(p.grad for p in net.parameters()) for net in of]
    assert together == [2]
    for mine, theirs in zip(*pairs, strict=True):
        torch.testing.assert_close(list(mine), list(theirs), rtol=1e-4, atol=1e-3)


DIFFERENT = {
    "hook": lambda net: net.register_forward_hook(lambda *_: None),
    "hook within": lambda net: net.st_gcn_networks[3].register_forward_hook(lambda *_: None),
    "dropout": lambda net: setattr(net.st_gcn_networks[2].tcn[4], "p", 0.25),
    "momentum": lambda net: setattr(net.st_gcn_networks[2].tcn[0], "momentum", 0.3),
    "training": lambda net: net.st_gcn_networks[4].residual[1].eval(),
    "frozen": lambda net: net.st_gcn_networks[:5].requires_grad_(False),
    "frozen importance": lambda net: net.edge_importance[3].requires_grad_(False),
    "pooling": lambda net: (setattr(net, "pooling", "meanmax"), setattr(net, "fc", nn.Identity())),
    "implementation": lambda net: setattr(net, "impl", "reference"),
    "forward": lambda net: setattr(net, "forward", net.forward),
}


@pytest.mark.parametrize("change", DIFFERENT)
def test_encoders_that_differ_are_computed_one_by_one(change, monkeypatch):
    nets, clips, computed = two(impl="auto"), torch.randn(2, 1, 3, 2, 25, 1), []
    monkeypatch.setattr(
        stgcn, "fused_together", lambda _, x, __: computed.append(2) or x.new_ones(2, 1, 1, 25, 8)
    )
    monkeypatch.setattr(
        stgcn, "fused_blocks", lambda _, x, *__: computed.append(1) or x.new_ones(1, 1, 25, 8)
    )
    with torch.autocast("cpu", torch.bfloat16):
        stgcn.encode_together(nets, clips)
        DIFFERENT[change](nets[1])
        stgcn.encode_together(nets, clips)
    assert computed in ([2, 1], [2, 1, 1])  # the second may be left to its modules


def test_encoders_that_share_a_module_are_computed_one_by_one():
    first, second = two()
    second.st_gcn_networks[2].tcn[0] = first.st_gcn_networks[2].tcn[0]
    problem = support_together(torch.randn(1, 3, 2, 25), [net.st_gcn_networks for net in (first, second)])
    assert "share no module" in problem.problem


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
    y = fused_block(block, x, graph)
    (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="impl='reference'"):
        torch.autograd.grad(gradient.sum(), block.tcn[2].weight)
