"""Fusion: what several evaluations say together, by the scores that they gave the same test clips."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ikem_fast.errors import InputError
from ikem_fast.evaluate.protocols.base import Protocol
from ikem_fast.evaluate.results import SCORES, Results, Scores, read_results, read_scores, score
from ikem_fast.runtime.checkpoint import plain
from ikem_fast.settings import check, setting

NAME = "fuse"


@dataclass(kw_only=True)
class FuseConfig:
    """Settings of fusion.

    Args:
        results: The results files whose scores are added, such as runs/a/linear.json; behind a colon the set
            of modalities, the one of most modalities if there is none.
        out: Folder for the results.
        weights: What each of them weighs; all the same, if not given.
    """

    results: tuple[str, ...]
    out: Path
    weights: tuple[float, ...] | None = setting(None, least=0)

    def problem(self) -> str | None:
        """Say what is wrong among the settings, or None."""
        if not self.results:
            return "results: expected at least one file, found none"
        if self.weights is not None and (len(self.weights) != len(self.results) or not sum(self.weights) > 0):
            return (
                f"weights: expected one for each of {len(self.results)} results and a sum above 0, found "
                + (", ".join(map(str, self.weights)) or "none")
            )
        return None


def evaluate_fuse(config: FuseConfig) -> Results:
    """Add the scores of several evaluations of the same test clips.

    Each evaluation's scores are brought to a mean of 0 for each clip and a deviation of 1 over all first, so
    that scores of different probes can be added.

    Args:
        config: the settings.

    Returns:
        What is written to `out`/fuse.json: each evaluation by itself, and "fused".

    Raises InputError for a file or set that is not there, or of other test clips.

    Example:
        evaluate_fuse(FuseConfig(results=("runs/a/linear.json", "runs/b/linear.json:bone"), out="runs/both"))
    """
    check(config)
    parts = [_read(text) for text in config.results]
    first, scores = parts[0][0], parts[0][2]
    for (_, _, others, _), text in zip(parts, config.results, strict=True):
        if others.names.tolist() != scores.names.tolist() or others.labels.tolist() != scores.labels.tolist():
            raise InputError(
                f"results: expected the test clips of {config.results[0]}, found others in {text}"
            )
    weights = config.weights or [1.0] * len(parts)
    together = sum(w * _standardized(part) for w, (*_, part) in zip(weights, parts, strict=True))
    named = {f"{i}: {name}": part for i, (_, name, _, part) in enumerate(parts, 1)} | {"fused": together}
    labels = torch.from_numpy(scores.labels)
    results = Results(
        evaluation="Fusion",
        dataset=first.dataset,
        settings=plain(asdict(config)),
        clips=first.clips,
        classes=first.classes,
        sets={
            name: score(torch.from_numpy(part), labels, tuple(first.classes)) for name, part in named.items()
        },
        source="fused",
    )
    out = Path(config.out)
    results.write(out / f"{NAME}.json")
    Scores(scores.labels, scores.names, named).write(out / SCORES.format(NAME))
    return results


def _read(text):
    """(results, set's name, scores of all, scores of the set) of a file, with or without a set behind it."""
    path, colon, name = text.rpartition(":")
    if not colon or not path.endswith(".json"):
        path, name = text, ""
    results = read_results(Path(path))
    scores = read_scores(Path(path).with_name(SCORES.format(Path(path).stem)))
    name = name or max(scores.sets, key=lambda one: one.count("+"))
    if name not in scores.sets:
        raise InputError(f"{path}: expected a set out of {', '.join(scores.sets)}, found {name!r}")
    return results, name, scores, scores.sets[name]


def _standardized(scores: np.ndarray) -> np.ndarray:
    centered = scores - scores.mean(1, keepdims=True)
    return centered / max(float(centered.std()), 1e-12)


FUSE = Protocol(
    name=NAME,
    summary="Add the scores of several evaluations of the same clips.",
    example="ikem-fast evaluate fuse runs/a/linear.json runs/b/linear.json --out runs/both",
    settings=FuseConfig,
    run=evaluate_fuse,
    files=("fuse.json", "fuse_scores.npz"),
    words="results",
)
