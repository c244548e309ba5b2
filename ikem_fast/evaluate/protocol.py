"""What evaluations of frozen encoders share: settings, features computed once, scores, the report."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ikem_fast.data import Dataset, open_dataset
from ikem_fast.errors import InputError
from ikem_fast.evaluate.features import estimate_statistics, extract_features, load_encoders
from ikem_fast.runtime.checkpoint import plain
from ikem_fast.runtime.device import choose_device

TRIO = ("joint", "motion", "bone")


@dataclass(kw_only=True)
class EvaluateConfig:
    """Settings that every evaluation has.

    Args:
        data: folder of a prepared dataset.
        checkpoint: of pretraining or distillation.
        out: folder for the results.
        sets: modalities taken together, joined by "+"; sets separated by commas. Each alone,
            joint+motion+bone and all together where left out.
        untrained: evaluate encoders with random weights instead, for comparison; their normalisation
            statistics are estimated on the training clips.
        amp: bfloat16 where that is safe.
        device: cpu, cuda, cuda:1, …; auto takes a GPU where there is one.
        seed: of all that is drawn.
    """

    data: Path
    checkpoint: Path
    out: Path
    sets: str | None = None
    untrained: bool = False
    amp: bool = False
    device: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class FrozenFeatures:
    """Features of a dataset's two splits, on the device.

    sets: name → positions of its modalities among the P that there are.
    x_train, x_test: (N,P,H) float32, bfloat16 under `amp`; y_train, y_test: (N,) int64.
    """

    dataset: Dataset
    sets: dict[str, list[int]]
    x_train: torch.Tensor
    y_train: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor


def frozen_features(config):
    """The `FrozenFeatures` of an `EvaluateConfig`.

    Raises InputError for a dataset, checkpoint, set or device that cannot be used.
    """
    dataset = open_dataset(config.data)
    device = choose_device(config.device)
    encoders = load_encoders(
        config.checkpoint, dataset, untrained_seed=config.seed if config.untrained else None
    )
    sets = parse_sets(config.sets, tuple(encoders))
    train, test = dataset["train"], dataset["test"]
    for name, split in (("train", train), ("test", test)):
        if not len(split):
            raise InputError(f"{config.data}: expected clips in the split {name!r}, found none")
    if config.untrained:
        estimate_statistics(encoders, train, dataset.layout, device=device)

    def features(split, title):
        x = extract_features(encoders, split, dataset.layout, device=device, amp=config.amp, title=title)
        labels = torch.tensor(split.labels).to(device)
        return x.to(device, torch.bfloat16 if config.amp else torch.float32), labels

    x_train, y_train = features(train, "train features")
    x_test, y_test = features(test, "test features")
    return FrozenFeatures(dataset, sets, x_train, y_train, x_test, y_test)


def parse_sets(text, modalities):
    """Set's name → positions of its modalities."""
    if text is None:
        together = [TRIO] if set(TRIO) < set(modalities) else []
        together += [modalities] if len(modalities) > 1 else []
        names = [*modalities, *("+".join(names) for names in together)]
    else:
        names = [part.strip() for part in text.split(",")]
    for name in names:
        unknown = [modality for modality in name.split("+") if modality not in modalities]
        if unknown:
            raise InputError(
                f"sets: expected modalities out of {', '.join(modalities)}, found {unknown[0]!r} in {name!r}"
            )
    return {name: [modalities.index(modality) for modality in name.split("+")] for name in names}


def scores_of(scores, labels, classes):
    """Top-1, top-5 and the accuracy of each class in percent, and the confusion matrix (row: true class).

    Args:
        scores: (N,C), larger for likelier classes.
        labels: (N,) true classes.
        classes: C names.
    """
    top = scores.topk(min(5, len(classes)), 1).indices
    confusion = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    ones = torch.ones(len(labels), dtype=torch.int64)
    confusion.index_put_((labels.cpu(), top[:, 0].cpu()), ones, accumulate=True)
    of_class = confusion.sum(1).tolist()
    right = confusion.diagonal().tolist()
    return {
        "top1": percent(top[:, 0] == labels),
        "top5": percent((top == labels[:, None]).any(1)),
        "per_class": {
            name: 100 * r / n if n else None for name, r, n in zip(classes, right, of_class, strict=True)
        },
        "confusion": confusion.tolist(),
    }


def percent(mask):
    return 100 * mask.double().mean().item()


def write_report(title, results, features, config, file):
    """Write `out`/`file`, whole or not at all. Returns what is in it.

    Args:
        title: of the evaluation, for people.
        results: set's name → its scores.
    """
    report = {
        "evaluation": title,
        "dataset": features.dataset.name,
        "settings": plain(asdict(config)),
        "clips": {"train": len(features.y_train), "test": len(features.y_test)},
        "classes": list(features.dataset.classes),
        "sets": results,
    }
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    beside = out / (file + ".partial")
    beside.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(out / file)
    return report
