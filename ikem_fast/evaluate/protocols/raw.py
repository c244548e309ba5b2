"""What the coordinates themselves tell of the actions: the same probes with no encoder in between."""

from dataclasses import dataclass
from functools import partial

from ikem_fast.evaluate.config import EvaluateConfig, LinearProbeConfig
from ikem_fast.evaluate.features import open_splits, raw_features
from ikem_fast.evaluate.judge import chance, judge, unit_scale, write
from ikem_fast.evaluate.probes.choice import linear_probe, probe_name
from ikem_fast.evaluate.probes.knn import fit_knn
from ikem_fast.evaluate.protocols.base import Protocol
from ikem_fast.evaluate.results import Baseline, Results
from ikem_fast.ops.modalities.definitions import DEFINITIONS
from ikem_fast.runtime.device import choose_device
from ikem_fast.settings import check, setting
from ikem_fast.skeleton import MODALITIES

NAME = "raw"


@dataclass(kw_only=True)
class RawConfig(LinearProbeConfig, EvaluateConfig):
    """Settings of the evaluation of the coordinates themselves.

    Args:
        modalities: Which are derived of the coordinates.
    """

    modalities: tuple[str, ...] = setting(MODALITIES, choices=tuple(DEFINITIONS))


def evaluate_raw(config: RawConfig) -> Results:
    """Judge preprocessed coordinates and derived modalities as if they were features.

    Beside the probe's accuracy stand chance and the votes of the nearest clips, with coordinates as they are
    and standardized, their number chosen by cross-validation.

    Args:
        config: the settings.

    Returns:
        What is written to `out`/raw.json, with the scores of each test clip in raw_scores.npz.

    Raises InputError for a dataset, set, device or setting that cannot be used.

    Example:
        evaluate_raw(RawConfig(data="data/utd_mhad", out="runs/raw"))
    """
    check(config)
    dataset, device = open_splits(config), choose_device(config.device)
    probe = probe_name(config, len(dataset["train"]))
    features = unit_scale(raw_features(dataset, config.modalities, config.sets, device))
    judged = judge(features, linear_probe(config, probe, config.seed, watched=features.test))
    nearest = {
        name: Baseline(judge(features, partial(fit_knn, standardize=standardize)).top1)
        for name, standardize in (("knn", False), ("knn, scaled", True))
    }
    return write(
        "Coordinates themselves", NAME, config, features, judged,
        source="raw", probe=probe, baselines={"chance": chance(features), **nearest},
    )  # fmt: skip


RAW = Protocol(
    name=NAME,
    summary="Judge the coordinates themselves by the same probes, without an encoder.",
    example="ikem-fast evaluate raw --data data/utd_mhad --out runs/raw",
    settings=RawConfig,
    run=evaluate_raw,
    files=("raw.json", "raw_scores.npz"),
)
