"""The kernels as operators of torch, and their gradients.

`torch.library` gives each a schema and a fake, which is what `torch.compile` and CUDA-graph capture need;
the gradients are `autograd.Function`s around the operators, which costs less a call than registering them.
"""

import torch
from torch.autograd.function import once_differentiable

from ikem_fast.ops.bank.triton.attention import attention
from ikem_fast.ops.bank.triton.launch import INTERPRETED
from ikem_fast.ops.bank.triton.neighbors import nearest
from ikem_fast.ops.bank.triton.relations import relations
from ikem_fast.ops.bank.triton.relations_backward import relations_backward

_LIBRARY = torch.library.Library("ikem_fast", "FRAGMENT")


def _define(schema, launcher, fake):
    name = schema.split("(")[0]
    _LIBRARY.define(schema)
    for device in ("CUDA", "CPU") if INTERPRETED else ("CUDA",):
        _LIBRARY.impl(name, launcher, device)
    torch.library.register_fake(f"ikem_fast::{name}", fake, lib=_LIBRARY)
    return getattr(torch.ops.ikem_fast, name).default


def _fake_attention(x, y, queue, temperature, wide, with_direction):
    loss = x.new_empty(x.shape[:2], dtype=torch.float32)
    return loss, x.new_empty(x.shape if with_direction else (0,), dtype=torch.float32)


def _fake_relations(x, y, queue, temperature, wide, topk, context):
    A, N, _ = x.shape
    B = len(queue)
    return (
        x.new_empty((A, N), dtype=torch.float32),
        x.new_empty((A, B, N), dtype=torch.float32),
        x.new_empty((A, B, N, topk), dtype=torch.float32),
        *_fake_nearest(y, queue, topk)[::-1],
    )


def _fake_relations_backward(
    grad, x, y, queue, partition, scores, mined, values, temperature, wide, topk, context
):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _fake_nearest(q, queue, topk):
    shape = (*q.shape[:2], topk)
    return q.new_empty(shape, dtype=torch.float32), q.new_empty(shape, dtype=torch.int64)


_attention = _define(
    "attention(Tensor x, Tensor y, Tensor queue, float temperature, bool wide, bool with_direction)"
    " -> (Tensor loss, Tensor direction)",
    attention,
    _fake_attention,
)
_relations = _define(
    "relations(Tensor x, Tensor y, Tensor queue, float temperature, bool wide, int topk, bool context)"
    " -> (Tensor loss, Tensor partition, Tensor scores, Tensor mined, Tensor values)",
    relations,
    _fake_relations,
)
_relations_backward = _define(
    "relations_backward(Tensor grad, Tensor x, Tensor y, Tensor queue, Tensor partition, Tensor scores,"
    " Tensor mined, Tensor values, float temperature, bool wide, int topk, bool context) -> Tensor",
    relations_backward,
    _fake_relations_backward,
)
nearest_keys = _define(
    "nearest(Tensor q, Tensor queue, int topk) -> (Tensor values, Tensor indices)", nearest, _fake_nearest
)


class Attention(torch.autograd.Function):
    """InfoNCE of x (P,N,·): loss (P,N). The forward pass leaves the gradient; see `attention`."""

    @staticmethod
    def forward(ctx, x, y, queue, temperature, wide, with_direction):
        loss, direction = _attention(x, y, queue, temperature, wide, with_direction)
        ctx.save_for_backward(direction)
        ctx.dtype = x.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (direction,) = ctx.saved_tensors
        return (grad.unsqueeze(-1) * direction).to(ctx.dtype), None, None, None, None, None


class Relations(torch.autograd.Function):
    """The relational losses of x: (A,N); see `relations`."""

    @staticmethod
    def forward(ctx, x, y, queue, temperature, wide, topk, context):
        loss, *saved = _relations(x, y, queue, temperature, wide, topk, context)
        ctx.save_for_backward(x, y, queue, *saved)
        ctx.options = temperature, wide, topk, context
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        gradient = _relations_backward(grad, *ctx.saved_tensors, *ctx.options)
        return gradient, None, None, None, None, None, None
