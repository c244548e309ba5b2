"""Votes of the training clips that are most similar in their features; how many, by cross-validation."""

import torch
import torch.nn.functional as F

from ikem_fast import ops
from ikem_fast.evaluate.probes.base import Examples, Fitted, Sets
from ikem_fast.evaluate.probes.folds import make_folds

QUERIES = 2048  # at once: bounds the similarities where an op has to store them
COUNTS = (1, 3, 5, 10, 20)  # of neighbors, among which cross-validation chooses


def fit_knn(
    examples: Examples,
    sets: Sets,
    *,
    k: int | None = None,
    temperature: float = 0.07,
    standardize: bool = False,
) -> dict[str, Fitted]:
    """Keep the training clips of each set, to vote on others.

    Similarity is the mean of the modalities' cosines; a vote weighs exp((similarity − 1) / temperature).

    Args:
        examples: training clips.
        sets: the sets.
        k: how many neighbors vote; if not given, the number out of `COUNTS` that gets most clips right when
            folds of training clips are left out in turn (see `make_folds`), of several the smallest.
        temperature: what similarities are divided by.
        standardize: whether features are standardized first, by statistics of the training clips.

    Source: Wu et al. 2018, Unsupervised Feature Learning via Non-Parametric Instance Discrimination.
    """
    center, scale = _statistics(examples.x) if standardize else (0.0, 1.0)
    targets = F.one_hot(examples.y, examples.classes).float()

    def fit(columns):
        def ready(x):
            return side_by_side(((x - center) * scale)[:, columns] if standardize else x[:, columns])

        bank, chosen, count = ready(examples.x), {}, k
        if count is None:
            folds = make_folds(examples.y, examples.subjects).to(examples.y.device)
            count, accuracy = _choose(bank, targets, folds, temperature)
            chosen = {"k": count, "validation": accuracy}
        return Fitted(lambda x: vote(ready(x), bank, targets, (count,), temperature)[0], chosen=chosen)

    return {name: fit(columns) for name, columns in sets.items()}


def _statistics(x):
    """Mean and inverse deviation (P,H); features that do not vary count for nothing."""
    deviation = x.float().std(0, correction=0)
    varies = deviation > 1e-6 * deviation.amax(-1, keepdim=True)
    return x.float().mean(0), torch.where(varies, 1 / deviation, 0)


def vote(
    queries: torch.Tensor,
    bank: torch.Tensor,
    targets: torch.Tensor,
    counts: tuple[int, ...],
    temperature: float,
) -> list[torch.Tensor]:
    """Let the nearest of a bank vote on queries.

    Args:
        queries: (N,D) unit rows. bank: (K,D) unit rows.
        targets: (K,C) float, the classes of the bank as one-hot rows.
        counts: numbers of neighbors.
        temperature: see `fit_knn`.

    Returns:
        (N,C) votes for each of the counts.
    """
    votes = []
    for part in queries.split(QUERIES):
        similarities, nearest = ops.nearest_neighbors(part[None], bank[None], max(counts))
        weights = ((similarities[0] - 1) / temperature).exp()
        weighted = weights[..., None] * targets[nearest[0]]
        votes.append([weighted[:, :count].sum(1) for count in counts])
    return [torch.cat(of_count) for of_count in zip(*votes, strict=True)]


def side_by_side(x: torch.Tensor) -> torch.Tensor:
    """Turn features (N,S,H) into unit rows (N,S·H) whose products are the mean of the modalities' cosines."""
    return (F.normalize(x.float(), dim=-1) / x.shape[1] ** 0.5).flatten(1).to(x.dtype)


def _choose(bank, targets, folds, temperature):
    """The count that gets most clips right, of several the smallest, and its accuracy in percent."""
    labels = targets.argmax(1)
    smallest = min(int((folds != fold).sum()) for fold in range(int(folds.max()) + 1))
    counts = tuple(count for count in COUNTS if count <= smallest)
    if not counts:  # one clip
        return 1, 100.0
    right = [0] * len(counts)
    for fold in range(int(folds.max()) + 1):
        out = folds == fold
        votes = vote(bank[out], bank[~out], targets[~out], counts, temperature)
        right = [
            n + int((scores.argmax(1) == labels[out]).sum()) for n, scores in zip(right, votes, strict=True)
        ]
    best = right.index(max(right))
    return counts[best], 100 * right[best] / len(labels)
