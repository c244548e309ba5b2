"""The encoder's blocks by CPU kernels, held to the same blocks in plain torch."""

import copy

import pytest
import torch
from torch import nn

from ikem_fast.nn import STGCN, TCN
from ikem_fast.nn.encoders.stgcn import Block
from ikem_fast.ops.encoder.fused_block import Edges, fused_block
from tests.helpers import needs_kernel

pytestmark = needs_kernel


def gradients(net, impl, x, cotangent, dtype=torch.float32, autocast=False):
    """Output, gradient in x, gradients in the parameters, buffers after: all in float64."""
    net = copy.deepcopy(net).to(dtype)
    net.impl = impl
    x = x.to(dtype).clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output, _ = net(x)
    (output.to(dtype) * cotangent.to(dtype)).sum().backward()
    parameters = {name: p.grad.double() for name, p in net.named_parameters()}
    buffers = {name: b.double() for name, b in net.named_buffers()}
    return output.double(), x.grad.double(), parameters, buffers


def error(got, expected):
    return ((got - expected).abs().max() / expected.abs().max().clamp_min(1e-6)).item()


def worst(got, expected):
    """Over named tensors; gradients that are zero in exact arithmetic are rounding, and left out."""
    real = [name for name in expected if expected[name].abs().max() > 1e-6]
    return max(error(got[name], expected[name]) for name in real)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({}, (3, 30, 2)),
        ({"hidden_channels": 16, "hidden_dim": 64}, (2, 9, 1)),
        ({"layout": "kinect-v1", "hidden_channels": 5, "hidden_dim": 7}, (1, 7, 3)),
        ({"strategy": "distance", "edge_importance_weighting": False}, (2, 1, 1)),
    ],
    ids=["usual", "whole vectors", "odd widths", "one frame"],
)
def test_float32_is_off_float64_by_no_more_than_plain_torch(settings, shape, training):
    torch.manual_seed(0)
    net = STGCN(**{"hidden_channels": 4, "hidden_dim": 16, "num_classes": 5, "dropout": 0.0} | settings)
    for norm in net.modules():  # away from the initial ones, which hide what is left out
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
    net.train(training)
    N, T, M = shape
    x, cotangent = torch.randn(N, 3, T, net.A.shape[-1], M), torch.randn(N, 5)
    exact = gradients(net, "reference", x, cotangent, torch.float64)
    fused = gradients(net, "fused", x, cotangent)
    # Of inputs that differ in their last bit, too: a normalization over few numbers magnifies what rounding
    # does, and one try may be lucky.
    plain = [gradients(net, "reference", x * nudge, cotangent) for nudge in (1, 1 + 2**-23, 1 - 2**-24)]
    # Twice plain torch's own error, plus a few roundings.
    for i in (0, 1):
        assert error(fused[i], exact[i]) <= 2 * max(error(one[i], exact[i]) for one in plain) + 2e-6
    for i in (2, 3):
        assert worst(fused[i], exact[i]) <= 2 * max(worst(one[i], exact[i]) for one in plain) + 1e-5


def test_bfloat16_is_off_float64_by_no_more_than_plain_torch():
    torch.manual_seed(0)
    net = STGCN(hidden_channels=8, hidden_dim=32, num_classes=5, dropout=0.0)
    x, cotangent = torch.randn(8, 3, 30, 25, 2), torch.randn(8, 5)
    exact = gradients(net, "reference", x, cotangent, torch.float64)
    plain = gradients(net, "reference", x, cotangent, autocast=True)
    fused = gradients(net, "fused", x, cotangent, autocast=True)
    assert error(fused[0], exact[0]) <= 2 * error(plain[0], exact[0])
    # ReLUs that flip make single gradients jump, so directions are compared, over all parameters.
    real = [name for name, gradient in exact[2].items() if gradient.abs().max() > 1e-6]
    off = {
        name: sum(1 - torch.cosine_similarity(got[2][p].flatten(), exact[2][p].flatten(), 0) for p in real)
        for name, got in {"fused": fused, "plain": plain}.items()
    }
    assert off["fused"] <= 1.5 * off["plain"], off


@pytest.mark.parametrize("make", [STGCN, TCN])
def test_a_backward_pass_may_be_under_autocast(make):
    """Its sums are taken in float32 all the same; plain torch's own parts of it are not."""
    net = make(hidden_channels=4, num_classes=5, dropout=0.0).eval()
    x, cotangent = torch.randn(3, 3, 7, 25, 1), torch.randn(3, 5)

    def gradients_under(autocast):
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            output, _ = net(x)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output.float().backward(cotangent)
        return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])

    outside, under = gradients_under(False), gradients_under(True)
    assert (under - outside).norm() <= 0.01 * outside.norm()


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_masks_the_gradient(p):
    block = Block(16, 16, 3, stride=1, dropout=p, residual=False)
    nn.init.constant_(block.tcn[3].weight, 0.0)  # leaves 1 in each place ahead of the dropout
    nn.init.constant_(block.tcn[3].bias, 1.0)
    A = STGCN().A
    x = torch.randn(40, 50, 25, 16)
    y = fused_block(block, x, A, Edges.of(A))
    kept = y > 0
    assert abs(kept.float().mean().item() - (1 - p)) < 0.002
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / (1 - p)))
    y.sum().backward()
    torch.testing.assert_close(block.tcn[3].bias.grad, y.detach().sum((0, 1, 2)), rtol=1e-4, atol=0)
    share = kept.flatten(0, 1).float().mean((1, 2))  # of each frame
    assert share.std() < 1.5 * (p * (1 - p) / 400) ** 0.5, "frames are not independent"
    agree = (kept[:, 1:] == kept[:, :-1]).float().mean().item()
    assert abs(agree - (p * p + (1 - p) ** 2)) < 0.005, "a frame's mask tells of the next frame's"


def test_dropout_follows_the_seed_and_is_off_in_eval():
    net = STGCN(hidden_channels=4, hidden_dim=16, impl="fused")
    x = torch.randn(2, 3, 20, 25, 2)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(net(x)[0])
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    net.eval()
    assert torch.equal(net(x)[0], net(x)[0])


def test_any_number_of_threads_gives_the_same_bits():
    block, x = Block(8, 8, 3, stride=1, dropout=0.3, residual=True), torch.randn(40, 25, 25, 8)
    A, threads, results = STGCN().A, torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            torch.manual_seed(0)
            block.zero_grad()
            y = fused_block(block, x, A, Edges.of(A))
            y.sum().backward()
            results.append([y, *(norm.bias.grad for norm in (block.tcn[0], block.tcn[3]))])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_a_loaded_graph_is_the_one_that_counts():
    net = STGCN(hidden_channels=4, hidden_dim=16, dropout=0.0).eval()
    net.load_state_dict(STGCN(hidden_channels=4, hidden_dim=16, strategy="distance").state_dict())
    x = torch.randn(2, 3, 20, 25, 2)
    plain = net(x)[0]
    net.impl = "fused"
    torch.testing.assert_close(net(x)[0], plain, rtol=1e-4, atol=1e-5)


def test_what_the_kernels_cannot_do_is_said():
    net = STGCN(hidden_channels=4, hidden_dim=16, impl="fused")
    with pytest.raises(RuntimeError, match=r"float64"):
        net.double()(torch.randn(1, 3, 5, 25, 1, dtype=torch.float64))
    net = nn.SyncBatchNorm.convert_sync_batchnorm(net.float())
    with pytest.raises(RuntimeError, match="SyncBatchNorm"):
        net(torch.randn(1, 3, 5, 25, 1))


def test_kernels_refuse_tensors_that_do_not_fit():
    y, affine, ops = torch.randn(3, 4, 5, 6), torch.ones(2, 5, 6), torch.ops.ikem_fast
    with pytest.raises(RuntimeError, match="affine"):
        ops.normalize_relu(y, affine.double(), torch.empty_like(y))
    with pytest.raises(RuntimeError, match="columns"):
        ops.normalize_relu(y, torch.ones(2, 7), torch.empty_like(y))
    with pytest.raises(RuntimeError, match="out"):
        ops.normalize_relu(y, affine, torch.empty(3))
    one, statistics = torch.ones(6), torch.empty(7, 6, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="running_var"):
        ops.normalization(y, one, one, one, one, torch.ones(5), True, 0.1, 1e-5, affine, statistics)
    with pytest.raises(RuntimeError, match="gamma"):
        ops.normalization(y, one, one[:5], one, one, one, True, 0.1, 1e-5, affine, statistics)
    with pytest.raises(RuntimeError, match="5 tensors to read and 4 to write"):
        ops.block_output_backward(y, y, [y], True, [], False, 0.0, 0, [y], [])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"source": torch.tensor([10**12])}, "source"),
        ({"source": torch.tensor([-1])}, "source"),
        ({"first": torch.tensor([0, 10**12, 1, 1])}, "first"),
        ({"first": torch.tensor([0, 1, 1, 2])}, "first"),
        ({"first": torch.tensor([0, 1])}, "first"),
    ],
)
def test_graphs_that_point_outside_are_refused(damage, message):
    graph = {"first": torch.tensor([0, 1, 1, 1]), "source": torch.tensor([2])} | damage
    x = torch.randn(2, 4, 3, 5)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.ikem_fast.graph_forward(x, *graph.values(), torch.ones(1), 1, torch.empty_like(x))
