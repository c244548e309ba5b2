"""A block of the encoder on a GPU: products by Triton kernels, and a few passes between them.

`STGCN`'s modules are the definition, in plain torch; this computes the same from the same parameters.
For the backward pass are kept: the input, what each convolution took and gave, and the output. Dropout masks
and gathered joints are made again. A convolution over time of many channels is torch's, which has the faster
ones there; what is around it is the same.
"""

import contextlib
from dataclasses import dataclass

import torch

from ikem_fast.ops._autograd import refusing_second_derivatives
from ikem_fast.ops.encoder.triton import launch
from ikem_fast.ops.encoder.triton.graph import Graph
from ikem_fast.ops.encoder.triton.passes import Dropout
from ikem_fast.ops.encoder.triton.rows import Normalized, Rectified

MAX_TEMPORAL = 64  # channels of a convolution over time that the kernels take


def fused_blocks(blocks, x, graphs, adjacency):
    """Compute an encoder's blocks one after the other for x (B,T,V,C) → (B,T',V,C').

    Args:
        blocks: `nn.encoders.stgcn.Block`s that `support_for` has said yes to.
        x: bfloat16, float16 or float32, contiguous; also the dtype of the result.
        graphs: A (K,V,V) float32 of each block, 0 wherever `adjacency` is.
        adjacency: (K,V,V).
    """
    graph = Graph.of(adjacency)
    drops = any(block.tcn[4].training and block.tcn[4].p for block in blocks)
    # On the device, so that a captured graph draws others each time.
    seeds = torch.randint(2**63 - 1, (len(blocks),), device=x.device) if drops else [None] * len(blocks)
    for block, A, seed in zip(blocks, graphs, seeds, strict=True):
        x = fused_block(block, x, A, graph, seed)
    return x


def fused_block(block, x, A, graph, seed=None):
    """Compute one block, see `fused_blocks`. seed: () int64, of its dropout."""
    conv, (norm1, _, temporal, norm2, dropout) = block.gcn.conv, block.tcn
    tensors = [x, A, conv.weight, conv.bias, temporal.weight, temporal.bias, *_affine(norm1, norm2)]
    residual, norm_r = "none" if block.residual is None else "identity", None
    if isinstance(block.residual, torch.nn.Sequential):
        residual, (conv_r, norm_r) = "convolution", block.residual
        tensors += [conv_r.weight, conv_r.bias, *_affine(norm_r)]
    probability = dropout.p if dropout.training else 0.0
    drops = Dropout(seed, int((1 - probability) * (2**31 - 1))) if probability else None
    plan = _Plan(graph, temporal.stride[0], (norm1, norm2, norm_r), residual, drops)
    with torch.autocast(x.device.type, enabled=False), _on(x.device):
        return _Block.apply(plan, *tensors)


def _affine(*norms):
    return [tensor for norm in norms for tensor in (norm.weight, norm.bias)]


def _on(device):
    """Triton launches on the current device: make it the tensors'."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


@dataclass(frozen=True)
class _Plan:
    """What a block does, apart from its numbers."""

    graph: Graph
    stride: int
    norms: tuple  # of the graph convolution, the temporal convolution, the residual's convolution or None
    residual: str  # "none", "identity" or "convolution"
    dropout: Dropout | None


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(ctx, plan, x, A, W1, b1, W2, b2, gamma1, beta1, gamma2, beta2, *residual):
        norm1, norm2, norm_r = plan.norms
        weight1 = W1.view(len(A), -1, x.shape[-1]).to(x.dtype)
        weight2, weight_r = _by_taps(W2, x.dtype), _by_taps(residual[0], x.dtype) if residual else None
        y1, moments = launch.over_graph(x, A, plan.graph.arriving, weight1, bias=b1, moments=norm1.training)
        table1 = launch.statistics(norm1, gamma1, beta1, moments, y1[..., 0].numel())
        hidden = launch.output(Normalized(y1, table1))
        y2, moments = _over_time(hidden, weight2, b2, plan.stride, norm2.training)
        rows = y2[..., 0].numel()
        table2 = launch.statistics(norm2, gamma2, beta2, moments, rows)
        past, normalized_r = Normalized(x, None) if plan.residual == "identity" else None, (None, None)
        if residual:
            y_r, moments = launch.over_time(x, weight_r, residual[1], plan.stride, norm_r.training)
            past = normalized_r = Normalized(y_r, launch.statistics(norm_r, *residual[2:], moments, rows))
        output = launch.output(Normalized(y2, table2), past, plan.dropout)
        ctx.op = "a block of STGCN"
        ctx.plan = plan
        # All inputs that have a gradient: what refuses second derivatives must know them.
        ctx.save_for_backward(
            x, A, W1, b1, W2, b2, gamma1, beta1, gamma2, beta2, *residual,
            weight1, weight2, weight_r, y1, table1, hidden, y2, table2, *normalized_r, output,
        )  # fmt: skip
        return output

    @staticmethod
    @refusing_second_derivatives
    def backward(ctx, grad):
        plan, (norm1, norm2, norm_r) = ctx.plan, ctx.plan.norms
        x, A, W1, b1, W2, *_ = ctx.saved_tensors
        *weights, y1, table1, hidden, y2, table2, y_r, table_r, output = ctx.saved_tensors[-11:]
        weight1, weight2, weight_r = weights
        with _on(x.device):
            rectified = Rectified(grad.contiguous(), output)
            rows = y2[..., 0].numel()
            past = None if y_r is None else Normalized(y_r, table_r)
            sums, sums_r = launch.output_sums(rectified, Normalized(y2, table2), past, plan.dropout)
            by2, (grad_gamma2, grad_beta2, grad_b2) = launch.coefficients(norm2, sums, table2, rows)
            grad_residual, by_r = (), None
            if past is not None:
                by_r, grad_residual = launch.coefficients(norm_r, sums_r, table_r, rows)
            grad_y2, grad_past = launch.output_backward(rectified, y2, by2, y_r, by_r, plan.dropout)
            past = rectified if plan.residual == "identity" else None
            if by_r is not None:
                grad_x, _sums = launch.over_time_backward(grad_past, weight_r, plan.stride, x)
                past = Rectified(grad_x, None)
                grad_Wr = launch.over_time_weights(grad_past, x, weight_r, plan.stride)
                grad_gamma, grad_beta, grad_b = grad_residual
                grad_residual = (grad_Wr[..., None], grad_b, grad_gamma, grad_beta)

            grad_hidden, sums, grad_W2 = _over_time_backward(
                grad_y2, Normalized(y1, table1), hidden, weight2, plan.stride
            )
            by1, (grad_gamma1, grad_beta1, _bias) = launch.coefficients(
                norm1, sums, table1, y1[..., 0].numel()
            )
            cut = None if weight2.dim() == 3 else hidden  # the kernel's gradient is 0 already where this is
            grad_y1, _ = launch.output_backward(Rectified(grad_hidden, cut), y1, by1)
            grad_A, grad_W1, grad_b1 = launch.over_graph_weights(
                x, grad_y1, A, plan.graph.arriving, weight1, b1
            )
            grad_x = launch.over_graph_backward(grad_y1, A, plan.graph.leaving, weight1, past)
        return (
            None, grad_x, grad_A, grad_W1.view_as(W1), grad_b1, grad_W2.view_as(W2), grad_b2,
            grad_gamma1, grad_beta1, grad_gamma2, grad_beta2, *grad_residual,
        )  # fmt: skip


def _by_taps(weight, dtype):
    """A convolution's weight (C',C,L,1) as the kernels take it, (L,C',C); torch's own of many channels."""
    if weight.shape[2] > 1 and weight.shape[1] > MAX_TEMPORAL:
        return weight.to(dtype)
    made = torch.empty((weight.shape[2], *weight.shape[:2]), dtype=dtype, device=weight.device)
    return made.copy_(weight.squeeze(3).permute(2, 0, 1))


def _over_time(x, weight, bias, stride, moments):
    """The convolution over time of x (B,T,V,C), and its moments or None."""
    if weight.dim() == 3:
        return launch.over_time(x, weight, bias, stride, moments)
    x = x.permute(0, 3, 1, 2)
    y = torch.ops.aten.convolution(x, weight, bias.to(x.dtype), *_geometry(weight, stride))
    y = y.permute(0, 2, 3, 1).contiguous()
    return y, launch.moments(y) if moments else None


def _over_time_backward(grad, y, x, weight, stride):
    """Of that: the gradient in x, max(0, `Normalized` y), its sums where x > 0, and that in the weight."""
    if weight.dim() == 3:
        grad_x, sums = launch.over_time_backward(grad, weight, stride, x, y)
        return grad_x, sums, launch.over_time_weights(grad, x, weight, stride)
    grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
        grad.permute(0, 3, 1, 2), x.permute(0, 3, 1, 2), weight, None, *_geometry(weight, stride),
        (True, True, False),
    )  # fmt: skip
    grad_x = grad_x.permute(0, 2, 3, 1).contiguous()
    return grad_x, launch.output_sums(Rectified(grad_x, x), y)[0], grad_weight.float()


def _geometry(weight, stride):
    """Stride, padding, dilation, whether transposed, output padding, groups."""
    return (stride, 1), ((weight.shape[2] - 1) // 2, 0), (1, 1), False, (0, 0), 1
