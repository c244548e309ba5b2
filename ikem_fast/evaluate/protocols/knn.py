"""Nearest neighbors: how well the training clips most similar in their frozen features tell the action."""

from dataclasses import dataclass
from pathlib import Path

import torch.nn.functional as F

from ikem_fast.errors import InputError
from ikem_fast.evaluate.config import EvaluateConfig
from ikem_fast.evaluate.features import frozen_features, open_splits
from ikem_fast.evaluate.probes.knn import vote
from ikem_fast.evaluate.results import Results, results_of, score
from ikem_fast.runtime.allocator import freed_memory_kept
from ikem_fast.runtime.device import choose_device
from ikem_fast.settings import check, setting

RESULTS = "knn.json"


@dataclass(kw_only=True)
class KnnConfig(EvaluateConfig):
    """Settings of the evaluation by nearest neighbours.

    Args:
        k: How many neighbours vote.
        temperature: What similarities are divided by: a vote weighs exp(cosine similarity / temperature).
    """

    k: int = setting(20, least=1)
    temperature: float = setting(0.07, above=0)


def evaluate_knn(config: KnnConfig) -> Results:
    """Let the most similar clips of the split "train" vote on the action of each clip of "test".

    Similarity is the cosine of the features, for a set of several modalities the mean of their cosines.

    Args:
        config: the settings.

    Returns:
        What is written to `out`/knn.json.

    Raises InputError for a dataset, checkpoint, set, device or setting that cannot be used.

    Source: Wu et al. 2018, Unsupervised Feature Learning via Non-Parametric Instance Discrimination.

    Example:
        evaluate_knn(KnnConfig(data="data/ntu60", checkpoint="runs/teacher", out="runs/teacher/knn"))
    """
    check(config)
    dataset, device = open_splits(config.data), choose_device(config.device)
    clips = len(dataset["train"])
    if config.k > clips:
        raise InputError(f"k: expected at most {clips} (the training clips), found {config.k}")
    with freed_memory_kept(device):
        features = frozen_features(config, dataset, device)
        targets = F.one_hot(features.y_train, len(dataset.classes)).float()
        sets = {}
        for name, columns in features.sets.items():
            queries, bank = features.x_test[:, columns], features.x_train[:, columns]
            votes = vote(queries, bank, targets, config.k, config.temperature)
            sets[name] = score(votes, features.y_test, dataset.classes)
    results = results_of("Nearest neighbours", sets, features, config)
    results.write(Path(config.out) / RESULTS)
    return results
