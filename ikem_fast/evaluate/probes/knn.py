"""Votes of the training clips that are most similar in their features."""

import torch
import torch.nn.functional as F

from ikem_fast import ops

QUERIES = 2048  # at once: bounds the similarities where an op has to store them


def vote(
    queries: torch.Tensor, bank: torch.Tensor, targets: torch.Tensor, k: int, temperature: float
) -> torch.Tensor:
    """Let the k nearest of a bank vote on queries.

    Similarity is the mean of the cosines of the S modalities; a vote weighs exp((similarity − 1) /
    temperature).

    Args:
        queries: (N,S,H). bank: (K,S,H). targets: (K,C) float, the classes of the bank as one-hot rows.

    Returns:
        (N,C) votes.

    Source: Wu et al. 2018, Unsupervised Feature Learning via Non-Parametric Instance Discrimination.
    """
    queries, bank = _side_by_side(queries), _side_by_side(bank)
    votes = []
    for part in queries.split(QUERIES):
        similarities, nearest = ops.nearest_neighbors(part[None], bank[None], k)
        weights = ((similarities[0] - 1) / temperature).exp()
        votes.append((weights[..., None] * targets[nearest[0]]).sum(1))
    return torch.cat(votes)


def _side_by_side(x):
    """(N,S,H) → (N,S·H) unit rows whose products are the mean of the modalities' cosines."""
    return (F.normalize(x.float(), dim=-1) / x.shape[1] ** 0.5).flatten(1).to(x.dtype)
