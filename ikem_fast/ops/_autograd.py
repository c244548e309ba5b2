"""What fused implementations cannot differentiate: refused by name, never wrong in silence.

A fused op has a first derivative, in reverse mode, of its learned argument. Transforms of functions (vmap,
jvp, torch.func.grad, jacrev) and forward-mode differentiation go through plain torch, so the fused op does
not support tensors that they have wrapped. That a second derivative will be asked for cannot be seen
beforehand; it raises when it is.
"""

import torch
from torch.autograd import forward_ad

from ikem_fast.ops._support import YES, Support


def support_under_transforms(*tensors: torch.Tensor | None) -> Support:
    """Say whether a fused op may take these tensors, as far as functional transforms go."""
    if torch.compiler.is_compiling():
        return YES
    for tensor in tensors:
        if tensor is None:
            continue
        if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            return Support(
                "it is not for torch.func (vmap, grad, jvp, jacrev), which goes through plain torch"
            )
        if forward_ad.unpack_dual(tensor).tangent is not None:
            return Support("it has no forward-mode derivative")
    return YES


def differentiable_once(op: str, gradient: torch.Tensor, *sources: torch.Tensor) -> torch.Tensor:
    """Return a gradient whose own derivative in `sources` raises, instead of being 0 or missing.

    Args:
        op: name of the op, for the message.
        gradient: what its backward pass computed.
        sources: the tensors that it was computed from.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return gradient
    return _Once.apply(op, gradient, *sources)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, op, gradient, *sources):
        ctx.op = op
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError(
            f"{ctx.op}: the fused implementation has no second derivative; call it with impl='reference'"
        )
