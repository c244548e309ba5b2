"""A convolution over time of rows in time's order, as products of matrices.

With time ahead of the clips, a tap of the kernel sees the same rows some steps away: each tap is one product
of a contiguous part of them, added in place, without padding or an unfolded copy. On one thread it takes a
fifth less than `conv1d`. A stride above 1 has no such contiguous parts: its windows are copied.
"""

import torch
import torch.nn.functional as F

from ikem_fast.ops._precision import outside_autocast


def convolve_over_time(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    *,
    clips: int,
    dilation: int = 1,
    stride: int = 1,
) -> torch.Tensor:
    """Convolve over time, with zeros beyond the ends, so that every frame is the middle of a window.

    Args:
        x: (T·B, C) rows, time first: row t·B + b is frame t of clip b.
        weight: (C', C, L) as `torch.nn.Conv1d` has it, L odd, of the dtype of x.
        bias: (C',).
        clips: B.
        dilation: frames from one tap to the next.
        stride: frames from one window to the next; with one above 1, dilation is 1.

    Returns:
        (⌈T/stride⌉·B, C'). Differentiable, also twice.

    Example:
        x = torch.randn(50 * 8, 128)
        y = convolve_over_time(x, torch.randn(64, 128, 5), torch.zeros(64), clips=8, dilation=2)  # (400, 64)
    """
    if torch.compiler.is_exporting():  # other runtimes know convolutions, and no sums into parts of a tensor
        return _as_conv1d(x, weight, bias, clips, dilation, stride)
    taps = weight.permute(2, 1, 0)
    if stride > 1:
        return torch.addmm(bias, _windows(x, len(taps), clips, stride), taps.flatten(0, 1))
    if len(taps) == 1:
        return torch.addmm(bias, x, taps[0])
    return _Shifted.apply(x, taps.contiguous(), bias, clips * dilation)


def _as_conv1d(x, weight, bias, clips, dilation, stride):
    frames = x.view(-1, clips, x.shape[1]).permute(1, 2, 0)
    padding = weight.shape[2] // 2 * dilation
    y = F.conv1d(frames, weight, bias, stride=stride, padding=padding, dilation=dilation)
    return y.permute(2, 0, 1).flatten(0, 1)


class _Shifted(torch.autograd.Function):
    """Σ_k (x shifted by the distance of tap k) W_k + b; autograd's own would copy x for every tap."""

    @staticmethod
    def forward(x, taps, bias, step):
        y = torch.addmm(bias, x, taps[len(taps) // 2])
        for k, into, out_of in _shifts(len(taps), step, len(x)):
            y[into].addmm_(x[out_of], taps[k])
        return y

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, taps, _, ctx.step = inputs
        ctx.save_for_backward(x, taps)

    @staticmethod
    def backward(ctx, grad):
        return *_shifted_gradients(grad, *ctx.saved_tensors, ctx.step), None


@outside_autocast
def _shifted_gradients(grad, x, taps, step):
    """Of `_Shifted` in x, the taps and the bias."""
    middle = len(taps) // 2
    grad_x = grad @ taps[middle].T
    grad_taps = [torch.zeros_like(tap) for tap in taps]
    grad_taps[middle] = x.T @ grad
    for k, into, out_of in _shifts(len(taps), step, len(x)):
        grad_x[out_of].addmm_(grad[into], taps[k].T)
        grad_taps[k] = x[out_of].T @ grad[into]
    return grad_x, torch.stack(grad_taps), grad.sum(0)


def _windows(x, length, clips, stride):
    """Rows (T·B,C) as windows (⌈T/stride⌉·B, L·C): a copy, for which a stride above 1 leaves little."""
    frames = x.view(-1, clips, x.shape[1])
    padded = F.pad(frames, (0, 0, 0, 0, length // 2, length // 2))
    windows = [padded[k : k + len(frames) : stride] for k in range(length)]
    return torch.cat(windows, 2).flatten(0, 1)


def _shifts(taps, step, rows):
    """Of every tap but the middle one that meets a row: its number, the rows it adds to, those it sees."""
    for k in range(taps):
        shift = (k - taps // 2) * step
        if shift and abs(shift) < rows:
            yield k, slice(max(-shift, 0), rows - max(shift, 0)), slice(max(shift, 0), rows - max(-shift, 0))
