"""Few labels: how well frozen and finetuned encoders do with a share of the labels, beside starting anew."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from ikem_fast.evaluate.features import FrozenFeatures, frozen_features, open_splits, raw_features
from ikem_fast.evaluate.judge import Judged, chance, judge, write
from ikem_fast.evaluate.probes.base import Examples
from ikem_fast.evaluate.probes.ridge import fit_ridge
from ikem_fast.evaluate.protocols.base import Protocol
from ikem_fast.evaluate.protocols.finetune import LabeledConfig, judged_scores, trained_scores
from ikem_fast.evaluate.results import Baseline, Results
from ikem_fast.runtime.allocator import freed_memory_kept
from ikem_fast.runtime.device import choose_device
from ikem_fast.settings import check, setting

NAME = "semi"


@dataclass(kw_only=True)
class SemiConfig(LabeledConfig):
    """Settings of the evaluation with few labels.

    Args:
        shares: Which shares of the labels are used, in percent; at least one clip of each class.
        draws: How many times the clips with labels are drawn.
        finetune: Whether to finetune the encoders, and train them from random weights beside it, for so many
            steps each; if not, only ridge regression on frozen features is judged.
    """

    shares: tuple[float, ...] = setting((1.0, 5.0, 10.0), above=0, most=100)
    draws: int = setting(5, least=1)
    finetune: bool = True


def evaluate_semi(config: SemiConfig) -> Results:
    """Learn from a share of the labels of "train", drawn several times; score on "test".

    Beside the finetuned encoders stand the same from random weights with the same budget (scratch), and ridge
    regression with the same labels on frozen features (frozen), on the coordinates (raw) and on untrained
    encoders' features. Figures are means over the draws.

    Args:
        config: the settings.

    Returns:
        What is written to `out`/semi.json, with the scores of each test clip, in the mean over the draws, in
        semi_scores.npz. Its sets are "SHARE% of labels: SET".

    Raises InputError for a dataset, checkpoint, set, device or setting that cannot be used.

    Example:
        evaluate_semi(SemiConfig(data="data/utd_mhad", checkpoint="runs/teacher", out="runs/semi"))
    """
    check(config)
    dataset, device = open_splits(config), choose_device(config.device)
    with freed_memory_kept(device):
        features = frozen_features(config, dataset, device)
        kinds = {
            "raw": raw_features(dataset, features.modalities, ",".join(features.sets), device),
            "untrained": frozen_features(config, dataset, device, untrained_seed=config.seed),
            "frozen": features,
        }
        found = {share: _judge_share(config, share, kinds, device) for share in config.shares}
    *others, source = next(iter(found.values()))
    judged = Judged({}, {}, {})
    guess = max(chance(features).top1.values())
    beside = {name: Baseline({}, {}, config.draws) for name in others}
    for share, columns in found.items():
        for one, result in columns[source].sets.items():
            name = f"{share:g}% of labels: {one}"
            judged.sets[name], judged.scores[name] = result, columns[source].scores[one]
            for other in others:
                beside[other].top1[name] = columns[other].sets[one].top1
                if (deviation := columns[other].sets[one].deviation) is not None:
                    beside[other].deviation[name] = deviation
    return write(
        "Few labels", NAME, config, features, judged, source=source,
        baselines={"chance": Baseline(dict.fromkeys(judged.sets, guess)), **beside},
    )  # fmt: skip


def _judge_share(config, share, kinds, device):
    """What a share of the labels gets, in all draws together: column → `Judged`; the main one is the last."""
    features = kinds["frozen"]
    train = partial(trained_scores, config, features.dataset, features, device)
    columns = [*kinds, *(("scratch", "finetuned") if config.finetune else ())]
    runs = {column: [] for column in columns}
    for seed in range(config.seed, config.seed + config.draws):
        where = draw_labeled(features.train.y.cpu().numpy(), share, seed)
        for kind, one in kinds.items():
            runs[kind].append(judge(some(one, where), fit_ridge).scores)
        if config.finetune:
            runs["scratch"].append(train(untrained_seed=seed, where=where, seed=seed))
            runs["finetuned"].append(train(untrained_seed=None, where=where, seed=seed))
    return {column: judged_scores(features, scores) for column, scores in runs.items()}


def draw_labeled(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Draw the clips whose labels are used: of each class a share in percent, rounded, at least one.

    Args:
        labels: (N,) classes of the training clips.
        share: in percent.
        seed: of the draw.

    Returns:
        Their positions, rising.

    Example:
        draw_labeled(np.array([0, 0, 0, 1]), 1.0, seed=0)  # one of the first three, and the last
    """
    random = np.random.default_rng(seed)
    drawn = []
    for label in np.unique(labels):
        (where,) = np.nonzero(labels == label)
        drawn.append(random.choice(where, max(1, round(len(where) * share / 100)), replace=False))
    return np.sort(np.concatenate(drawn))


def some(features: FrozenFeatures, where: np.ndarray) -> FrozenFeatures:
    """Keep some of the training clips."""
    train, index = features.train, torch.from_numpy(where).to(features.train.y.device)
    subjects = None if train.subjects is None else train.subjects[where]
    return replace(features, train=Examples(train.x[index], train.y[index], train.classes, subjects))


SEMI = Protocol(
    name=NAME,
    summary="Learn from few labels, frozen and finetuned, beside the same from random weights.",
    example="ikem-fast evaluate semi --data data/utd_mhad --checkpoint runs/teacher --out runs/semi",
    settings=SemiConfig,
    run=evaluate_semi,
    files=("semi.json", "semi_scores.npz"),
)
