"""The bank losses as the published code writes them, in our words, and as torch's own cross entropy.

`published`: logits and masks written out, a pair of modalities at a time. `linear_cross_entropy`: torch's
chunked cross entropy, for the exchange. Each takes the op's name and its arguments (features, keys, bank) and
returns the loss of every clip.
"""

import math

import torch
import torch.nn.functional as F

TEMPERATURE, TOPK = 0.07, 1


def published(name, features, keys, queue):
    """Every similarity, product, logit and mask of the loss as a tensor in memory."""
    features, keys = F.normalize(features, dim=-1), F.normalize(keys, dim=-1)
    banks = [bank.clone().detach() for bank in queue]
    if name == "nearest_neighbors":
        return torch.stack([
            (q @ bank.T).topk(TOPK, dim=1).values for q, bank in zip(features, banks, strict=True)
        ])  # fmt: skip
    if name == "info_nce":
        return torch.stack([
            _masked(_positive(q, k), [q @ bank.T]) for q, k, bank in zip(features, keys, banks, strict=True)
        ])  # fmt: skip
    if name == "cross_modal_contrast":
        negatives = [q @ bank.T for q, bank in zip(features, banks, strict=True)]
        positives = [_positive(q, k) for q, k in zip(features, keys, strict=True)]
        return torch.stack([
            torch.stack([
                _masked(positives[i], [negatives[i], negatives[i] * negatives[j]], _nearest(negatives[j]))
                for j in range(len(queue)) if j != i
            ]).mean(0)
            for i in range(len(queue))
        ])  # fmt: skip
    key, bank = F.normalize(torch.cat(list(keys), -1), dim=-1), F.normalize(torch.cat(banks, -1), dim=-1)
    if name == "implicit_exchange":
        return torch.stack([_masked(_positive(z, key), [z @ bank.T]) for z in features])
    losses = []
    for student in features:
        own = student @ bank.T
        teachers = [t @ each.T for t, each in zip(keys, banks, strict=True)]
        pairs = [_masked(_positive(student, key), [own, own * t], _nearest(t)) for t in teachers]
        losses.append(torch.stack(pairs).mean(0))
    return torch.stack(losses)


def _positive(query, key):
    return torch.einsum("nc,nc->n", query, key).unsqueeze(-1)


def _nearest(similarities):
    """One-hot mask of the nearest keys."""
    return torch.zeros_like(similarities).scatter_(1, similarities.topk(TOPK, dim=1).indices, 1)


def _masked(positive, negatives, mined=None):
    """−Σ mask·log softmax(logits) / Σ mask over one row of logits for each clip."""
    logits = torch.cat([positive, *negatives], 1) / TEMPERATURE
    mask = [torch.ones_like(positive), *(torch.zeros_like(n) if mined is None else mined for n in negatives)]
    mask = torch.cat(mask, 1)
    return -(mask * F.log_softmax(logits, 1)).sum(1) / mask.sum(1)


def linear_cross_entropy(name, features, keys, queue):
    """The exchange by `F.linear_cross_entropy`, which never writes all logits either.

    It wants one matrix of classes for all rows, and the positive is another key for each: so the first key
    of the bank stands in for the target, and log-sum-exp of the bank = that loss + its logit.
    """
    if name != "implicit_exchange":
        raise ValueError(f"{name}: torch's linear cross entropy serves the implicit exchange alone")
    P, N, _ = keys.shape
    scale = 1 / (TEMPERATURE * math.sqrt(P))
    rows = F.normalize(features, dim=-1).flatten(0, 1) * scale
    bank = queue.movedim(0, 1).flatten(1)
    key = F.normalize(keys, dim=-1).movedim(0, 1).flatten(1).repeat(P, 1)
    target = torch.zeros(P * N, dtype=torch.int64, device=rows.device)
    total = F.linear_cross_entropy(rows, bank, target, reduction="none") + rows @ bank[0]
    return F.softplus(total - (rows * key).sum(-1)).view(P, N)
