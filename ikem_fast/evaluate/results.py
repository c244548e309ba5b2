"""What every evaluation finds, in one schema: what is written to disk, and what tables and pictures show."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ikem_fast.errors import InputError
from ikem_fast.evaluate.config import EvaluateConfig
from ikem_fast.evaluate.features import FrozenFeatures
from ikem_fast.files import write_text
from ikem_fast.runtime.checkpoint import plain

FORMAT = "ikem-fast results"
VERSION = 1


@dataclass(frozen=True)
class Curves:
    """How a probe's training went: each epoch's loss, and accuracy on the test clips in percent after it."""

    loss: list[float]
    top1: list[float]


@dataclass(frozen=True)
class SetResult:
    """How well a set of modalities tells the actions apart.

    top1, top5: accuracy in percent.
    per_class: class → accuracy in percent; None for a class without test clips.
    confusion: clips of each true class (row) taken for each class (column).
    curves: of a probe that is trained.
    diverged: how its training went astray, if it did: then the accuracy says nothing about the features.
    """

    top1: float
    top5: float
    per_class: dict[str, float | None]
    confusion: list[list[int]]
    curves: Curves | None = None
    diverged: str | None = None


@dataclass(frozen=True)
class Results:
    """What an evaluation found.

    evaluation: its title, for people.
    dataset: name of the dataset.
    settings: all of them, as plain values.
    clips: split → how many.
    classes: names, in the order of the labels.
    sets: set's name → `SetResult`.
    """

    evaluation: str
    dataset: str
    settings: dict[str, Any]
    clips: dict[str, int]
    classes: list[str]
    sets: dict[str, SetResult]

    def write(self, path: Path) -> None:
        """Write them as JSON, whole or not at all; the folder is made."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            **_without_none(asdict(self), ("curves", "diverged")),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    @property
    def warnings(self) -> list[str]:
        """Say of each probe that diverged what happened."""
        return [f"{name}: {result.diverged}" for name, result in self.sets.items() if result.diverged]


def read_results(path: Path) -> Results:
    """Read what `Results.write` wrote.

    Raises InputError where it is not such a file.

    Example:
        read_results("runs/teacher/linear/linear.json").sets["joint"].top1
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        sets = {
            name: SetResult(**{**one, "curves": Curves(**one["curves"]) if "curves" in one else None})
            for name, one in content.pop("sets").items()
        }
        content = {name: value for name, value in content.items() if name not in ("format", "version")}
        return Results(sets=sets, **content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path}: expected the results of an evaluation, found {type(error).__name__}: {error}"
        ) from None


def results_of(
    title: str, sets: dict[str, SetResult], features: FrozenFeatures, config: EvaluateConfig
) -> Results:
    """Put together the `Results` of an evaluation of features."""
    return Results(
        evaluation=title,
        dataset=features.dataset.name,
        settings=plain(asdict(config)),
        clips={"train": len(features.y_train), "test": len(features.y_test)},
        classes=list(features.dataset.classes),
        sets=sets,
    )


def score(
    scores: torch.Tensor,
    labels: torch.Tensor,
    classes: tuple[str, ...],
    curves: Curves | None = None,
    diverged: str | None = None,
) -> SetResult:
    """Count what scores of classes got right.

    Args:
        scores: (N,C), larger for likelier classes.
        labels: (N,) true classes.
        classes: C names.
        curves, diverged: of the training, see `SetResult`.
    """
    top = scores.topk(min(5, len(classes)), 1).indices
    confusion = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    ones = torch.ones(len(labels), dtype=torch.int64)
    confusion.index_put_((labels.cpu(), top[:, 0].cpu()), ones, accumulate=True)
    of_class = confusion.sum(1).tolist()
    right = confusion.diagonal().tolist()
    return SetResult(
        top1=percent(top[:, 0] == labels),
        top5=percent((top == labels[:, None]).any(1)),
        per_class={
            name: 100 * r / n if n else None for name, r, n in zip(classes, right, of_class, strict=True)
        },
        confusion=confusion.tolist(),
        curves=curves,
        diverged=diverged,
    )


def percent(mask: torch.Tensor) -> float:
    """Compute the share of true entries, in percent."""
    return 100 * mask.double().mean().item()


def _without_none(value, names):
    if not isinstance(value, dict):
        return value
    kept = {name: item for name, item in value.items() if not (item is None and name in names)}
    return {name: _without_none(item, names) for name, item in kept.items()}
