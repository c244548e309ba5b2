"""What autograd may ask of a fused implementation: first derivatives; all else is refused by name."""

import functools

import torch

# What a user can do about it; every refusal ends in it.
ADVICE = "impl='reference' computes in plain torch, which can"


def refusing_second_derivatives(name):
    """Decorate the `backward` of a torch.autograd.Function whose gradients cannot be differentiated again.

    Gradients of a backward pass with create_graph=True are joined to everything they depend on by a node that
    raises when it is reached, whether or not the incoming gradient requires one. The Function must have saved
    with `save_for_backward` every input that it is differentiable in: they are what the gradients depend on.

    Args:
        name: of the operation, for the message.

    Example:
        @staticmethod
        @refusing_second_derivatives("the encoder's fused block")
        def backward(ctx, grad): ...
    """

    def decorate(backward):
        @functools.wraps(backward)
        def wrapper(ctx, *incoming):
            with torch.no_grad():
                gradients = backward(ctx, *incoming)
            if not torch.is_grad_enabled():
                return gradients
            several = isinstance(gradients, tuple)
            gradients = gradients if several else (gradients,)
            origins = [t for t in (*incoming, *ctx.saved_tensors) if t is not None and t.requires_grad]
            tensors = [g for g in gradients if g is not None]
            marked = iter(_Refusal.apply(name, len(tensors), *tensors, *origins))
            gradients = tuple(None if g is None else next(marked) for g in gradients)
            return gradients if several else gradients[0]

        return wrapper

    return decorate


class _Refusal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, name, count, *tensors):
        ctx.name = name
        return tuple(tensor.clone() for tensor in tensors[:count])

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError(f"{ctx.name} has no second derivatives; {ADVICE}")


def transformed(*tensors):
    """Say which of torch's transforms is at work on a call, or None: fused implementations know none of them.

    Looks for functorch's (grad, vmap, jvp, …), forward-mode differentiation, torch.compile and its kin,
    torch.jit.trace, and tensors that are not plain ones.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return "torch.compile, export or trace, which make kernels of their own"
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "a transform of torch.func"
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode differentiation"
    odd = next((t for t in tensors if type(t) not in _PLAIN), None)
    return None if odd is None else f"a tensor of type {type(odd).__name__}"


_PLAIN = (torch.Tensor, torch.nn.Parameter)
