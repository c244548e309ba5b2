"""Retrieval: whether the training clips most similar to a test clip show the same action."""

from dataclasses import dataclass, replace

import torch

from ikem_fast.evaluate.config import BaselineConfig
from ikem_fast.evaluate.features import frozen_features, open_splits
from ikem_fast.evaluate.judge import baselines, judge, write
from ikem_fast.evaluate.probes.base import Examples, Fitted, Sets
from ikem_fast.evaluate.probes.knn import fit_knn, side_by_side
from ikem_fast.evaluate.protocols.base import Protocol
from ikem_fast.evaluate.results import Results
from ikem_fast.runtime.allocator import freed_memory_kept
from ikem_fast.runtime.device import choose_device
from ikem_fast.settings import check

NAME = "retrieval"
RANKS = (1, 5, 10)
QUERIES = 256  # at once: all similarities of them are ranked


@dataclass(kw_only=True)
class RetrievalConfig(BaselineConfig):
    """Settings of retrieval."""


def evaluate_retrieval(config: RetrievalConfig) -> Results:
    """Rank the training clips by similarity to each test clip, and see which show its action.

    Similarity is the cosine of the features, for a set of several modalities the mean of their cosines. The
    mean average precision (mAP) is over the test clips whose class has training clips; recall@k is the share
    of test clips with a clip of their class among the k most similar. The accuracy is that of the most
    similar clip: recall@1.

    Args:
        config: the settings.

    Returns:
        What is written to `out`/retrieval.json, with the scores of each test clip in retrieval_scores.npz.

    Raises InputError for a dataset, checkpoint, set, device or setting that cannot be used.

    Example:
        evaluate_retrieval(RetrievalConfig(data="data/utd_mhad", checkpoint="runs/teacher", out="runs/found"))
    """
    check(config)
    dataset, device = open_splits(config), choose_device(config.device)
    with freed_memory_kept(device):
        features = frozen_features(config, dataset, device)
        judged = judge(features, nearest)
        for name, columns in features.sets.items():
            metrics = ranking(
                side_by_side(features.test.x[:, columns]),
                side_by_side(features.train.x[:, columns]),
                features.test.y,
                features.train.y,
            )
            judged.sets[name] = replace(judged.sets[name], metrics=metrics)
        beside = baselines(config, features, nearest, device)
    return write(
        "Retrieval", NAME, config, features, judged,
        source="untrained" if config.untrained else "pretrained", probe="most similar clip", baselines=beside,
    )  # fmt: skip


def nearest(examples: Examples, sets: Sets) -> dict[str, Fitted]:
    """Keep training clips, the most similar of which answers for others."""
    return fit_knn(examples, sets, k=1)


def ranking(
    queries: torch.Tensor, gallery: torch.Tensor, wanted: torch.Tensor, found: torch.Tensor
) -> dict[str, float]:
    """Compute mAP and recall@k, in percent.

    Args:
        queries, gallery: (N,D), (K,D) unit rows.
        wanted, found: (N,), (K,) their classes.

    Example:
        ranking(torch.eye(2), torch.eye(2), torch.tensor([0, 1]), torch.tensor([0, 1]))["mAP"]  # 100.0
    """
    precision, recall = [], []
    for part, labels in zip(queries.split(QUERIES), wanted.split(QUERIES), strict=True):
        order = (part.float() @ gallery.float().mT).argsort(dim=1, descending=True, stable=True)
        right = (found[order] == labels[:, None]).double()
        places = torch.arange(1, right.shape[1] + 1, device=right.device)
        relevant = right.sum(1)
        average = (right * right.cumsum(1) / places).sum(1) / relevant
        precision.append(average[relevant > 0])
        recall.append(torch.stack([right[:, :rank].amax(1) for rank in RANKS]))
    means = torch.cat(recall, 1).mean(1).tolist()
    averages = torch.cat(precision)
    share = averages.mean().item() if len(averages) else 0.0
    return {"mAP": 100 * share, **{f"recall@{k}": 100 * one for k, one in zip(RANKS, means, strict=True)}}


RETRIEVAL = Protocol(
    name=NAME,
    summary="Rank training clips by similarity to test clips: mAP, recall@k.",
    example="ikem-fast evaluate retrieval --data data/utd_mhad --checkpoint runs/six --out runs/found",
    settings=RetrievalConfig,
    run=evaluate_retrieval,
    files=("retrieval.json", "retrieval_scores.npz"),
)
