"""Few labels: how well frozen and finetuned encoders do with a share of the labels, beside starting anew."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ikem_fast.configs import read_section
from ikem_fast.evaluate.features import (
    augmented_deviation,
    encoded_features,
    frozen_features,
    open_splits,
    raw_features,
)
from ikem_fast.evaluate.judge import Judged, chance, write
from ikem_fast.evaluate.probes.base import Examples
from ikem_fast.evaluate.probes.spread import spread_labels
from ikem_fast.evaluate.protocols.base import Protocol
from ikem_fast.evaluate.protocols.finetune import LabeledConfig, judged_scores, scores_of_sets, trained
from ikem_fast.evaluate.results import Baseline, Results
from ikem_fast.runtime.allocator import freed_memory_kept
from ikem_fast.runtime.device import choose_device
from ikem_fast.settings import check, setting

NAME = "semi"
AUGMENTATIONS = tuple(read_section("small", "pretrain")["augmentations"])  # few clips want many views
MOST_CLIPS = 5_000  # that labels are spread to: the regression takes their number squared of memory


@dataclass(kw_only=True)
class SemiConfig(LabeledConfig):
    """Settings of the evaluation with few labels.

    Args:
        shares: Which shares of the labels are used, in percent; at least one clip of each class.
        draws: How many times the clips with labels are drawn.
        finetune: Whether to finetune the encoders, and train them from random weights beside it, for so many
            steps each; if not, only regressions on frozen features are judged.
        steps: How many steps of the optimiser are taken.
        augmentations: What clips are augmented by, in this order: settings by name each, as in pretraining;
            also what features are to be left alone by. Left out, those of the recipe `small`.
    """

    shares: tuple[float, ...] = setting((1.0, 5.0, 10.0), above=0, most=100)
    draws: int = setting(5, least=1)
    finetune: bool = True
    steps: int = setting(100, least=1)
    augmentations: tuple[dict[str, Any], ...] = AUGMENTATIONS


def evaluate_semi(config: SemiConfig) -> Results:
    """Learn from a share of the labels of "train", drawn several times; score on "test".

    The encoders are trained by these labels, from random weights (scratch) and from pretrained ones
    (finetuned). Then labels are spread to the training clips without, by a regression on features (see
    `spread_labels`): on those of the encoders so trained (scratch, spread; finetuned, spread), of the
    pretrained ones (frozen), of untrained ones (untrained), and on the coordinates (raw). Figures are means
    over the draws.

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
        recipe = config.recipe(dataset)
        moved = {kind: augmented_deviation(config, one, recipe, device) for kind, one in kinds.items()}
        found = {share: _judge_share(config, share, kinds, moved, device) for share in config.shares}
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


def _judge_share(config, share, kinds, moved, device):
    """What a share of the labels gets, in all draws together: column → `Judged`; the main one is the last."""
    features = kinds["frozen"]
    dataset, labels = features.dataset, features.train.y.cpu().numpy()
    runs = {}
    for seed in range(config.seed, config.seed + config.draws):
        labeled = draw_labeled(labels, share, seed)
        clips = beside_labeled(len(labels), labeled, seed)
        for kind, one in kinds.items():
            runs.setdefault(kind, []).append(_spread(one, moved[kind], labeled, clips))
        for column, start in (("scratch", seed), ("finetuned", None)) if config.finetune else ():
            model = trained(config, dataset, device, untrained_seed=start, where=labeled, seed=seed)
            runs.setdefault(column, []).append(scores_of_sets(model, features, device))
            own = encoded_features(config, dataset, model.encoders, device)
            moved_own = augmented_deviation(config, own, config.recipe(dataset), device)
            runs.setdefault(f"{column}, spread", []).append(_spread(own, moved_own, labeled, clips))
    return {column: judged_scores(features, scores) for column, scores in runs.items()}


def _spread(features, moved, labeled, clips):
    """Scores of the test clips by labels spread among training clips: set's name → (N,C)."""
    spread = spread_labels(some(features.train, clips), features.sets, np.searchsorted(clips, labeled), moved)
    return {name: one.scores(features.test.x).cpu() for name, one in spread.items()}


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


def beside_labeled(clips: int, labeled: np.ndarray, seed: int) -> np.ndarray:
    """Choose the clips that take part: those with labels, and of the others at most `MOST_CLIPS`, at random.

    Returns:
        Their positions, rising.
    """
    others = np.setdiff1d(np.arange(clips), labeled)
    if len(others) > MOST_CLIPS:
        others = np.random.default_rng(seed).choice(others, MOST_CLIPS, replace=False)
    return np.sort(np.concatenate([labeled, others]))


def some(examples: Examples, where: np.ndarray) -> Examples:
    """Keep some of the clips."""
    index = torch.from_numpy(where).to(examples.y.device)
    return Examples(examples.x[index], examples.y[index], examples.classes)


SEMI = Protocol(
    name=NAME,
    summary="Learn from few labels, frozen and finetuned, beside the same from random weights.",
    example="ikem-fast evaluate semi --data data/utd_mhad --checkpoint runs/teacher --out runs/semi",
    settings=SemiConfig,
    run=evaluate_semi,
    files=("semi.json", "semi_scores.npz"),
)
