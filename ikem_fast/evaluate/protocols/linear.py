"""Linear evaluation: how well a linear map of frozen features tells the actions apart."""

import copy
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from ikem_fast.data import Dataset
from ikem_fast.evaluate.config import BaselineConfig, LinearProbeConfig
from ikem_fast.evaluate.features import FrozenFeatures, frozen_features, open_splits
from ikem_fast.evaluate.judge import Judged, baselines, judge, write
from ikem_fast.evaluate.probes.base import Fitted
from ikem_fast.evaluate.probes.calibration import fit_temperature
from ikem_fast.evaluate.probes.choice import linear_probe, probe_name
from ikem_fast.evaluate.protocols.base import Protocol
from ikem_fast.evaluate.results import Results, write_arrays
from ikem_fast.nn.config import ModelConfig
from ikem_fast.nn.recognizer import LinearHead, Recognizer
from ikem_fast.runtime.allocator import freed_memory_kept
from ikem_fast.runtime.bundle import FOLDER, Description, write_bundle
from ikem_fast.runtime.device import choose_device
from ikem_fast.settings import check

NAME = "linear"
PLACES = ("data", "out", "checkpoint", "teacher", "device", "resume")  # settings that say nothing elsewhere


@dataclass(kw_only=True)
class LinearConfig(LinearProbeConfig, BaselineConfig):
    """Settings of linear evaluation."""


def evaluate_linear(config: LinearConfig) -> Results:
    """Fit linear classifiers to the features of the split "train", score them on "test".

    The features never change, so they are computed once. Beside them stand chance, the coordinates
    themselves and untrained encoders under the same probe.

    Args:
        config: the settings.

    Returns:
        What is written to `out`/linear.json, with the scores of each test clip in linear_scores.npz and a
        picture beside it. The classifiers are kept in linear.npz: "<set>.weight" (S·H,C) and "<set>.bias"
        (C,); a clip's scores are its S features of H numbers side by side, times the weight, divided by S,
        plus the bias. All that answers for a clip is in the folder bundle, which `ikem_fast.load` opens; not
        so for untrained encoders, nor for `features="output"`.

    Raises InputError for a dataset, checkpoint, set, device or setting that cannot be used.

    Example:
        evaluate_linear(LinearConfig(data="data/ntu60", checkpoint="runs/teacher", out="runs/teacher/linear"))
    """
    check(config)
    return linear_results(config, open_splits(config), "Linear evaluation", NAME)


def linear_results(config: LinearConfig, dataset: Dataset, title: str, name: str) -> Results:
    """Evaluate linearly on an opened dataset, and write what `evaluate_linear` does, under this name."""
    device, out = choose_device(config.device), Path(config.out)
    probe = probe_name(config, len(dataset["train"]))
    with freed_memory_kept(device):
        features = frozen_features(config, dataset, device)
        judged = judge(features, linear_probe(config, probe, config.seed, watched=features.test))
        beside = baselines(config, features, linear_probe(config, probe, config.seed), device)
    results = write(
        title, name, config, features, judged,
        source="untrained" if config.untrained else "pretrained", probe=probe, baselines=beside,
        picture=True,
    )  # fmt: skip
    _write_heads(judged.fitted, out / f"{name}.npz")
    if features.encoders is not None and not config.untrained and config.features == "feature":
        recognizer = _recognizer(features.encoders, features, judged)
        write_bundle(out / FOLDER, recognizer, _description(features, results))
    return results


def _write_heads(fitted: dict[str, Fitted], path: Path) -> None:
    write_arrays(path, {
        f"{name}.{part}": getattr(one.head, part).numpy()
        for name, one in fitted.items() if one.head is not None
        for part in ("weight", "bias")
    })  # fmt: skip


def _recognizer(encoders: nn.ModuleDict, features: FrozenFeatures, judged: Judged) -> Recognizer:
    """Encoders with nothing on their feature, and each set's classifier with its temperature."""
    encoders = copy.deepcopy(encoders).cpu()
    for encoder in encoders.values():
        encoder.fc = nn.Identity()
    heads = {}
    for name, one in judged.fitted.items():
        if one.head is None:
            continue
        calibrated = 1.0 if one.left_out is None else fit_temperature(one.left_out, features.train.y)
        heads[name] = LinearHead(one.head.weight, one.head.bias, calibrated)
    return Recognizer(encoders, features.dataset.skeleton, heads)


def _description(features: FrozenFeatures, results: Results) -> Description:
    """What the bundle says of itself; where things were on this machine is nobody's concern."""
    dataset, training = features.dataset, results.training or {}
    figures = ("top1", "top5", "per_class", "chosen")
    return Description(
        dataset=dataset.name,
        layout=dataset.skeleton,
        bodies=dataset.num_bodies,
        frames=dataset.num_frames,
        classes=dataset.classes,
        modalities=features.modalities,
        model=ModelConfig.of(training["model_config"]),
        prepared=dict(dataset.prepared),
        results={
            "evaluation": results.evaluation,
            "probe": results.probe,
            "clips": results.clips,
            "settings": _elsewhere(results.settings),
            "sets": {
                name: {figure: getattr(one, figure) for figure in figures}
                for name, one in results.sets.items()
            },
            "baselines": {name: asdict(one) for name, one in results.baselines.items()},
        },
        training={**training, "config": _elsewhere(training["config"])},
    )


def _elsewhere(settings):
    return {name: value for name, value in settings.items() if name not in PLACES}


LINEAR = Protocol(
    name=NAME,
    summary="Fit linear classifiers to frozen features, beside raw and untrained: accuracy, picture.",
    example="ikem-fast evaluate linear --data data/ntu60 --checkpoint runs/teacher --out runs/linear",
    settings=LinearConfig,
    run=evaluate_linear,
    files=("linear.json", "linear_scores.npz", "linear.npz", "linear.png", "bundle"),
)
