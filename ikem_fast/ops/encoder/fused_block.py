"""A block of the encoder on a CPU: torch's convolutions, and everything between them in few passes.

`STGCN`'s modules are the definition, in plain torch; this computes the same from the same parameters.
Activations are (clips·bodies, T, V, C), so that convolutions find channels last and a frame is one row of V·C
columns for the kernels of csrc/encoder/encoder.h. For the backward pass are kept: the input, what each
convolution gave, and the output. Normalised activations, dropout masks and gathered joints are made again.
"""

from dataclasses import dataclass

import torch
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import BatchNorm2d, _BatchNorm

from ikem_fast.ops import _library
from ikem_fast.ops._support import Support

_ops = torch.ops.ikem_fast
# Up to so many numbers of input, float32 training takes plain torch: there is little to save, and it rounds
# as the published code does, which shows in gradients that are zero in exact arithmetic.
SMALL = 1 << 16


@dataclass(frozen=True)
class Edges:
    """The graph as a list of edges (k, v, w), in order of (w, k), for any values of A (K,V,V) on them."""

    index: tuple  # (k, v, w), each (E,) int64
    first: torch.Tensor  # (V·K + 1,) int64: where the edges into each (w, k) begin
    partitions: int

    @classmethod
    def of(cls, A):
        w, k, v = (A != 0).permute(2, 0, 1).nonzero(as_tuple=True)
        K, V, _ = A.shape
        first = torch.zeros(V * K + 1, dtype=torch.int64)
        first[1:] = torch.bincount(w * K + k, minlength=V * K).cumsum(0)
        return cls((k, v, w), first, K)

    def gather(self, x, weight):
        """x (…,V,C) → (…,V,K·C): Σ_v A[k,v,w] x[v]."""
        out = x.new_empty((*x.shape[:-1], self.partitions * x.shape[-1]))
        _ops.graph_forward(x, self.first, self.index[1], weight, self.partitions, out)
        return out

    def scatter(self, grad, x, weight, residual, output):
        """The gradients of `gather` in x, with residual·(output > 0) added, and in the edges' weights."""
        grad_x, grad_weight = torch.empty_like(x), weight.new_zeros(weight.shape, dtype=torch.float64)
        _ops.graph_backward(
            grad, x, residual, output, self.first, self.index[1], weight, self.partitions, grad_x, grad_weight
        )
        return grad_x, grad_weight.float()


def support_for(x, blocks):
    """The `Support` of the kernels for these blocks and an input x."""
    if torch.compiler.is_compiling():
        return Support("the kernels are not for torch.compile, which makes its own")
    if x.device.type != "cpu" or activation_dtype(x) not in (torch.float32, torch.bfloat16):
        found = f"{activation_dtype(x)} on {x.device}"
        return Support(f"the kernels are for float32 and bfloat16 on a CPU, found {found}")
    norm = next(
        (m for m in blocks.modules() if isinstance(m, _BatchNorm) and type(m) is not BatchNorm2d), None
    )
    if norm is not None:
        return Support(f"the kernels normalise as torch's BatchNorm2d does, found {type(norm).__name__}")
    return _library.support_on("cpu")


def pays(x):
    """Whether the kernels are worth their calls, and their other rounding, for an input x."""
    return activation_dtype(x) == torch.bfloat16 or x.numel() > SMALL


def activation_dtype(x):
    """The dtype that autocast gives convolutions of x."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def fused_block(block, x, A, edges):
    """`block(x, A)` for x (B,T,V,C) → (B,T',V,C')."""
    gcn, (norm1, _, conv, norm2, dropout) = block.gcn.conv, block.tcn
    partitions = edges.partitions
    with torch.autocast("cpu", enabled=False):
        # The bias of the graph convolution as it arrives at each joint.
        bias = A.sum(1).T @ gcn.bias.view(partitions, -1)
        weight1 = gcn.weight.view(partitions, -1, x.shape[-1]).permute(1, 0, 2).flatten(1)[..., None, None]
        branch = block.residual if isinstance(block.residual, torch.nn.Sequential) else (None, None)
        parameters = [bias, conv.bias, *_affine(norm1), *_affine(norm2)]
        convolutions = [weight1, conv.weight]
        if branch[0] is not None:
            parameters += [branch[0].bias, *_affine(branch[1])]
            convolutions += [branch[0].weight]
        convolutions = [w.to(x.dtype) for w in convolutions]
        probability = dropout.p if dropout.training else 0.0
        plan = _Plan(
            edges=edges,
            stride=conv.stride[0],
            norms=(norm1, norm2, branch[1]),
            residual="none" if block.residual is None else "identity" if branch[0] is None else "convolution",
            dropout=probability,
            seed=int(torch.randint(2**63 - 1, ())) if probability else 0,
        )
        return _Block.apply(x, A[edges.index], plan, *convolutions, *parameters)


def _affine(norm):
    return norm.weight, norm.bias


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
    def forward(ctx, x, weight, plan, *tensors):
        W1, W2, Wr, bias1, bias2, gamma1, beta1, gamma2, beta2, bias_r, gamma_r, beta_r = _named(
            plan, tensors
        )
        y1 = _convolve(plan.edges.gather(x, weight), W1)
        norm1 = _Normalisation.of(plan.norms[0], y1, bias1, gamma1, beta1)
        hidden = norm1.relu(y1)
        y2 = _convolve(hidden, W2, plan.stride)
        del hidden
        norm2 = _Normalisation.of(plan.norms[1], y2, bias2, gamma2, beta2)
        yr, norm_r = (x, None) if plan.residual == "identity" else (None, None)
        if plan.residual == "convolution":
            yr = _convolve(x, Wr, plan.stride)
            norm_r = _Normalisation.of(plan.norms[2], yr, bias_r, gamma_r, beta_r)
        out = torch.empty_like(y2)
        scale_r, shift_r = (norm_r.scale, norm_r.shift) if norm_r else (None, None)
        _ops.block_output(y2, norm2.scale, norm2.shift, yr, scale_r, shift_r, plan.dropout, plan.seed, out)
        ctx.plan, ctx.norms = plan, (norm1, norm2, norm_r)
        ctx.save_for_backward(x, weight, y1, y2, yr, out, W1, W2, Wr)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, y1, y2, yr, out, W1, W2, Wr = ctx.saved_tensors
        plan, (norm1, norm2, norm_r) = ctx.plan, ctx.norms
        grad = grad.contiguous()
        drop = plan.dropout, plan.seed

        sums = torch.zeros(4 if norm_r else 2, y2.shape[-2] * y2.shape[-1], dtype=torch.float64)
        _ops.block_output_sums(grad, out, y2, yr if norm_r else None, *drop, sums)
        coefficients, grad_bias2, grad_gamma2, grad_beta2 = norm2.backward(sums[:2])
        grad_y2 = torch.empty_like(y2)
        _ops.block_output_backward(grad, out, y2, coefficients, *drop, grad_y2)
        grad_past, residual_parameters, grad_Wr = None, (), ()
        if norm_r:
            coefficients, *residual_parameters = norm_r.backward(sums[2:])
            grad_yr = torch.empty_like(yr)
            _ops.block_output_backward(grad, out, yr, coefficients, 0.0, 0, grad_yr)
            grad_past, grad_Wr = _convolve_backward(grad_yr, x, Wr, plan.stride)
            grad_Wr = (grad_Wr,)
            del grad_yr

        hidden = norm1.relu(y1)
        grad_hidden, grad_W2 = _convolve_backward(grad_y2, hidden, W2, plan.stride)
        del hidden, grad_y2
        sums = torch.zeros(2, y1.shape[-2] * y1.shape[-1], dtype=torch.float64)
        _ops.normalise_relu_sums(grad_hidden, y1, norm1.scale, norm1.shift, sums)
        coefficients, grad_bias1, grad_gamma1, grad_beta1 = norm1.backward(sums)
        _ops.normalise_relu_backward(grad_hidden, y1, norm1.scale, norm1.shift, coefficients, grad_hidden)

        gathered = plan.edges.gather(x, weight)
        grad_gathered, grad_W1 = _convolve_backward(grad_hidden, gathered, W1)
        del gathered, grad_hidden
        past, output = (grad, out) if plan.residual == "identity" else (None, None)
        grad_x, grad_weight = plan.edges.scatter(grad_gathered, x, weight, past, output)
        if grad_past is not None:
            grad_x += grad_past
        return (
            grad_x, grad_weight, None, grad_W1, grad_W2, *grad_Wr,
            grad_bias1, grad_bias2, grad_gamma1, grad_beta1, grad_gamma2, grad_beta2, *residual_parameters,
        )  # fmt: skip


def _named(plan, tensors):
    """W1, W2, Wr, then biases and affine parameters; None for a residual branch that has none."""
    if plan.residual == "convolution":
        return tensors
    return (*tensors[:2], None, *tensors[2:], None, None, None)


class _Normalisation:
    """A batch normalisation of y (B,T,V,C) + bias, as one scale and shift for each column.

    bias: (V,C) or (C,), added to y on paper only.
    """

    @classmethod
    def of(cls, norm, y, bias, gamma, beta):
        self = cls()
        V, C = y.shape[-2:]
        self.batch = norm.training
        self.bias = bias.expand(V, C).double()
        if self.batch:
            sums = torch.zeros(2, V, C, dtype=torch.float64)
            _ops.column_sums(y, sums)
            frames = y.numel() // (V * C)
            total = sums[0] + frames * self.bias
            squares = sums[1] + self.bias * (total + sums[0])
            self.count = frames * V
            mean = total.sum(0) / self.count
            variance = (squares.sum(0) / self.count - mean * mean).clamp_min_(0)
            self.column_sums, self.frames = sums[0], frames
            _track(norm, mean, variance, self.count)
        else:
            mean, variance = norm.running_mean.double(), norm.running_var.double()
        self.mean = mean
        self.inverse = (variance + norm.eps).rsqrt()
        self.gamma = gamma.double()
        scale = self.gamma * self.inverse
        self.scale = scale.expand(V, C).float().contiguous()
        self.shift = (beta.double() + scale * (self.bias - mean)).float()
        return self

    def relu(self, y):
        out = torch.empty_like(y)
        _ops.normalise_relu(y, self.scale, self.shift, out)
        return out

    def backward(self, sums):
        """From Σ d and Σ d·y of each column, d the gradient in the result: (a, b, c) of the gradient in y,
        a·d + b·y + c, and the gradients in bias, gamma and beta.
        """
        d, dy = sums.view(2, *self.bias.shape)
        grad_beta = d.sum(0)
        grad_gamma = ((dy + d * self.bias).sum(0) - grad_beta * self.mean) * self.inverse
        a = self.gamma * self.inverse
        if self.batch:
            b = -a * self.inverse * grad_gamma / self.count
            c = b * (self.bias - self.mean) - a * grad_beta / self.count
            grad_bias = a * d + b * self.column_sums + c * self.frames
        else:
            b, c = torch.zeros_like(a), torch.zeros_like(self.bias)
            grad_bias = a * d
        coefficients = torch.stack([a.expand_as(c), b.expand_as(c), c]).float()
        return coefficients, grad_bias, grad_gamma.float(), grad_beta.float()


def _track(norm, mean, variance, count):
    """Let the running statistics follow, as `nn.BatchNorm2d` does."""
    if not norm.track_running_stats:
        return
    norm.num_batches_tracked += 1
    momentum = norm.momentum if norm.momentum is not None else 1.0 / norm.num_batches_tracked.item()
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    unbiased = variance * (count / max(count - 1, 1))
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), momentum)


def _convolve(x, weight, stride=1):
    """A convolution over time: x (B,T,V,C), weight (C',C,L,1) → (B,T',V,C')."""
    padding = (weight.shape[2] - 1) // 2
    y = torch.ops.aten.convolution(
        x.permute(0, 3, 1, 2), weight, None, (stride, 1), (padding, 0), (1, 1), False, (0, 0), 1
    )
    return y.permute(0, 2, 3, 1).contiguous()


def _convolve_backward(grad, x, weight, stride=1):
    """Gradients in x and weight."""
    padding = (weight.shape[2] - 1) // 2
    grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
        grad.permute(0, 3, 1, 2), x.permute(0, 3, 1, 2), weight, None,
        (stride, 1), (padding, 0), (1, 1), False, (0, 0), 1, (True, True, False),
    )  # fmt: skip
    return grad_x.permute(0, 2, 3, 1).contiguous(), grad_weight
