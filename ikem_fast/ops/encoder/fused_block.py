"""A block of the encoder on a CPU: products and convolutions, and everything between them in few passes.

`STGCN`'s modules are the definition, in plain torch; this computes the same from the same parameters.
Activations are (clips·bodies, T, V, C), so that convolutions find channels last and a frame is one row of V·C
columns for the kernels of csrc/encoder/encoder.h. For the backward pass are kept: the input, what each
convolution gave, and the output. Normalized activations, dropout masks and gathered joints are made again.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch

from ikem_fast.ops._autograd import refusing_second_derivatives
from ikem_fast.ops.encoder.convolution import (
    normalized_temporal,
    normalized_temporal_backward,
    over_graph,
    over_graph_backward,
    pointwise,
    pointwise_backward,
)

_ops = torch.ops.ikem_fast


@dataclass(frozen=True)
class Edges:
    """The graph as a list of edges (k, v, w), in order of (w, k), for any values of A (K,V,V) on them."""

    flat: torch.Tensor  # (E,) int64: where an edge stands in A
    source: torch.Tensor  # (E,) int64: its joint v
    first: torch.Tensor  # (V·K + 1,) int64: where the edges into each (w, k) begin
    partitions: int

    @classmethod
    def of(cls, A):
        """Return the edges of A (K,V,V) float32 on the CPU: where it is not 0."""
        return _edges(tuple(A.shape), A.detach().contiguous().numpy().tobytes())

    def gather(self, x, weight):
        """x (…,V,C), weight (E,) → (…,V,K·C): Σ_v A[k,v,w] x[v]."""
        out = x.new_empty((*x.shape[:-1], self.partitions * x.shape[-1]))
        _ops.graph_forward(x, self.first, self.source, weight, self.partitions, out)
        return out

    def scatter(self, grad, x, weight, residual, output):
        """The gradients of `gather` in x and in the edges' weights.

        To the one in x is added `residual`, where `output` > 0 if that is given.
        """
        grad_x, grad_weight = torch.empty_like(x), weight.new_zeros(weight.shape, dtype=torch.float64)
        _ops.graph_backward(
            grad, x, residual, output, self.first, self.source, weight, self.partitions, grad_x, grad_weight
        )
        return grad_x, grad_weight.float()


@functools.lru_cache(maxsize=64)
def _edges(shape, values):
    K, V, _ = shape
    w, k, v = np.nonzero(np.frombuffer(values, np.float32).reshape(shape).transpose(2, 0, 1))
    first = np.zeros(V * K + 1, np.int64)
    first[1:] = np.bincount(w * K + k, minlength=V * K).cumsum()
    flat, source, first = (torch.from_numpy(a.astype(np.int64)) for a in ((k * V + v) * V + w, v, first))
    return Edges(flat, source, first, K)


def fused_block(block, x, A, edges):
    """Compute `block(x, A)` for x (B,T,V,C) → (B,T',V,C').

    Args:
        block: `nn.encoders.stgcn.Block` that `support_for` has said yes to.
        x: float32 or bfloat16, contiguous; also the dtype of the result.
        A: (K,V,V) float32, 0 wherever there is no edge.
        edges: `Edges` of the graph.
    """
    conv, (norm1, _, temporal_conv, norm2, dropout) = block.gcn.conv, block.tcn
    tensors = [x, A, conv.weight, conv.bias, temporal_conv.weight, temporal_conv.bias, *_affine(norm1, norm2)]
    residual, norm_r = "none" if block.residual is None else "identity", None
    if isinstance(block.residual, torch.nn.Sequential):
        residual, (conv_r, norm_r) = "convolution", block.residual
        tensors += [conv_r.weight, conv_r.bias, *_affine(norm_r)]
    probability = dropout.p if dropout.training else 0.0
    seed = int(torch.randint(2**63 - 1, ())) if probability else 0
    plan = _Plan(edges, temporal_conv.stride[0], (norm1, norm2, norm_r), residual, probability, seed)
    with torch.autocast("cpu", enabled=False):
        return _Block.apply(plan, *tensors)


def _affine(*norms):
    return [tensor for norm in norms for tensor in (norm.weight, norm.bias)]


@dataclass(frozen=True)
class _Plan:
    """What a block does, apart from its numbers."""

    edges: Edges
    stride: int
    norms: tuple  # of the graph convolution, the temporal convolution, the residual's convolution or None
    residual: str  # "none", "identity" or "convolution"
    dropout: float
    seed: int


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(ctx, plan, x, A, W1, b1, W2, b2, gamma1, beta1, gamma2, beta2, *residual):
        graph = _Graph(plan.edges, A, W1, b1)
        y1 = over_graph(x, plan.edges, graph.weight, graph.matrix)
        norm1 = _Normalization(plan.norms[0], y1, graph.bias, gamma1, beta1)
        y2 = normalized_temporal(y1, norm1.affine, W2, plan.stride)
        norm2 = _Normalization(plan.norms[1], y2, b2, gamma2, beta2)
        yr, norm_r = (x, None) if plan.residual == "identity" else (None, None)
        if residual:
            Wr, *parameters = residual
            yr = pointwise(x, Wr.flatten(1), plan.stride)
            norm_r = _Normalization(plan.norms[2], yr, *parameters)
        out = torch.empty_like(y2)
        affine_r = norm_r and norm_r.affine
        _ops.block_output(y2, norm2.affine, yr, affine_r, plan.dropout, plan.seed, out)
        ctx.op = "a block of STGCN"
        ctx.plan, ctx.graph, ctx.norms = plan, graph, (norm1, norm2, norm_r)
        # All inputs that have a gradient: what refuses second derivatives must know them.
        ctx.save_for_backward(
            x,
            A,
            W1,
            b1,
            W2,
            b2,
            gamma1,
            beta1,
            gamma2,
            beta2,
            *residual,
            y1,
            y2,
            yr if residual else None,
            out,
        )
        return out

    @staticmethod
    @refusing_second_derivatives
    def backward(ctx, grad):
        x, _, W1, b1, W2, b2, gamma1, beta1, gamma2, beta2, *residual, y1, y2, yr, out = ctx.saved_tensors
        plan, graph, (norm1, norm2, norm_r) = ctx.plan, ctx.graph, ctx.norms
        grad = grad.contiguous()
        main, past = norm2.branch(y2, b2, gamma2, beta2), norm_r and norm_r.branch(yr, *residual[1:])
        _ops.block_output_backward(
            grad, out, main.tensors, norm2.batch, past.tensors if past else [],
            norm_r is not None and norm_r.batch, plan.dropout, plan.seed,
            main.gradients, past.gradients if past else [],
        )  # fmt: skip
        grad_y2, grad_b2, grad_gamma2, grad_beta2 = main.gradients
        grad_past, grad_residual = ((grad, out) if plan.residual == "identity" else ()), ()
        if past:
            grad_yr, *grad_residual = past.gradients
            *grad_past, grad_Wr = pointwise_backward(grad_yr, x, residual[0].flatten(1), plan.stride)
            grad_residual = (grad_Wr.view_as(residual[0]), *grad_residual)

        grad_hidden, grad_W2 = normalized_temporal_backward(grad_y2, y1, norm1.affine, W2, plan.stride)
        first = norm1.branch(y1, graph.bias, gamma1, beta1)
        grad_y1, *grad_norm1 = first.gradients
        _ops.normalize_relu_backward(
            grad_hidden, y1, norm1.affine, *first.tensors[1:], norm1.batch, grad_y1, *grad_norm1
        )
        grad_bias, grad_gamma1, grad_beta1 = grad_norm1
        del grad_hidden

        grad_x, grad_weight, grad_matrix = over_graph_backward(
            grad_y1, x, plan.edges, graph.weight, graph.matrix, *grad_past
        )
        grad_A, grad_W1, grad_b1 = graph.backward(grad_weight, grad_matrix, grad_bias, b1)
        return (
            None, grad_x, grad_A, grad_W1.view_as(W1), grad_b1, grad_W2, grad_b2,
            grad_gamma1, grad_beta1, grad_gamma2, grad_beta2, *grad_residual,
        )  # fmt: skip


class _Graph:
    """A graph convolution's parameters as the kernels take them: A (K,V,V), W (K·C',C,1,1), b (K·C',).

    weight: (E,) A on the edges. matrix: (C',K·C). bias: (V,C') as it arrives at each joint.
    """

    def __init__(self, edges, A, W, b):
        K, C = edges.partitions, W.shape[1]
        self.edges, self.shape = edges, A.shape
        self.weight = A.reshape(-1).index_select(0, edges.flat)
        self.matrix = W.view(K, -1, C).transpose(0, 1).reshape(-1, K * C).contiguous()
        self.sums = A.sum(1)  # (K,V): of what arrives at each joint
        self.bias = self.sums.T @ b.view(K, -1)

    def backward(self, grad_weight, grad_matrix, grad_bias, b):
        """From gradients in weight, matrix and bias: those in A, W (of the right numbers) and b."""
        K = self.edges.partitions
        grad_A = (b.view(K, -1) @ grad_bias.T)[:, None].expand(self.shape).contiguous()
        grad_A.view(-1).index_add_(0, self.edges.flat, grad_weight)
        grad_W = grad_matrix.view(grad_matrix.shape[0], K, -1).transpose(0, 1).contiguous()
        return grad_A, grad_W, (self.sums @ grad_bias).flatten()


@dataclass(frozen=True)
class _Branch:
    tensors: list  # y, bias, gamma, beta, statistics
    gradients: list  # in y, bias, gamma, beta: to be filled in


class _Normalization:
    """A batch normalization of y (B,T,V,C) + bias: `affine` (2,V,C), a scale and shift for each column of y.

    bias: (V,C) or (C,), added to y on paper only.
    """

    def __init__(self, norm, y, bias, gamma, beta):
        V, C = y.shape[-2:]
        self.batch = norm.training
        self.affine = torch.empty(2, V, C)
        self.statistics = torch.empty(2 + V, C, dtype=torch.float64)
        momentum = 0.0
        if self.batch:
            norm.num_batches_tracked.add_(1)
            average = norm.momentum is None  # over all batches, each as heavy as another
            momentum = 1.0 / norm.num_batches_tracked.item() if average else norm.momentum
        _ops.normalization(
            y, bias, gamma, beta, norm.running_mean, norm.running_var, self.batch, momentum, norm.eps,
            self.affine, self.statistics,
        )  # fmt: skip

    def branch(self, y, *parameters):
        gradients = [torch.empty_like(tensor) for tensor in (y, *parameters)]
        return _Branch([y, *parameters, self.statistics], gradients)
