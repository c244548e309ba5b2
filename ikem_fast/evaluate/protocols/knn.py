"""Nearest neighbors: how well the training clips most similar in their frozen features tell the action."""

from dataclasses import dataclass
from functools import partial

from ikem_fast.errors import InputError
from ikem_fast.evaluate.config import BaselineConfig
from ikem_fast.evaluate.features import frozen_features, open_splits
from ikem_fast.evaluate.judge import baselines, judge, write
from ikem_fast.evaluate.probes.knn import fit_knn
from ikem_fast.evaluate.protocols.base import Protocol
from ikem_fast.evaluate.results import Results
from ikem_fast.runtime.allocator import freed_memory_kept
from ikem_fast.runtime.device import choose_device
from ikem_fast.settings import check, setting

NAME = "knn"


@dataclass(kw_only=True)
class KnnConfig(BaselineConfig):
    """Settings of the evaluation by nearest neighbours.

    Args:
        k: How many neighbours vote. Left out, 1, 3, 5, 10 or 20, chosen by cross-validation over training
            clips.
        temperature: What similarities are divided by: a vote weighs exp(cosine similarity / temperature).
        standardize: Whether features are standardised first, by statistics of the training clips.
    """

    k: int | None = setting(None, least=1)
    temperature: float = setting(0.07, above=0)
    standardize: bool = False


def evaluate_knn(config: KnnConfig) -> Results:
    """Let the most similar clips of the split "train" vote on the action of each clip of "test".

    Similarity is the cosine of the features, for a set of several modalities the mean of their cosines.

    Args:
        config: the settings.

    Returns:
        What is written to `out`/knn.json, with the scores of each test clip in knn_scores.npz.

    Raises InputError for a dataset, checkpoint, set, device or setting that cannot be used.

    Source: Wu et al. 2018, Unsupervised Feature Learning via Non-Parametric Instance Discrimination.

    Example:
        evaluate_knn(KnnConfig(data="data/ntu60", checkpoint="runs/teacher", out="runs/teacher/knn"))
    """
    check(config)
    dataset, device = open_splits(config), choose_device(config.device)
    clips = len(dataset["train"])
    if config.k is not None and config.k > clips:
        raise InputError(f"k: expected at most {clips} (the training clips), found {config.k}")
    probe = partial(fit_knn, k=config.k, temperature=config.temperature, standardize=config.standardize)
    with freed_memory_kept(device):
        features = frozen_features(config, dataset, device)
        judged = judge(features, probe)
        beside = baselines(config, features, probe, device)
    return write(
        "Nearest neighbours", NAME, config, features, judged,
        source="untrained" if config.untrained else "pretrained", probe="knn", baselines=beside,
    )  # fmt: skip


KNN = Protocol(
    name=NAME,
    summary="Let the nearest training clips vote, by frozen features: accuracy, confusion.",
    example="ikem-fast evaluate knn --data data/ntu60 --checkpoint runs/teacher --out runs/teacher/knn",
    settings=KnnConfig,
    run=evaluate_knn,
    files=("knn.json", "knn_scores.npz"),
)
