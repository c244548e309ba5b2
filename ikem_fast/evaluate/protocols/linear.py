"""Linear evaluation: how well one linear layer on frozen features tells the actions apart."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ikem_fast.evaluate.config import EvaluateConfig
from ikem_fast.evaluate.features import frozen_features, open_splits
from ikem_fast.evaluate.probes.linear import Head, train_classifiers
from ikem_fast.evaluate.render.picture import draw
from ikem_fast.evaluate.results import Results, results_of
from ikem_fast.files import replacing
from ikem_fast.runtime.allocator import freed_memory_kept
from ikem_fast.runtime.device import choose_device
from ikem_fast.settings import check, setting

RESULTS = "linear.json"
PICTURE = "linear.png"
HEADS = "linear.npz"


@dataclass(kw_only=True)
class LinearConfig(EvaluateConfig):
    """Settings of linear evaluation. Source of the defaults: arXiv 2309.12009, section 4.2.

    Args:
        epochs: How many times training goes through the features.
        batch_size: How many clips are in a step.
        lr: The learning rate of SGD with momentum 0.9. Where training diverges, the results say so: try a
            smaller one.
        lr_milestones: The epochs after which the learning rate is multiplied by 0.1.
    """

    epochs: int = setting(100, least=1)
    batch_size: int = setting(128, least=1)
    lr: float = setting(3.0, above=0, most=1000)
    lr_milestones: tuple[int, ...] = setting((80,), least=1, rising=True)


def evaluate_linear(config: LinearConfig) -> Results:
    """Train linear classifiers on the features of the split "train", score them on "test".

    The features never change, so they are computed once. A set of several modalities has a classifier each,
    trained together on the mean of their outputs, as the published code does.

    Args:
        config: the settings.

    Returns:
        What is written to `out`/linear.json, with a picture beside it. The classifiers are kept in
        linear.npz: "<set>.weight" (S·H,C) and "<set>.bias" (C,); a clip's scores are its S features of H
        numbers side by side, times the weight, divided by S, plus the bias.

    Raises InputError for a dataset, checkpoint, set, device or setting that cannot be used.

    Example:
        evaluate_linear(LinearConfig(data="data/ntu60", checkpoint="runs/teacher", out="runs/teacher/linear"))
    """
    check(config)
    dataset, device, out = open_splits(config.data), choose_device(config.device), Path(config.out)
    with freed_memory_kept(device):
        features = frozen_features(config, dataset, device)
        sets, heads = train_classifiers(
            features,
            epochs=config.epochs,
            batch_size=config.batch_size,
            lr=config.lr,
            lr_milestones=config.lr_milestones,
            seed=config.seed,
        )
    results = results_of("Linear evaluation", sets, features, config)
    results.write(out / RESULTS)
    _write_heads(heads, out / HEADS)
    draw(results, out / PICTURE)
    return results


def _write_heads(heads: dict[str, Head], path: Path) -> None:
    arrays = {
        f"{name}.{part}": getattr(head, part).numpy()
        for name, head in heads.items()
        for part in ("weight", "bias")
    }
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(file, **arrays)
