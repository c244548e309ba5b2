"""Dropout by the compiled library: the draws of torch's generator for CPUs, the same ones in order."""

import functools
import threading

import torch

from ikem_fast.ops import _library
from ikem_fast.ops._support import YES, Support, support_under_transforms

_ops = torch.ops.ikem_fast
_drawing = threading.Lock()  # a state is taken, moved on and put back


def support_for(x):
    """The `Support` of the kernels for x."""
    if torch.compiler.is_compiling():
        return Support("the kernels move a generator that torch.compile knows nothing of")
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return Support(f"the kernels are for float32 on a CPU, found {x.dtype} on {x.device}")
    if not any(x.is_contiguous(memory_format=kept) for kept in _orders(x)):
        return Support(f"the kernels are for contiguous tensors, found strides {x.stride()}")
    return support_under_transforms() and _library.support_on("cpu") and _draws_alike()


def dropout(x, p, inplace):
    """As `torch.nn.functional.dropout` in training, 0 < p < 1."""
    return _Dropout.apply(x, p, inplace)


def _orders(x):
    """Orders of dimensions whose elements torch draws for as they lie in memory."""
    own = {4: torch.channels_last, 5: torch.channels_last_3d}
    return (torch.contiguous_format, *([own[x.dim()]] if x.dim() in own else []))


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, p, inplace):
        out = x if inplace else torch.empty_like(x)
        mask = torch.empty_like(x, dtype=torch.uint8) if ctx.needs_input_grad[0] else None
        ctx.scale = _scale(p)
        with _drawing:
            _draw(torch.default_generator, x, p, ctx.scale, out, mask)
        ctx.save_for_backward(mask)
        if inplace:
            ctx.mark_dirty(x)
        return out

    @staticmethod
    def backward(ctx, grad):
        return _Kept.apply(grad, *ctx.saved_tensors, ctx.scale), None, None


class _Kept(torch.autograd.Function):
    """What is kept of x, times a number: linear, and so is its gradient."""

    @staticmethod
    def forward(ctx, x, mask, scale):
        ctx.save_for_backward(mask)
        ctx.scale = scale
        same_order = torch.empty_like(mask, dtype=x.dtype)
        if x.stride() != mask.stride():
            x = same_order.copy_(x)
        _ops.scale_kept(x, mask, scale, same_order)
        return same_order

    @staticmethod
    def backward(ctx, grad):
        return _Kept.apply(grad, *ctx.saved_tensors, ctx.scale), None, None


def _scale(p):
    """What is kept is multiplied by: 1 / (1 − p), divided as torch does, in float32."""
    return torch.ones(()).div_(1 - p).item()


def _draw(generator, x, p, scale, out, mask):
    state = generator.get_state()
    _ops.dropout(state, x, 1 - p, scale, out, mask)
    generator.set_state(state)


@functools.cache
def _draws_alike():
    """Whether this torch draws as the kernels do: on some processors it may take another library's way."""
    size, p = 2000, 0.3
    theirs, ours = (torch.Generator().manual_seed(7) for _ in range(2))
    kept, mask = torch.empty(size), torch.empty(size, dtype=torch.uint8)
    for generator in (theirs, ours):
        torch.empty(3).uniform_(generator=generator)  # an odd number of draws
    kept.bernoulli_(1 - p, generator=theirs)
    x = torch.ones(size)
    _draw(ours, x, p, _scale(p), x, mask)
    if torch.equal(kept, mask.float()) and torch.equal(theirs.get_state(), ours.get_state()):
        return YES
    return Support("this torch draws in another way on this processor")
