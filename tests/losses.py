"""The bank losses as tests call them: arguments, gradients, errors; the same for every implementation."""

import pytest
import torch
import torch.nn.functional as F

from ikem_fast import ops

# Name of a loss → its arguments, the one with a gradient first.
LOSSES = {
    "info_nce": ("q", "k", "queue"),
    "cross_modal_contrast": ("q", "k", "queue"),
    "implicit_exchange": ("z", "k", "queue"),
    "relational_distillation": ("student", "teacher", "queue"),
}
# Those that mine neighbors: they take topk and context, too.
RELATIONAL = ("cross_modal_contrast", "relational_distillation")
each_loss = pytest.mark.parametrize("name", LOSSES)


def draw(P=3, N=5, K=37, D=16, S=2, dtype=torch.float32, device="cpu"):
    """Arguments of every loss. Keys lie near their queries, as they do in training, and the bank holds a near
    neighbor of each query, so that rounding does not change which key is the nearest."""
    normal = lambda *shape: torch.randn(*shape, device=device, dtype=torch.float64)  # noqa: E731
    q, queue = normal(P, N, D), normal(P, K, D)
    queue[:, -min(N, K) :] = q[:, :K] + 0.2 * queue[:, -min(N, K) :]
    arguments = {
        "q": q,
        "k": q + 0.5 * normal(P, N, D),
        "z": normal(P, N, P * D),
        "student": normal(S, N, P * D),
        "teacher": q + 0.1 * normal(P, N, D),
        "queue": F.normalize(queue, dim=-1),
    }
    return {name: tensor.to(dtype) for name, tensor in arguments.items()}


def doubled(arguments):
    """The same in float64."""
    return {name: tensor.double() for name, tensor in arguments.items()}


def call(name, arguments, **options):
    """The loss by its name, of the arguments that `draw` gave."""
    return getattr(ops, name)(*(arguments[argument] for argument in LOSSES[name]), **options)


def gradient(name, arguments, **options):
    """(losses, gradient of their weighted sum in the learned features); options go to the op."""
    learned = LOSSES[name][0]
    leaf = arguments[learned].detach().clone().requires_grad_()
    loss = call(name, arguments | {learned: leaf}, **options)
    weights = torch.linspace(0.5, 2, loss.numel(), dtype=loss.dtype, device=loss.device).view(loss.shape)
    return loss.detach(), torch.autograd.grad((loss * weights).sum(), leaf)[0]


def relative(value, exact):
    """The distance of two tensors in units of the second."""
    return ((value - exact).norm() / exact.norm()).item()
