"""The convolutions of an encoder's block on activations (B,T,V,C), forward and backward.

Those of few channels have kernels of their own (csrc/encoder/lanes.h), which read and write activations once
and need no more; libraries are made for many channels. Wider ones are products and convolutions of theirs,
but for the gradient in the weight, for which they take half as long again as a kernel made for it (float32,
csrc/encoder/wide_temporal_cpu.cpp). A 1×1 convolution is a product of rows. oneDNN 3.12 (torch 2.13, 2.14)
corrupts memory in the backward pass of some strided ones, so none is left to a library's convolution; see
docs/reliability-of-libraries.md.
"""

import functools

import torch

# Up to so many channels the own kernels are about as fast as the libraries or faster: measured, see
# docs/decisions.md. Of a graph convolution those that go in; up to twice as many may come out.
NARROW_TEMPORAL, NARROW_GRAPH = 16, 32
_ops = torch.ops.ikem_fast


@functools.cache
def bfloat16_units():
    """Whether this processor has what the libraries need to compute in bfloat16 at speed."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def arithmetic(dtype):
    """The dtype to compute in for activations of `dtype`: bfloat16 without units for it is 10× slower."""
    return torch.float32 if dtype == torch.bfloat16 and not bfloat16_units() else dtype


def autocast_dtype(x: torch.Tensor) -> torch.dtype:
    """Return the dtype to compute in for x: autocast's, but bfloat16 only where the processor is fast at it.

    Example:
        with torch.autocast("cuda", torch.bfloat16):
            autocast_dtype(torch.randn(3, device="cuda"))  # torch.bfloat16
    """
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        return x.dtype
    dtype = torch.get_autocast_dtype(device)
    return x.dtype if device == "cpu" and dtype == torch.bfloat16 and not bfloat16_units() else dtype


def pointwise(x, weight, stride=1):
    """A 1×1 convolution: x (B,T,V,C), weight (C',C) → (B,T',V,C')."""
    x = _every(x, stride)
    y = _rows(x) @ weight.to(x.dtype).to(arithmetic(x.dtype)).T
    return y.to(x.dtype).view(*x.shape[:-1], -1)


def pointwise_backward(grad, x, weight, stride=1):
    """Gradients in x, of its shape, and in the weight, float32; `grad` (B,T',V,C')."""
    rows, grads = _rows(_every(x, stride)), _rows(grad)
    grad_weight = (grads.T @ rows).float()
    grad_x = (grads @ weight.to(x.dtype).to(grads.dtype)).to(x.dtype)
    if stride == 1:
        return grad_x.view(x.shape), grad_weight
    whole = torch.zeros_like(x)
    whole[:, ::stride] = grad_x.view(*grad.shape[:-1], -1)
    return whole, grad_weight


def temporal(x, weight, stride=1):
    """A convolution over time: x (B,T,V,C), weight (C',C,L,1), L odd → (B,T',V,C')."""
    compute = arithmetic(x.dtype)
    y = torch.ops.aten.convolution(
        _channels_second(x, compute), weight.to(x.dtype).to(compute), None, *_geometry(weight, stride)
    )
    return y.permute(0, 2, 3, 1).to(x.dtype).contiguous()


def temporal_backward(grad, x, weight, stride=1, of_weight=True):
    """Gradients in x and, if it is asked for, in float32 in the weight; `grad` (B,T',V,C').

    Of x nothing but its shape and dtype is looked at where only its own gradient is wanted.
    """
    compute = arithmetic(x.dtype)
    grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
        _channels_second(grad, compute), _channels_second(x, compute), weight.to(x.dtype).to(compute), None,
        *_geometry(weight, stride), (True, of_weight, False),
    )  # fmt: skip
    return grad_x.permute(0, 2, 3, 1).to(x.dtype).contiguous(), grad_weight.float() if of_weight else None


def normalized_temporal(y, affine, weight, stride=1):
    """`temporal` of max(0, scale·y + shift), affine (2,V,C): these two for each column of y."""
    B, T, V, C = y.shape
    if C > NARROW_TEMPORAL:
        return temporal(_normalized(y, affine), weight, stride)
    out = y.new_empty((B, (T - 1) // stride + 1, V, C))
    _ops.temporal_convolution(y, affine, weight, stride, out)
    return out


def normalized_temporal_backward(grad, y, affine, weight, stride=1):
    """Gradients in what `normalized_temporal` convolves, of the shape of y, and in the weight."""
    grad_weight = torch.empty_like(weight)
    if y.shape[-1] <= NARROW_TEMPORAL:
        grad_x = torch.empty_like(y)
        _ops.temporal_convolution_backward(grad, y, affine, weight, stride, grad_x, grad_weight)
    elif arithmetic(y.dtype) == torch.float32:
        grad_x, _ = temporal_backward(grad, y, weight, stride, of_weight=False)
        _ops.temporal_weights(grad, y, affine, stride, grad_weight)
    else:
        return temporal_backward(grad, _normalized(y, affine), weight, stride)
    return grad_x, grad_weight


def over_graph(x, edges, weight, matrix):
    """A graph convolution: x (B,T,V,C), `Edges` with weights (E,), matrix (C',K·C) → (B,T,V,C')."""
    if not _narrow_graph(x, matrix):
        return pointwise(edges.gather(x, weight), matrix)
    out = x.new_empty((*x.shape[:-1], len(matrix)))
    _ops.graph_convolution(x, edges.first, edges.source, weight, edges.partitions, matrix, out)
    return out


def over_graph_backward(grad, x, edges, weight, matrix, past=None, output=None):
    """Gradients in x, the edges' weights and the matrix; `grad` (B,T,V,C').

    The one in x has `past` added, what went past the graph, where `output` > 0 if that is given.
    """
    if not _narrow_graph(x, matrix):
        grad_gathered, grad_matrix = pointwise_backward(grad, edges.gather(x, weight), matrix)
        return *edges.scatter(grad_gathered, x, weight, past, output), grad_matrix
    grad_x, grad_weight, grad_matrix = map(torch.empty_like, (x, weight, matrix))
    _ops.graph_convolution_backward(
        grad, x, past, output, edges.first, edges.source, weight, edges.partitions, matrix,
        grad_x, grad_weight, grad_matrix,
    )  # fmt: skip
    return grad_x, grad_weight, grad_matrix


def _narrow_graph(x, matrix):
    return x.shape[-1] <= NARROW_GRAPH and len(matrix) <= 2 * NARROW_GRAPH


def _normalized(y, affine):
    out = torch.empty_like(y)
    _ops.normalize_relu(y, affine, out)
    return out


def _geometry(weight, stride):
    """Stride, padding, dilation, whether transposed, output padding, groups."""
    return (stride, 1), ((weight.shape[2] - 1) // 2, 0), (1, 1), False, (0, 0), 1


def _channels_second(x, dtype):
    return x.to(dtype).permute(0, 3, 1, 2)


def _every(x, stride):
    return x if stride == 1 else x[:, ::stride].contiguous()


def _rows(x):
    return x.to(arithmetic(x.dtype)).view(-1, x.shape[-1])
