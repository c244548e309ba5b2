"""Runs side by side: seeds put together, means with deviations, and a paired test of what differs."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ikem_fast.errors import InputError
from ikem_fast.evaluate.results import SCORES, Results, Scores, read_results, read_scores

FLIPS = 10_000
# Settings that may differ within a group; training by the clock ends in other epochs.
PLACES = ("data", "out", "checkpoint", "teacher", "resume", "device", "seed", "epoch", "loggers")
LATER = {"drop_copies": False}  # settings that results of an earlier state lack, and what was done then


@dataclass(frozen=True)
class Group:
    """Evaluations that differ in nothing but the seed, and in where things are.

    label: what it is called: the folder of its first run.
    runs: (path, results) of each.
    """

    label: str
    runs: list[tuple[Path, Results]]

    def top1(self, name: str) -> list[float]:
        """List the accuracies of a set in percent, of the runs that have it."""
        return [results.sets[name].top1 for _, results in self.runs if name in results.sets]


def find_groups(runs: Iterable[Path], *, folds: bool = False) -> list[Group]:
    """Find the results files in folders, and put those together that differ in nothing but the seed.

    Args:
        runs: folders, searched to their depths, or results files.
        folds: whether those are put together too that differ in which clips are for training and for the
            test, as the folds of a cross-validation do.

    Raises InputError where a folder holds none, or a file is none.

    Example:
        [group.label for group in find_groups([Path("runs/a"), Path("runs/b")])]
    """
    groups: dict[str, Group] = {}
    for run in runs:
        run = Path(run)
        files = sorted(run.rglob("*.json")) if run.is_dir() else [run]
        found = [(path, results) for path in files if (results := _results(path, must=not run.is_dir()))]
        if not found:
            raise InputError(f"{run}: expected results of evaluations in it, found none")
        for path, results in found:
            group = groups.setdefault(_identity(results, folds), Group(str(path.parent), []))
            if path not in [known for known, _ in group.runs]:
                group.runs.append((path, results))
    return list(groups.values())


def paired_test(first: Group, second: Group, name: str) -> tuple[float, float] | None:
    """Test whether two groups get different shares of the same test clips right.

    Of each clip, the share of a group's runs that get it right is taken; the test flips the sign of each
    clip's difference at random (10,000 times, always the same). With one run a group that is McNemar's test.

    Returns:
        (difference of the accuracies in percent, p of two sides), or None where scores are not there or of
        other clips.

    Example:
        difference, p = paired_test(*find_groups([Path("runs/three"), Path("runs/six")]), "joint")
    """
    rights = [_shares_right(group, name) for group in (first, second)]
    if rights[0] is None or rights[1] is None or rights[0].keys() != rights[1].keys():
        return None
    difference = np.array([rights[1][clip] - share for clip, share in rights[0].items()])
    observed = abs(difference.sum())
    random = np.random.default_rng(0)
    moved = difference[difference != 0]
    signs = random.integers(0, 2, (FLIPS, len(moved)), dtype=np.int8) * 2 - 1
    as_large = (np.abs(signs @ moved) >= observed - 1e-9).sum()
    return 100 * float(difference.mean()), float(as_large + 1) / (FLIPS + 1)


def _results(path, must):
    try:
        return read_results(path)
    except InputError:
        if must:
            raise
        return None


def _identity(results, folds):
    """What must agree for two results to be of one group, as text."""
    clips = None if folds else results.clips
    settings = _without_places({**LATER, **results.settings, "training": results.training})
    same = (results.evaluation, results.dataset, results.source, results.probe, clips, settings)
    return json.dumps(same, sort_keys=True)


def _without_places(value):
    if not isinstance(value, dict):
        return value
    return {name: _without_places(item) for name, item in value.items() if name not in PLACES}


def _shares_right(group, name):
    """Clip's name → share of the runs tested on it that get it right, or None."""
    rights: dict[str, list[bool]] = {}
    for path, _ in group.runs:
        scores = _scores(path)
        if scores is None or name not in scores.sets:
            return None
        right = scores.sets[name].argmax(1) == scores.labels
        for clip, one in zip(scores.names.tolist(), right.tolist(), strict=True):
            rights.setdefault(clip, []).append(one)
    return {clip: sum(found) / len(found) for clip, found in rights.items()}


def _scores(path: Path) -> Scores | None:
    file = path.with_name(SCORES.format(path.stem))
    return read_scores(file) if file.is_file() else None
