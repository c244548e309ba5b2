"""What autograd may ask of a fused implementation: first derivatives in reverse mode; all else is refused.

Transforms of functions (vmap, jvp, torch.func.grad, jacrev) and forward-mode differentiation can be seen
beforehand: fused implementations have no `Support` under them, plain torch computes. That a second derivative
will be asked for cannot be seen; it raises when it is, and is never wrong or missing in silence.
"""

import functools

import torch
from torch.autograd import forward_ad


def transform_at_work() -> str | None:
    """Say which transform of functions or forward mode a call is under, or None: no kernel knows any."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "torch.func (vmap, grad, jvp, jacrev)"
    return "forward-mode differentiation" if forward_ad._current_level >= 0 else None


def refusing_second_derivatives(backward):
    """Decorate the `backward` of a torch.autograd.Function whose gradients cannot be differentiated again.

    It computes outside autocast, under which a backward pass may be asked for.

    Gradients of a backward pass with create_graph=True are joined to everything they depend on by a node that
    raises when it is reached, whether or not the incoming gradient requires one. The Function must have saved
    with `save_for_backward` every input that it is differentiable in, since gradients depend on those, and
    named itself `ctx.op`, for the message.

    Example:
        @staticmethod
        @refusing_second_derivatives
        def backward(ctx, grad): ...
    """

    @functools.wraps(backward)
    def wrapper(ctx, *incoming):
        device = next(gradient.device.type for gradient in incoming if gradient is not None)
        with torch.no_grad(), torch.autocast(device, enabled=False):
            gradients = backward(ctx, *incoming)
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return gradients
        origins = [t for t in (*incoming, *ctx.saved_tensors) if t is not None and t.requires_grad]
        tensors = [g for g in gradients if g is not None]
        marked = iter(_Refusal.apply(ctx.op, len(tensors), *tensors, *origins))
        return tuple(None if g is None else next(marked) for g in gradients)

    return wrapper


class _Refusal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, op, count, *tensors):
        ctx.op = op
        return tuple(tensor.clone() for tensor in tensors[:count])

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError(
            f"{ctx.op}: the fused implementation has no second derivatives; impl='reference' has, "
            "it computes in plain torch"
        )
