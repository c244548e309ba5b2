"""The encoder: both orders of its graph convolution, its shapes, its dropout."""

import pytest
import torch

from ikem_fast.nn import STGCN
from ikem_fast.nn.encoders.stgcn import GraphConvolution
from ikem_fast.skeleton import get_layout, layout_names


def small(**settings):
    return STGCN(hidden_channels=4, hidden_dim=16, num_classes=5, **settings)


@pytest.mark.parametrize("layout", layout_names())
def test_any_layout_length_and_number_of_bodies(layout):
    net = small(layout=layout).eval()
    V = get_layout(layout).num_joints
    for N, T, M in ((1, 1, 1), (2, 7, 2), (3, 50, 3)):
        output, feature = net(torch.randn(N, 3, T, V, M))
        assert output.shape == (N, 5) and feature.shape == (N, 16)
        assert output.isfinite().all()


def test_bodies_are_averaged():
    net = small().eval()
    x = torch.randn(2, 3, 20, 25, 2)
    both = net(x)[1]
    each = [net(x[..., m : m + 1])[1] for m in (0, 1)]
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)


def test_both_orders_of_the_graph_convolution_agree():
    layer = GraphConvolution(6, 10, 3).double()
    x = torch.randn(2, 6, 9, 25, dtype=torch.float64)
    A = torch.rand(3, 25, 25, dtype=torch.float64)
    convolution_first = layer(x, A)  # as published, where gradients are wanted
    with torch.no_grad():
        torch.testing.assert_close(layer(x, A), convolution_first)


def test_without_gradients_and_in_mixed_precision_the_output_is_the_same():
    net = small(dropout=0.0).train()
    x = torch.randn(4, 3, 20, 25, 2)
    with_gradient = net(x)[0]
    with torch.no_grad():
        torch.testing.assert_close(net(x)[0], with_gradient, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(net(x)[0].float(), with_gradient, rtol=0.1, atol=0.1)


def test_wrong_joints_are_named():
    with pytest.raises(ValueError, match=r"V=25.*\(2, 3, 10, 20, 1\)"):
        small()(torch.randn(2, 3, 10, 20, 1))


def test_edge_importance_can_be_left_out():
    net = small(edge_importance_weighting=False)
    assert not any(name.startswith("edge_importance") for name in net.state_dict())
    assert net(torch.randn(1, 3, 5, 25, 1))[0].shape == (1, 5)


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_dropout_out_of_range_is_named(p):
    with pytest.raises(ValueError, match="dropout"):
        small(dropout=p)


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize("pooling", ["mean", "meanmax"])
def test_what_is_dropped_of_the_last_activations_comes_beside(impl, pooling):
    """As AimCLR has it: one pass through the blocks, two outputs, gradients through both."""
    net, x = small(dropout=0.0, impl=impl, pooling=pooling), torch.randn(4, 3, 30, 25, 2)
    seen = []

    def drop(activations):
        seen.append(activations.shape)
        return 0.5 * activations

    (output, feature), (dropped, half) = net(x, drop=drop)
    assert seen == [(8, 16, 8, 25)]
    torch.testing.assert_close(half, 0.5 * feature)
    torch.testing.assert_close(dropped, net.fc(0.5 * feature))
    torch.testing.assert_close((output, feature), net(x))
    dropped.sum().backward()
    assert net.st_gcn_networks[0].gcn.conv.weight.grad.norm() > 0
