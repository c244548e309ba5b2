"""The bank losses as operators of torch, and their gradients; whoever computes them registers for a device.

The compiled library (csrc/bank) computes them for CPU tensors, `triton` for CUDA tensors, and for CPU
tensors too where TRITON_INTERPRET=1. `torch.library` gives each operator a schema and a fake, which is what
`torch.compile` and CUDA-graph capture need; the gradients are `autograd.Function`s around the operators,
which costs less a call than registering them.

Features x (P,N,D) meet the bank of their own modality, or if `wide` x (·,N,P·D) all banks side by side.
"""

import torch

from ikem_fast.ops import _library
from ikem_fast.ops._autograd import refusing_second_derivatives
from ikem_fast.ops._support import YES, Support, support_on_gpu, support_under_transforms

_LIBRARY = torch.library.Library("ikem_fast", "FRAGMENT")


def _define(schema, fake):
    _LIBRARY.define(schema)
    name = schema.split("(")[0]
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


def _fake_softmax(x, queue, limits, with_mean):
    above = x.new_empty(x.shape[:2] if limits is not None else (0,), dtype=torch.int64)
    return *_fake_attention(x, x, queue, 1.0, False, with_mean), above


def _fake_neighbor_divergence(student, teacher, student_queue, teacher_queue, topk, with_direction):
    return _fake_attention(student, teacher, student_queue, 1.0, False, with_direction)


def _fake_nearest(q, queue, topk):
    shape = (*q.shape[:2], topk)
    return q.new_empty(shape, dtype=torch.float32), q.new_empty(shape, dtype=torch.int64)


# InfoNCE of x against keys y and the bank: the loss (·,N) and, if asked for, its gradient in x.
_attention = _define(
    "attention(Tensor x, Tensor y, Tensor queue, float temperature, bool wide, bool with_direction)"
    " -> (Tensor loss, Tensor direction)",
    _fake_attention,
)
# The relational losses of A features x guided by B anchors (if `wide` the keys y, else the features
# themselves): loss (A,N), and what the backward pass needs: log-partitions of base 2 (A,B,N), s_a at the
# nearest keys of b (A,B,N,topk), those keys (B,N,topk) and b's own similarities there.
_relations = _define(
    "relations(Tensor x, Tensor y, Tensor queue, float temperature, bool wide, int topk, bool context)"
    " -> (Tensor loss, Tensor partition, Tensor scores, Tensor mined, Tensor values)",
    _fake_relations,
)
_relations_backward = _define(
    "relations_backward(Tensor grad, Tensor x, Tensor y, Tensor queue, Tensor partition, Tensor scores,"
    " Tensor mined, Tensor values, float temperature, bool wide, int topk, bool context) -> Tensor",
    _fake_relations_backward,
)
# Rows x as they are against the bank as it is: log Σ_r e^{x·Q_r} (P,N); if asked for the mean key, its
# gradient in x; and where there are limits (P,N), how many x·Q_r are above them.
_softmax = _define(
    "softmax(Tensor x, Tensor queue, Tensor? limits, bool with_mean)"
    " -> (Tensor partition, Tensor mean, Tensor above)",
    _fake_softmax,
)
# KL divergence of the student's softmax from the teacher's over the teacher's topk rows of the banks: the
# loss (P,N) and, if asked for, its gradient in the student.
_neighbor_divergence = _define(
    "neighbor_divergence(Tensor student, Tensor teacher, Tensor student_queue, Tensor teacher_queue,"
    " int topk, bool with_direction) -> (Tensor loss, Tensor direction)",
    _fake_neighbor_divergence,
)
_nearest = _define(
    "nearest(Tensor q, Tensor queue, int topk) -> (Tensor values, Tensor indices)", _fake_nearest
)

try:
    from ikem_fast.ops.bank import triton

    triton.register(_LIBRARY)
    TRITON = YES
except Exception as error:  # it is optional, and an old driver or a broken ptxas raises what it likes
    triton = None
    TRITON = Support(f"Triton cannot be imported: {type(error).__name__}: {error}")


def support_for(features, *others, topk=1):
    """The `Support` of the fused losses for these tensors, the bank last, and topk."""
    queue = others[-1]
    if any(tensor.dtype == torch.float64 for tensor in (features, *others)):
        return Support("fused losses compute in float32 and an argument is float64")
    transforms = support_under_transforms()
    if not transforms:
        return transforms
    device = queue.device.type
    if device == "cpu" and not (triton and triton.INTERPRETED):
        return _library.support_on("cpu")
    if device not in ("cpu", "cuda"):
        return Support(f"there are no fused losses for device {queue.device}")
    able = support_on_gpu(queue.device) if TRITON and device == "cuda" else TRITON
    return triton.support_for(queue, topk) if able else able


def info_nce(q, k, queue, temperature):
    """(P,N,D), (P,N,D), (P,K,D) → (P,N)."""
    return _Attention.apply("info_nce", q, k, queue, temperature, False, _learns(q))


def implicit_exchange(z, k, queue, temperature):
    """z (P,N,P·D), k (P,N,D), queue (P,K,D) → (P,N)."""
    return _Attention.apply("implicit_exchange", z, k, queue, temperature, True, _learns(z))


def cross_modal_contrast(q, k, queue, temperature, topk, context):
    """(P,N,D), (P,N,D), (P,K,D) → (P,N)."""
    return _Relations.apply("cross_modal_contrast", q, k, queue, temperature, False, topk, context)


def relational_distillation(student, teacher, queue, temperature, topk, context):
    """student (S,N,P·D), teacher (P,N,D), queue (P,K,D) → (S,N)."""
    name = "relational_distillation"
    return _Relations.apply(name, student, teacher, queue, temperature, True, topk, context)


def nearest_neighbors(q, queue, topk):
    """(P,N,D), (P,K,D) → values (P,N,topk), indices (P,N,topk) int64, most similar first."""
    return _nearest(q, queue, topk)


def softmax(op, x, queue, limits=None):
    """Rows x (P,N,D) as they are, bank (P,K,D) → log Σ_r e^{x·Q_r} (P,N), and #{r: x·Q_r > limit} or empty.

    op: whose name an error has.
    """
    return _Softmax.apply(op, x, queue, limits, _learns(x))


def softmax_mean(x, queue):
    """Rows x (P,N,D) as they are → log Σ_r e^{x·Q_r} (P,N), Σ_r softmax_r(x·Q_r) Q_r (P,N,D); no gradient."""
    return _softmax(x, queue, None, True)[:2]


def neighbor_divergence(student, teacher, student_queue, teacher_queue, topk):
    """Rows as they are (P,N,D), banks (P,K,D) → (P,N)."""
    return _NeighborDivergence.apply(student, teacher, student_queue, teacher_queue, topk, _learns(student))


def divergence_support(student, teacher, student_queue, teacher_queue):
    """The `Support` of `neighbor_divergence`."""
    if student.device.type != "cpu":
        return Support(f"the divergence of neighbors is computed on a CPU alone, found {student.device}")
    support = support_for(student, teacher, student_queue, teacher_queue)
    return _library.support_on("cpu") if support else support


def _learns(features):
    return torch.is_grad_enabled() and features.requires_grad


class _Attention(torch.autograd.Function):
    """InfoNCE of x: (·,N). The forward pass leaves the gradient: the bank may change before the backward."""

    @staticmethod
    def forward(ctx, op, x, y, queue, temperature, wide, with_direction):
        loss, direction = _attention(x, y, queue, temperature, wide, with_direction)
        ctx.save_for_backward(x, direction)
        ctx.op = op
        return loss

    @staticmethod
    @refusing_second_derivatives
    def backward(ctx, grad):
        x, direction = ctx.saved_tensors
        return None, (grad.unsqueeze(-1) * direction).to(x.dtype), *[None] * 5


class _Relations(torch.autograd.Function):
    """The relational losses of x: (A,N)."""

    @staticmethod
    def forward(ctx, op, x, y, queue, temperature, wide, topk, context):
        loss, *saved = _relations(x, y, queue, temperature, wide, topk, context)
        ctx.save_for_backward(x, y, queue, *saved)
        ctx.op, ctx.options = op, (temperature, wide, topk, context)
        return loss

    @staticmethod
    @refusing_second_derivatives
    def backward(ctx, grad):
        return None, _relations_backward(grad, *ctx.saved_tensors, *ctx.options), *[None] * 6


class _Softmax(torch.autograd.Function):
    """Log-partitions (P,N) of rows x. The forward pass leaves the gradient."""

    @staticmethod
    def forward(ctx, op, x, queue, limits, with_mean):
        partition, mean, above = _softmax(x, queue, limits, with_mean)
        ctx.save_for_backward(x, mean)
        ctx.mark_non_differentiable(above)
        ctx.op = op
        return partition, above

    @staticmethod
    @refusing_second_derivatives
    def backward(ctx, grad, _):
        x, mean = ctx.saved_tensors
        return None, (grad.unsqueeze(-1) * mean).to(x.dtype), None, None, None


class _NeighborDivergence(torch.autograd.Function):
    """Divergences (P,N). The forward pass leaves the gradient."""

    @staticmethod
    def forward(ctx, student, teacher, student_queue, teacher_queue, topk, with_direction):
        loss, direction = _neighbor_divergence(
            student, teacher, student_queue, teacher_queue, topk, with_direction
        )
        ctx.save_for_backward(student, direction)
        ctx.op = "neighbor_kl"
        return loss

    @staticmethod
    @refusing_second_derivatives
    def backward(ctx, grad):
        student, direction = ctx.saved_tensors
        return (grad.unsqueeze(-1) * direction).to(student.dtype), *[None] * 5
