"""These losses in closed form over passes through the bank that store no similarities (`ops.bank.library`).

A pass gives log Σ_r e^{x·Q_r} for rows x and its gradient, the mean key; what else a loss has is of the size
of the features: the key, temperatures and their gradients, which are plain torch.
"""

import torch
import torch.nn.functional as F

from ikem_fast.ops._precision import outside_autocast
from ikem_fast.ops.bank import library

BANK_KEYS = 4096  # of which a mask becomes numbers at once


@outside_autocast
def moco_loss(q, k, queue, temperature, return_rank):
    """As in `reference`. With a difference of partitions, a loss near 0 keeps its digits."""
    u, y, bank = _unit(q), _unit(k), queue.detach()
    positive = (u * y).sum(-1) / temperature
    limits = positive.detach() if return_rank else None
    partition, rank = library.softmax("moco_loss", u / temperature, bank, limits)
    return F.softplus(partition - positive, threshold=30), rank if return_rank else None


@outside_autocast
def soft_contrast(student, teacher, k, queue, student_temperature, teacher_temperature):
    """As in `reference`: the teacher's mean over key and bank is what the student's softmax is held to."""
    u, t, y, bank = _unit(student), _unit(teacher.detach()), _unit(k), queue.detach()
    with torch.no_grad():
        positive = (t * y).sum(-1) / teacher_temperature
        partition, mean = library.softmax_mean(t / teacher_temperature, bank)
        first = torch.sigmoid(positive - partition).unsqueeze(-1)  # the teacher's probability of the key
        mean = (1 - first) * mean
    positive = (u * y).sum(-1) / student_temperature
    partition, _ = library.softmax("soft_contrast", u / student_temperature, bank)
    score = first.squeeze(-1) * positive + (u * mean).sum(-1) / student_temperature
    return torch.logaddexp(partition, positive) - score


@outside_autocast
def neighbor_kl(
    student, teacher, student_queue, teacher_queue, student_temperature, teacher_temperature, topk
):
    """As in `reference`."""
    u, t = _unit(student) / student_temperature, _unit(teacher.detach()) / teacher_temperature
    return library.neighbor_divergence(u, t, student_queue.detach(), teacher_queue.detach(), topk)


@outside_autocast
def multi_positive_nce(q, k, queue, rows, temperature):
    """Rows (P,N,R) of the bank, of which one that comes again does not count, or a mask (P,N,K) → (P,N)."""
    u, y, bank = _unit(q), _unit(k), queue.detach()
    positive = (u * y).sum(-1) / temperature
    partition, _ = library.softmax("multi_positive_nce", u / temperature, bank)
    summed, count = _sum_of_mask(bank, rows) if rows.dtype == torch.bool else _sum_of_rows(bank, rows)
    score = positive + (u * summed).sum(-1) / temperature
    return torch.logaddexp(partition, positive) - score / (1 + count)


def _unit(features):
    return F.normalize(features.float(), dim=-1)


def _sum_of_rows(bank, rows):
    """The sum of the keys in these rows (P,N,D), each once, and how many they are (P,N)."""
    rows = rows.sort(-1).values
    again = torch.zeros_like(rows, dtype=torch.bool)
    again[..., 1:] = rows[..., 1:] == rows[..., :-1]
    keys = bank[torch.arange(len(bank), device=bank.device)[:, None, None], rows].float()
    return keys.masked_fill(again.unsqueeze(-1), 0).sum(-2), (~again).sum(-1)


def _sum_of_mask(bank, mask):
    parts = zip(mask.split(BANK_KEYS, -1), bank.split(BANK_KEYS, 1), strict=True)
    return sum(part.float() @ keys.float() for part, keys in parts), mask.sum(-1)
