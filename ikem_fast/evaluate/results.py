"""What every evaluation finds, in one schema: what is written to disk, and what tables and pictures show."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ikem_fast.errors import InputError
from ikem_fast.files import replacing, write_text

FORMAT = "ikem-fast results"
VERSION = 2  # 1 had no baselines, no probe, nothing chosen
SCORES = "{}_scores.npz"  # beside the results of a protocol


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
    chosen: what cross-validation over training clips chose, and its accuracy there in percent.
    metrics: other figures in percent, by name.
    deviation: of top1 over repetitions, where there were some; the other figures are of all of them.
    """

    top1: float
    top5: float
    per_class: dict[str, float | None]
    confusion: list[list[int]]
    curves: Curves | None = None
    diverged: str | None = None
    chosen: dict[str, float] | None = None
    metrics: dict[str, float] | None = None
    deviation: float | None = None


@dataclass(frozen=True)
class Baseline:
    """What stands beside the sets of an evaluation: the accuracy without what is evaluated.

    top1: set's name → accuracy in percent, the mean over repetitions.
    deviation: set's name → standard deviation, where there are several.
    runs: how many there are.
    """

    top1: dict[str, float]
    deviation: dict[str, float] = field(default_factory=dict)
    runs: int = 1

    @classmethod
    def over(cls, runs: list[dict[str, float]]) -> "Baseline":
        """Average the accuracies of several runs.

        Example:
            Baseline.over([{"joint": 40.0}, {"joint": 44.0}]).top1  # {"joint": 42.0}
        """
        top1 = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
        if len(runs) == 1:
            return cls(top1)
        deviation = {name: float(np.std([run[name] for run in runs], ddof=1)) for name in runs[0]}
        return cls(top1, deviation, len(runs))


@dataclass(frozen=True)
class Results:
    """What an evaluation found.

    evaluation: its title, for people.
    dataset: name of the dataset.
    settings: all of them, as plain values.
    clips: split → how many.
    classes: names, in the order of the labels.
    sets: set's name → `SetResult`.
    source: what the sets are features of: "pretrained", "untrained", "raw", "finetuned", ….
    probe: what was put on them.
    baselines: "chance", "raw", "untrained", … → what they reach.
    training: settings of the run that the encoders are from, the model's among them, and its epochs.
    """

    evaluation: str
    dataset: str
    settings: dict[str, Any]
    clips: dict[str, int]
    classes: list[str]
    sets: dict[str, SetResult]
    source: str = "pretrained"
    probe: str | None = None
    baselines: dict[str, Baseline] = field(default_factory=dict)
    training: dict[str, Any] | None = None

    def write(self, path: Path) -> None:
        """Write them as JSON, whole or not at all; the folder is made."""
        optional = tuple(entry.name for entry in fields(SetResult) if entry.default is None)
        content = {"format": FORMAT, "version": VERSION, **_without_none(asdict(self), optional)}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    @property
    def warnings(self) -> list[str]:
        """Say of each probe that diverged what happened."""
        return [f"{name}: {result.diverged}" for name, result in self.sets.items() if result.diverged]


def read_results(path: Path) -> Results:
    """Read what `Results.write` wrote, of this version or an earlier one.

    Raises InputError where it is not such a file.

    Example:
        read_results("runs/teacher/linear/linear.json").sets["joint"].top1
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        form, version = content.pop("format", None), content.pop("version", None)
        if form != FORMAT or version not in range(1, VERSION + 1):
            raise ValueError(f"{form or 'no format'!r}, version {version}")
        sets = {
            name: SetResult(**{**one, "curves": Curves(**one["curves"]) if "curves" in one else None})
            for name, one in content.pop("sets").items()
        }
        baselines = {name: Baseline(**one) for name, one in content.pop("baselines", {}).items()}
        return Results(sets=sets, baselines=baselines, **content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path}: expected the results of an evaluation, found {type(error).__name__}: {error}"
        ) from None


@dataclass(frozen=True)
class Scores:
    """What each test clip was scored with.

    labels: (N,) true classes. names: (N,) of the clips. sets: set's name → (N,C) float32.
    """

    labels: np.ndarray
    names: np.ndarray
    sets: dict[str, np.ndarray]

    def write(self, path: Path) -> None:
        """Write them as an .npz, whole or not at all."""
        arrays = {f"scores.{name}": scores for name, scores in self.sets.items()}
        write_arrays(path, {"labels": self.labels, "names": self.names, **arrays})


def read_scores(path: Path) -> Scores:
    """Read what `Scores.write` wrote. Raises InputError where it is not such a file.

    Example:
        read_scores(Path("runs/six/linear/linear_scores.npz")).sets["joint"].argmax(1)
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            sets = {name.removeprefix("scores."): file[name] for name in file if name.startswith("scores.")}
            scores = Scores(file["labels"], file["names"], sets)
        if not all(one.ndim == 2 and len(one) == len(scores.labels) for one in sets.values()):
            raise ValueError("scores that do not fit the labels")
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{path}: expected the scores of an evaluation, found: {error}") from None
    return scores


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz, whole or not at all."""
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def score(
    scores: torch.Tensor,
    labels: torch.Tensor,
    classes: tuple[str, ...],
    **more: Any,
) -> SetResult:
    """Count what scores of classes got right.

    Args:
        scores: (N,C), larger for likelier classes.
        labels: (N,) true classes.
        classes: C names.
        more: what else the `SetResult` has.
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
        **more,
    )


def percent(mask: torch.Tensor) -> float:
    """Compute the share of true entries, in percent."""
    return 100 * mask.double().mean().item()


def _without_none(value, names):
    if not isinstance(value, dict):
        return value
    kept = {name: item for name, item in value.items() if not (item is None and name in names)}
    return {name: _without_none(item, names) for name, item in kept.items()}
