"""The kernels of convolutions, held to the same sums in float64."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from ikem_fast.nn import STGCN
from ikem_fast.ops.encoder import convolution
from ikem_fast.ops.encoder.convolution import (
    normalized_temporal,
    normalized_temporal_backward,
    over_graph,
    over_graph_backward,
)
from ikem_fast.ops.encoder.fused_block import Edges
from tests.helpers import needs_kernel

pytestmark = needs_kernel
# Of the largest number: some hundreds of roundings of float32, one of bfloat16.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2**-8}
SETS = ("default", "avx2", "avx512")  # of instructions, of which each processor has those before its best
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def draw(*shape, dtype=torch.float32):
    return torch.randn(shape).to(dtype)


def expect(got, exact, dtype=torch.float32):
    assert got.shape == exact.shape
    off = (got.double() - exact).abs().max() / exact.abs().max().clamp_min(1e-30)
    assert off <= TOLERANCE[dtype], off.item()


def temporal_case(clips, frames, joints, channels, taps, stride, dtype):
    torch.manual_seed(0)
    y, affine = draw(clips, frames, joints, channels, dtype=dtype), draw(2, joints, channels)
    weight, grad = (
        draw(channels, channels, taps, 1),
        draw(clips, (frames - 1) // stride + 1, joints, channels),
    )
    return grad.to(dtype), y, affine, weight, stride


def exact_temporal(grad, y, affine, weight, stride):
    x = F.relu(affine[0].double() * y.double() + affine[1].double()).requires_grad_()
    weight = weight.double().requires_grad_()
    out = F.conv2d(x.permute(0, 3, 1, 2), weight, None, (stride, 1), (weight.shape[2] // 2, 0))
    out = out.permute(0, 2, 3, 1)
    return out.detach(), *torch.autograd.grad(out, (x, weight), grad.double())


@DTYPES
@pytest.mark.parametrize("stride", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("clips", "frames", "joints", "channels", "taps"),
    [
        (3, 25, 25, 4, 9),
        (2, 50, 25, 16, 9),
        (2, 13, 25, 8, 9),
        (40, 7, 5, 3, 9),  # more than one block of tracks, a channel that is left
        (1, 4, 15, 6, 9),  # fewer frames than taps
        (1, 1, 1, 1, 5),
        (2, 20, 17, 5, 1),
        (1, 6, 33, 7, 21),
    ],
)
def test_temporal_convolutions_are_float64s(clips, frames, joints, channels, taps, stride, dtype):
    case = temporal_case(clips, frames, joints, channels, taps, stride, dtype)
    out, grad_x, grad_weight = exact_temporal(*case)
    expect(normalized_temporal(*case[1:]), out, dtype)
    got_x, got_weight = normalized_temporal_backward(*case)
    assert got_x.dtype == dtype and got_weight.dtype == torch.float32
    expect(got_x, grad_x, dtype)
    expect(got_weight, grad_weight)


def weights_of(grad, y, affine, weight, stride):
    got = torch.full_like(weight, torch.nan)
    torch.ops.ikem_fast.temporal_weights(grad, y, affine, stride, got)
    return got


@DTYPES
@pytest.mark.parametrize("stride", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("clips", "frames", "joints", "channels", "taps"),
    [
        (3, 13, 25, 64, 9),
        (2, 50, 25, 32, 9),
        (1, 13, 25, 129, 9),  # a channel more than panels hold
        (11, 30, 25, 17, 5),  # several groups of clips, the last one smaller
        (1, 4, 15, 40, 9),  # fewer frames than taps
        (2, 1, 1, 33, 5),
        (1, 3000, 1, 20, 1),  # more rows than a group has
        (1, 6, 5, 1, 21),
    ],
)
def test_weights_of_wide_convolutions_are_float64s(clips, frames, joints, channels, taps, stride, dtype):
    case = temporal_case(clips, frames, joints, channels, taps, stride, dtype)
    expect(weights_of(*case), exact_temporal(*case)[2])


@pytest.mark.parametrize("instructions", SETS)
def test_weights_by_every_instruction_set_that_is_here(instructions):
    """Each has products of its own."""
    here = torch.backends.cpu.get_cpu_capability().lower()
    if here not in SETS or SETS.index(instructions) > SETS.index(here):
        pytest.skip(f"this processor has {here}, not {instructions}")
    test = f"{__file__}::{test_weights_of_wide_convolutions_are_float64s.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", test]
    environment = os.environ | {"ATEN_CPU_CAPABILITY": instructions}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_wide_convolutions_are_float64s():
    """The gradients of a layer as blocks have it: the library's in the clips, a kernel's in the weight."""
    case = temporal_case(3, 13, 25, 64, 9, 2, torch.float32)
    out, grad_x, grad_weight = exact_temporal(*case)
    expect(normalized_temporal(*case[1:]), out)
    for got, exact in zip(normalized_temporal_backward(*case), (grad_x, grad_weight), strict=True):
        expect(got, exact)


def graph_case(clips, frames, layout, channels, outputs, strategy, dtype):
    torch.manual_seed(0)
    A = STGCN(layout=layout, strategy=strategy).A
    edges, shape = Edges.of(A), (clips, frames, A.shape[-1])
    x, grad = draw(*shape, channels, dtype=dtype), draw(*shape, outputs, dtype=dtype)
    return A, (grad, x, edges, draw(len(edges.flat)), draw(outputs, len(A) * channels))


def exact_graph(A, grad, x, edges, weight, matrix):
    x, weight, matrix = (tensor.double().requires_grad_() for tensor in (x, weight, matrix))
    A = torch.zeros(A.numel(), dtype=torch.float64).index_add(0, edges.flat, weight).view(A.shape)
    out = torch.einsum("btvc,kvw,dkc->btwd", x, A, matrix.view(len(matrix), len(A), -1))
    return out.detach(), *torch.autograd.grad(out, (x, weight, matrix), grad.double())


@DTYPES
@pytest.mark.parametrize("past", ["none", "all", "where positive"])
@pytest.mark.parametrize(
    ("clips", "frames", "layout", "channels", "outputs", "strategy"),
    [
        (3, 25, "ntu-rgb+d", 3, 4, "spatial"),
        (2, 13, "ntu-rgb+d", 8, 16, "spatial"),
        (1, 3, "kinect-v1", 16, 7, "distance"),
        (2, 9, "kinect-v1", 5, 1, "distance"),
        (1, 1, "ntu-rgb+d", 1, 6, "spatial"),
    ],
)
def test_graph_convolutions_are_float64s(clips, frames, layout, channels, outputs, strategy, past, dtype):
    A, case = graph_case(clips, frames, layout, channels, outputs, strategy, dtype)
    out, grad_x, grad_weight, grad_matrix = exact_graph(A, *case)
    expect(over_graph(*case[1:]), out, dtype)
    went_past = ()
    if past != "none":
        residual, output = torch.randn_like(case[1]), torch.randn_like(case[1])
        grad_x += residual.double() * (output > 0 if past == "where positive" else 1)
        went_past = (residual, output) if past == "where positive" else (residual,)
    got_x, got_weight, got_matrix = over_graph_backward(*case, *went_past)
    assert got_x.dtype == dtype
    expect(got_x, grad_x, dtype)
    expect(got_weight, grad_weight)
    expect(got_matrix, grad_matrix)


def test_wide_layers_of_the_libraries_are_the_same(monkeypatch):
    temporal = temporal_case(2, 20, 25, 4, 9, 2, torch.float32)
    _, graph = graph_case(2, 9, "ntu-rgb+d", 4, 8, "spatial", torch.float32)
    past = (torch.randn_like(graph[1]),)
    calls = {
        normalized_temporal: temporal[1:],
        normalized_temporal_backward: temporal,
        over_graph: graph[1:],
        over_graph_backward: (*graph, *past),
    }
    own = [call(*arguments) for call, arguments in calls.items()]
    monkeypatch.setattr(convolution, "NARROW_TEMPORAL", 0)
    monkeypatch.setattr(convolution, "NARROW_GRAPH", 0)
    wide = [call(*arguments) for call, arguments in calls.items()]
    torch.testing.assert_close(own, wide, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_any_number_of_threads_gives_the_same_bits(stride):
    temporal = temporal_case(30, 13, 25, 5, 9, stride, torch.float32)
    wide = temporal_case(20, 13, 25, 40, 9, stride, torch.float32)
    _, graph = graph_case(30, 13, "ntu-rgb+d", 5, 6, "spatial", torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(
                [
                    normalized_temporal(*temporal[1:]),
                    *normalized_temporal_backward(*temporal),
                    weights_of(*wide),
                    over_graph(*graph[1:]),
                    *over_graph_backward(*graph),
                ]
            )
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


def test_kernels_refuse_tensors_that_do_not_fit():
    grad, y, affine, weight, _ = temporal_case(2, 9, 25, 4, 9, 1, torch.float32)
    with pytest.raises(RuntimeError, match="affine"):
        normalized_temporal(y, affine[:1], weight)
    with pytest.raises(RuntimeError, match="weight"):
        normalized_temporal(y, affine, weight[:, :, :8])
    with pytest.raises(RuntimeError, match="contiguous"):
        normalized_temporal(y.transpose(0, 1), affine, weight)
    with pytest.raises(RuntimeError, match="grad"):
        normalized_temporal_backward(grad[:, 1:].contiguous(), y, affine, weight)
    with pytest.raises(RuntimeError, match="grad"):
        weights_of(grad[:, 1:].contiguous(), y, affine, weight, 1)
    with pytest.raises(RuntimeError, match="weight"):
        weights_of(grad, y, affine, weight[:, :, :8], 1)
    _, (grad, x, edges, numbers, matrix) = graph_case(1, 2, "ntu-rgb+d", 4, 5, "spatial", torch.float32)
    with pytest.raises(RuntimeError, match="matrix"):
        over_graph(x, edges, numbers, matrix[:, 1:].contiguous())
    with pytest.raises(RuntimeError, match="source"):
        over_graph(x, edges, numbers[1:], matrix)
    with pytest.raises(RuntimeError, match="residual"):
        over_graph_backward(grad, x, edges, numbers, matrix, None, x)
    with pytest.raises(RuntimeError, match="residual"):
        over_graph_backward(grad, x, edges, numbers, matrix, x[:, 1:].contiguous())
