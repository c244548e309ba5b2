"""Nearest neighbours: how well the training clips most similar in their frozen features tell the action."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ikem_fast import ops
from ikem_fast.errors import InputError
from ikem_fast.evaluate.protocol import EvaluateConfig, frozen_features, scores_of, write_report

RESULTS = "knn.json"
QUERIES = 2048  # at once: bounds the similarities where an op has to store them


@dataclass(kw_only=True)
class KnnConfig(EvaluateConfig):
    """Settings of the evaluation by nearest neighbours.

    Args:
        k: how many neighbours vote.
        temperature: a neighbour's vote is exp(cosine similarity / temperature).
    """

    k: int = 20
    temperature: float = 0.07


def evaluate_knn(config):
    """Let the most similar clips of the split "train" vote on the action of each clip of "test".

    Similarity is the cosine of the features, for a set of several modalities the mean of their cosines.

    Args:
        config: `KnnConfig`.

    Returns:
        What is written to `out`/knn.json: settings, and for each set top-1, top-5 and the accuracy of each
        class in percent, and the confusion matrix (row: true class).

    Raises InputError for a dataset, checkpoint, set, device, k or temperature that cannot be used.

    Source: Wu et al. 2018, Unsupervised Feature Learning via Non-Parametric Instance Discrimination.
    """
    if config.temperature <= 0:
        raise InputError(f"temperature: expected a positive number, found {config.temperature}")
    features = frozen_features(config)
    clips = len(features.y_train)
    if not 1 <= config.k <= clips:
        raise InputError(f"k: expected 1 … {clips} (the training clips), found {config.k}")
    results = {}
    for name, columns in features.sets.items():
        votes = vote(
            features.x_test[:, columns],
            features.x_train[:, columns],
            F.one_hot(features.y_train, len(features.dataset.classes)).float(),
            config.k,
            config.temperature,
        )
        results[name] = scores_of(votes, features.y_test, features.dataset.classes)
    return write_report("Nearest neighbours", results, features, config, RESULTS)


def vote(queries, bank, targets, k, temperature):
    """Votes (N,C) on queries (N,S,H) by the k nearest of a bank (K,S,H) whose classes are targets (K,C)."""
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
