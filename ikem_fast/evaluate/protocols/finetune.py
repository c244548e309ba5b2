"""Finetuning: how well encoders tell the actions apart once labels train them too, beside starting anew."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from ikem_fast.data import Dataset
from ikem_fast.evaluate.config import BaselineConfig, EncoderEvaluateConfig
from ikem_fast.evaluate.features import FrozenFeatures, frozen_features, load_encoders, open_splits
from ikem_fast.evaluate.judge import Judged, baselines, judge, write
from ikem_fast.evaluate.probes.ridge import fit_ridge
from ikem_fast.evaluate.protocols.base import Protocol
from ikem_fast.evaluate.results import Baseline, Results, score
from ikem_fast.evaluate.supervised import Classifier, TrainingConfig, classify, train_classifier
from ikem_fast.runtime.allocator import freed_memory_kept
from ikem_fast.runtime.device import choose_device
from ikem_fast.settings import check

NAME = "finetune"


@dataclass(kw_only=True)
class LabeledConfig(TrainingConfig, EncoderEvaluateConfig):
    """Settings of evaluations that train encoders on labels."""


@dataclass(kw_only=True)
class FinetuneConfig(LabeledConfig, BaselineConfig):
    """Settings of finetuning.

    Args:
        scratch: Whether to train the same encoders from random weights, too, for as many steps.
    """

    scratch: bool = True


def evaluate_finetune(config: FinetuneConfig) -> Results:
    """Train encoders, and a linear layer on each, by the labels of "train"; score them on "test".

    A set's scores are the mean of its modalities'. Beside them stand the same encoders trained from random
    weights with the same budget (scratch), ridge regression on the frozen features (frozen), on the
    coordinates (raw) and on untrained encoders' features.

    Args:
        config: the settings.

    Returns:
        What is written to `out`/finetune.json, with the scores of each test clip in finetune_scores.npz.

    Raises InputError for a dataset, checkpoint, set, device or setting that cannot be used.

    Example:
        evaluate_finetune(FinetuneConfig(data="data/utd_mhad", checkpoint="runs/six", out="runs/finetune"))
    """
    check(config)
    dataset, device = open_splits(config), choose_device(config.device)
    with freed_memory_kept(device):
        features = frozen_features(config, dataset, device)
        beside = baselines(config, features, fit_ridge, device)
        beside["frozen"] = Baseline(judge(features, fit_ridge).top1)
        untrained = config.seed if config.untrained else None
        model = trained(config, dataset, device, untrained_seed=untrained)
        judged = judged_scores(features, [scores_of_sets(model, features, device)])
        if config.scratch and not config.untrained:
            model = trained(config, dataset, device, untrained_seed=config.seed)
            scores = scores_of_sets(model, features, device)
            beside["scratch"] = Baseline(judged_scores(features, [scores]).top1)
    return write(
        "Finetuning", NAME, config, features, judged,
        source="scratch" if config.untrained else "finetuned", probe="linear layer", baselines=beside,
    )  # fmt: skip


def trained(
    config: LabeledConfig,
    dataset: Dataset,
    device: torch.device,
    *,
    untrained_seed: int | None,
    where: np.ndarray | None = None,
    seed: int | None = None,
) -> Classifier:
    """Train the encoders of a checkpoint by labels of the training clips.

    Args:
        config: settings of the encoders and of their training.
        dataset: whose split "train" is learned from.
        device: where to compute.
        untrained_seed: of random weights to start from; None for the checkpoint's.
        where: positions of the clips whose labels are used; all, if not given.
        seed: of the training; the settings', if not given.
    """
    encoders = load_encoders(config.checkpoint, dataset, untrained_seed=untrained_seed)
    return train_classifier(
        encoders, dataset["train"], config.recipe(dataset), len(dataset.classes), config,
        where=where, seed=config.seed if seed is None else seed, device=device, amp=config.amp,
    )  # fmt: skip


def scores_of_sets(
    model: Classifier, features: FrozenFeatures, device: torch.device
) -> dict[str, torch.Tensor]:
    """Score the test clips: set's name → (N,C), the mean of its modalities'."""
    dataset = features.dataset
    scores = classify(model, dataset["test"], dataset.skeleton, device=device)
    return {name: scores[:, columns].mean(1) for name, columns in features.sets.items()}


def judged_scores(features: FrozenFeatures, runs: list[dict[str, torch.Tensor]]) -> Judged:
    """Count what the scores of one or several runs got right: of each set, over all of them together.

    The scores that are kept are the mean of the runs'.
    """
    labels = features.test.y.cpu()
    sets = {}
    for name in features.sets:
        together = torch.cat([run[name] for run in runs])
        one = score(together, labels.repeat(len(runs)), features.dataset.classes)
        if len(runs) > 1:
            top1 = [100 * (run[name].argmax(1) == labels).double().mean().item() for run in runs]
            one = replace(one, deviation=float(np.std(top1, ddof=1)))
        sets[name] = one
    scores = {name: torch.stack([run[name] for run in runs]).mean(0) for name in features.sets}
    return Judged(sets, scores, {})


FINETUNE = Protocol(
    name=NAME,
    summary="Train encoders by labels, beside the same from random weights and frozen ones.",
    example="ikem-fast evaluate finetune --data data/utd_mhad --checkpoint runs/teacher --out runs/tuned",
    settings=FinetuneConfig,
    run=evaluate_finetune,
    files=("finetune.json", "finetune_scores.npz"),
)
