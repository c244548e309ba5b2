"""The blocks of encoders on a GPU: products by Triton kernels, and a few passes between them.

`STGCN`'s modules are the definition, in plain torch; this computes the same from the same parameters, of all
encoders of one form at once: activations are (encoders, clips·bodies, T, V, C), and parameters and running
statistics are put side by side in the same way, once for all blocks.
For the backward pass are kept: the input, what each convolution took and gave, and the output. Dropout masks
and gathered joints are made again. A convolution over time of many channels is torch's, which has the faster
ones there, one encoder after the other; what is around it is the same.
"""

import contextlib
from dataclasses import dataclass

import torch

from ikem_fast.ops._autograd import refusing_second_derivatives
from ikem_fast.ops.encoder.triton import launch
from ikem_fast.ops.encoder.triton.launch import Running
from ikem_fast.ops.encoder.triton.passes import Dropout
from ikem_fast.ops.encoder.triton.rows import Normalized, Rectified

MAX_TEMPORAL = 64  # channels of a convolution over time that the kernels take


def fused_blocks(encoders, x, graphs):
    """Compute the blocks of P encoders, one place after the other, for x (P,B,T,V,C) → (P,B,T',V,C').

    Args:
        encoders: of each its `nn.encoders.stgcn.Block`s, that `support_for` has said yes to; all are alike
            but for their numbers.
        x: bfloat16, float16 or float32, contiguous; also the dtype of the result.
        graphs: A (P,K,V,V) float32 for each place.
    """
    places = list(zip(*encoders, strict=True))
    dropouts = [blocks[0].tcn[4] for blocks in places]
    seeds = [None] * len(places)
    if any(dropout.training and dropout.p for dropout in dropouts):
        # On the device, so that a captured graph draws others each time.
        seeds = torch.randint(2**63 - 1, (len(places), len(x)), device=x.device)
    parameters = iter(_SideBySide.apply(len(x), *_each(places, _parameters)))
    norms = _each(places, _norms)
    means, variances = (
        _side_by_side([getattr(norm, name) for norm in norms], len(x))
        for name in ("running_mean", "running_var")
    )
    running = map(Running, norms[:: len(x)], means, variances)
    with torch.autocast(x.device.type, enabled=False), _on(x.device):
        for blocks, A, seed in zip(places, graphs, seeds, strict=True):
            plan = _plan(blocks[0], running, seed)
            x = _Block.apply(plan, x, A, *(next(parameters) for _ in _parameters(blocks[0])))
    _move_on(norms, means, variances)
    return x


def _convolutions(block):
    """A block's convolutions: over the graph, over time, and the residual's if it has one."""
    residual = [block.residual[0]] if isinstance(block.residual, torch.nn.Sequential) else []
    return [block.gcn.conv, block.tcn[2], *residual]


def _norms(block):
    """The normalizations of what these make."""
    residual = [block.residual[1]] if isinstance(block.residual, torch.nn.Sequential) else []
    return [block.tcn[0], block.tcn[3], *residual]


def _parameters(block):
    modules = *_convolutions(block), *_norms(block)
    return [tensor for module in modules for tensor in (module.weight, module.bias)]


def _each(places, parts):
    """The parts of all blocks, those of all encoders in one place after one another."""
    return [part for blocks in places for same in zip(*map(parts, blocks), strict=True) for part in same]


def _side_by_side(tensors, encoders):
    """Every so many tensors, of one shape each, as one (encoders, …)."""
    made = [tensor.new_empty((encoders, *tensor.shape)) for tensor in tensors[::encoders]]
    torch._foreach_copy_([part for whole in made for part in whole.unbind()], tensors)
    return made


class _SideBySide(torch.autograd.Function):
    @staticmethod
    def forward(ctx, encoders, *tensors):
        return tuple(_side_by_side(tensors, encoders))

    @staticmethod
    def backward(ctx, *grads):
        return None, *(part for grad in grads for part in grad.unbind())


def _move_on(norms, means, variances):
    """Write back the running statistics that the blocks have moved on."""
    for name, moved in (("running_mean", means), ("running_var", variances)):
        parts = [part for whole in moved for part in whole.unbind()]
        pairs = [
            (getattr(norm, name), part) for norm, part in zip(norms, parts, strict=True) if norm.training
        ]
        if pairs:
            torch._foreach_copy_(*map(list, zip(*pairs, strict=True)))
    if counts := [norm.num_batches_tracked for norm in norms if norm.training]:
        torch._foreach_add_(counts, 1)


def _on(device):
    """Triton launches on the current device: make it the tensors'."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


@dataclass(frozen=True)
class _Plan:
    """What the blocks of a place do, apart from their numbers."""

    stride: int
    norms: tuple  # `Running` of the graph convolution, the temporal convolution, the residual's convolution
    adds: bool  # what they took, as it is
    dropout: Dropout | None


def _plan(block, running, seed):
    dropout = block.tcn[4]
    drops = None
    if dropout.training and dropout.p:
        drops = Dropout(seed, int((1 - dropout.p) * (2**31 - 1)))
    norms = tuple(next(running) for _ in _norms(block))
    return _Plan(block.tcn[2].stride[0], norms, isinstance(block.residual, torch.nn.Identity), drops)


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(ctx, plan, x, A, *parameters):
        (W1, b1, W2, b2, *residual), affine = _split(parameters, plan)
        norm1, norm2, *norm_r = plan.norms
        weight1 = W1.view(*A.shape[:2], -1, x.shape[-1]).to(x.dtype)
        weight2, weight_r = _by_taps(W2, x.dtype), _by_taps(residual[0], x.dtype) if residual else None
        y1, moments = launch.over_graph(x, A, weight1, b1, norm1.training)
        table1 = launch.statistics(norm1, *affine[:2], moments, y1)
        hidden = launch.output(Normalized(y1, table1))
        y2, moments = _over_time(hidden, weight2, b2, plan.stride, norm2.training)
        table2 = launch.statistics(norm2, *affine[2:4], moments, y2)
        past, normalized_r = Normalized(x, None) if plan.adds else None, (None, None)
        if residual:
            y_r, moments = launch.over_time(x, weight_r, residual[1], plan.stride, norm_r[0].training)
            table_r = launch.statistics(*norm_r, *affine[4:], moments, y_r)
            past = normalized_r = Normalized(y_r, table_r)
        output = launch.output(Normalized(y2, table2), past, plan.dropout)
        ctx.op = "a block of STGCN"
        ctx.plan, ctx.parameters, ctx.apart = plan, len(parameters), isinstance(y2, list)
        # All inputs that have a gradient: what refuses second derivatives must know them.
        ctx.save_for_backward(
            x, A, *parameters, weight1, weight2, weight_r, y1, table1, hidden, table2, *normalized_r, output,
            *(y2 if ctx.apart else [y2]),
        )  # fmt: skip
        return output

    @staticmethod
    @refusing_second_derivatives
    def backward(ctx, grad):
        plan, (x, A, *others) = ctx.plan, ctx.saved_tensors
        parameters, others = others[: ctx.parameters], others[ctx.parameters :]
        weight1, weight2, weight_r, y1, table1, hidden, table2, y_r, table_r, output, *y2 = others
        norm1, norm2, *norm_r = plan.norms
        y2 = y2 if ctx.apart else y2[0]
        with _on(x.device):
            rectified = Rectified(grad.contiguous(), output)
            past = None if y_r is None else Normalized(y_r, table_r)
            sums, sums_r = launch.output_sums(rectified, Normalized(y2, table2), past, plan.dropout)
            by2, (grad_gamma2, grad_beta2, grad_b2) = launch.coefficients(norm2, sums, table2, y2)
            in_residual, affine_r, by_r = (), (), None
            if past is not None:
                by_r, (*affine_r, grad_b) = launch.coefficients(*norm_r, sums_r, table_r, y_r)
            grad_y2, grad_past = launch.output_backward(rectified, y2, by2, y_r, by_r, plan.dropout)
            past = rectified if plan.adds else None
            if by_r is not None:
                grad_x, _sums = launch.over_time_backward(grad_past, weight_r, plan.stride, x)
                past = Rectified(grad_x, None)
                in_residual = launch.over_time_weights(grad_past, x, weight_r, plan.stride), grad_b

            grad_hidden, sums, grad_W2 = _over_time_backward(
                grad_y2, Normalized(y1, table1), hidden, weight2, plan.stride
            )
            by1, (grad_gamma1, grad_beta1, _bias) = launch.coefficients(norm1, sums, table1, y1)
            cut = None if weight2.dim() == 4 else hidden  # the kernel's gradient is 0 already where this is
            grad_y1, _ = launch.output_backward(Rectified(grad_hidden, cut), y1, by1)
            grad_A, grad_W1, grad_b1 = launch.over_graph_weights(x, grad_y1, A, weight1, parameters[1])
            grad_x = launch.over_graph_backward(grad_y1, A, weight1, past)
        gradients = (
            grad_W1, grad_b1, grad_W2, grad_b2, *in_residual,
            grad_gamma1, grad_beta1, grad_gamma2, grad_beta2, *affine_r,
        )  # fmt: skip
        gradients = (g.view_as(of) for g, of in zip(gradients, parameters, strict=True))
        return None, grad_x, grad_A, *gradients


def _split(parameters, plan):
    """Those of convolutions, and those of normalizations, in pairs one after the other."""
    return parameters[: 2 * len(plan.norms)], parameters[2 * len(plan.norms) :]


def _by_taps(weight, dtype):
    """Weights (P,C',C,L,1) as the kernels take them, (P,L,C',C); torch's own of many channels."""
    P, made, given, taps, _ = weight.shape
    if taps > 1 and given > MAX_TEMPORAL:
        return weight.to(dtype)
    by_taps = torch.empty((P, taps, made, given), dtype=dtype, device=weight.device)
    return by_taps.copy_(weight.squeeze(4).permute(0, 3, 1, 2))


def _over_time(x, weight, bias, stride, moments):
    """The convolution over time of x (P,B,T,V,C), and its moments or None; torch's as a list of P."""
    if weight.dim() == 4:
        return launch.over_time(x, weight, bias, stride, moments)
    y = [
        torch.ops.aten.convolution(one.permute(0, 3, 1, 2), W, b.to(x.dtype), *_geometry(W, stride))
        for one, W, b in zip(x, weight, bias, strict=True)
    ]
    y = [one.permute(0, 2, 3, 1).contiguous() for one in y]
    return y, launch.moments(y) if moments else None


def _over_time_backward(grad, y, x, weight, stride):
    """Of that: the gradient in x, max(0, `Normalized` y), its sums where x > 0, and that in the weight."""
    if weight.dim() == 4:
        grad_x, sums = launch.over_time_backward(grad, weight, stride, x, y)
        return grad_x, sums, launch.over_time_weights(grad, x, weight, stride)
    pairs = [
        torch.ops.aten.convolution_backward(
            g.permute(0, 3, 1, 2),
            one.permute(0, 3, 1, 2),
            W,
            None,
            *_geometry(W, stride),
            (True, True, False),
        )[:2]
        for g, one, W in zip(grad, x, weight, strict=True)
    ]
    grad_x = [g.permute(0, 2, 3, 1).contiguous() for g, _ in pairs]
    grad_weight = torch.stack([g for _, g in pairs]).float()
    return grad_x, launch.output_sums(Rectified(grad_x, x), y)[0], grad_weight


def _geometry(weight, stride):
    """Stride, padding, dilation, whether transposed, output padding, groups."""
    return (stride, 1), ((weight.shape[2] - 1) // 2, 0), (1, 1), False, (0, 0), 1
