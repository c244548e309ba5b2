"""These losses in plain torch, every similarity written out: the truth that kernels are held to.

Features are (P,N,D), banks (P,K,D); losses come back per clip. Arguments are assumed valid (`api` checks).
"""

import torch
import torch.nn.functional as F

from ikem_fast.ops._precision import compute_dtype, outside_autocast


@outside_autocast
def moco_loss(q, k, queue, temperature, return_rank):
    """→ loss (P,N), and rank (P,N) or None."""
    u, y, queue = prepared(q, k, queue)
    positive, similarities = (u * y).sum(-1, keepdim=True), u @ queue.mT
    loss = cross_entropy(torch.cat([positive, similarities], -1) / temperature)
    return loss, (similarities > positive).sum(-1) if return_rank else None


@outside_autocast
def soft_contrast(student, teacher, k, queue, student_temperature, teacher_temperature):
    """→ (P,N): cross entropy of the student's logits with the teacher's softmax over key and bank."""
    u, t, y, queue = prepared(student, teacher.detach(), k, queue)
    logits = torch.cat([(u * y).sum(-1, keepdim=True), u @ queue.mT], -1) / student_temperature
    guide = torch.cat([(t * y).sum(-1, keepdim=True), t @ queue.mT], -1).detach() / teacher_temperature
    return torch.logsumexp(logits, -1) - (guide.softmax(-1) * logits).sum(-1)


@outside_autocast
def neighbor_kl(
    student, teacher, student_queue, teacher_queue, student_temperature, teacher_temperature, topk
):
    """→ (P,N): KL(teacher ‖ student) over the teacher's topk rows of the banks."""
    dtype = compute_dtype(student, teacher, student_queue, teacher_queue)
    u, t = (F.normalize(x.to(dtype), dim=-1) for x in (student, teacher.detach()))
    logits = u @ student_queue.detach().to(dtype).mT / student_temperature
    guide = t @ teacher_queue.detach().to(dtype).mT / teacher_temperature
    if topk < guide.shape[-1]:
        guide, rows = guide.topk(topk, -1)
        logits = logits.gather(-1, rows)
    p = guide.log_softmax(-1)
    return (p.exp() * (p - logits.log_softmax(-1))).sum(-1)


@outside_autocast
def multi_positive_nce(q, k, queue, positives, temperature):
    """Positives (P,N,K) bool → (P,N)."""
    u, y, queue = prepared(q, k, queue)
    logits = torch.cat([(u * y).sum(-1, keepdim=True), u @ queue.mT], -1) / temperature
    score = logits[..., 0] + torch.where(positives, logits[..., 1:], 0).sum(-1)
    return torch.logsumexp(logits, -1) - score / (1 + positives.sum(-1))


def prepared(*tensors):
    """Features of unit length and, last, the bank without a gradient, in the dtype of computation."""
    dtype = compute_dtype(*tensors)
    *features, queue = (tensor.to(dtype) for tensor in tensors)
    return *(F.normalize(x, dim=-1) for x in features), queue.detach()


def cross_entropy(logits):
    """Of logits (P,N,1+K) whose first is the right one → (P,N)."""
    target = torch.zeros(logits.shape[:-1].numel(), dtype=torch.int64, device=logits.device)
    return F.cross_entropy(logits.flatten(0, 1), target, reduction="none").view(logits.shape[:-1])
