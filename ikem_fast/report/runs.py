"""Runs as they lie on disk: settings, figures of training, and the evaluations in their folders."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ikem_fast.errors import InputError
from ikem_fast.evaluate.compare import PLACES, Group, find_groups
from ikem_fast.runtime.checkpoint import NAME, load_checkpoint
from ikem_fast.train.log import METRICS


@dataclass(frozen=True)
class Run:
    """A training run.

    kind: "pretrain" or "distill".
    config: its settings, as plain values.
    dataset: what it was trained on: name, layout, classes, number of clips.
    metrics: the lines of metrics.jsonl.
    """

    folder: Path
    kind: str
    config: dict[str, Any]
    dataset: dict[str, Any]
    steps: int
    seconds: float
    metrics: list[dict[str, Any]] = field(repr=False)

    @property
    def modalities(self) -> tuple[str, ...]:
        """List what has an encoder of its own."""
        return tuple(
            self.config["students"] if self.kind == "distill" else self.config["model"]["modalities"]
        )


def read_run(folder: Path) -> Run:
    """Read the run in a folder. Raises InputError where there is none."""
    state = load_checkpoint(folder)
    return Run(
        folder,
        state["kind"],
        state["config"],
        state["dataset"],
        state.get("step", 0),
        state.get("seconds", 0.0),
        read_metrics(folder / METRICS),
    )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a metrics.jsonl that are whole; none where there is no such file."""
    found = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("losses"), dict) and "step" in record:
            found.append(record)
    return found


@dataclass(frozen=True)
class Subject:
    """What a report is about: runs that differ in their seed alone, and what was evaluated of them.

    label: what a reader calls it.
    runs: of training; none where folders hold results alone.
    groups: of evaluations, the one that says most first.
    """

    label: str
    runs: list[Run]
    groups: list[Group]

    @property
    def folder(self) -> Path:
        """The folder of its first run, or of its first results."""
        return self.runs[0].folder if self.runs else self.groups[0].runs[0][0].parent


def find_subjects(folders: Iterable[Path]) -> list[Subject]:
    """Read the runs and results in folders, and put runs together that differ in nothing but the seed.

    Results belong to the run whose checkpoint they are of, wherever they lie; those of a run that is not
    among the folders are a subject of their own.

    Raises InputError where a folder holds neither a checkpoint nor results.
    """
    runs: dict[str, list[Run]] = {}
    judged: list[Path] = []
    for folder in map(Path.expanduser, folders):
        if not folder.is_dir():
            raise InputError(f"{folder}: expected the folder of a run, found none")
        run = read_run(folder) if (folder / NAME).is_file() else None
        if run is not None and folder not in [known.folder for same in runs.values() for known in same]:
            runs.setdefault(_identity(run), []).append(run)
        try:
            find_groups([folder])
            judged.append(folder)
        except InputError:
            if run is None:
                raise
    subjects = {key: Subject(same[0].folder.name, same, []) for key, same in runs.items()}
    for group in sorted(find_groups(judged), key=_worth):
        subject = next((one for one in subjects.values() if _is_of(group, one)), None)
        if subject is None:
            place = group.runs[0][0].parent
            subject = subjects.setdefault(str(place), Subject(place.name, [], []))
        subject.groups.append(group)
    return list(subjects.values())


def _is_of(group, subject):
    """Whether results are of a subject's runs: they lie in their folders, or name their checkpoints."""
    folders = {run.folder.resolve() for run in subject.runs}
    for path, results in group.runs:
        checkpoint = results.settings.get("checkpoint")
        named = Path(checkpoint) if isinstance(checkpoint, str) else path
        if folders & {*path.resolve().parents, named.resolve(), named.resolve().parent}:
            return True
    return False


def _worth(group):
    """What says most comes first: linear probes of trained encoders, with baselines, over many runs."""
    first = group.runs[0][1]
    linear = first.evaluation.startswith("Linear")
    known = first.source == "pretrained"
    return (not known, not linear, not first.baselines, -len(group.runs), first.probe != "ridge")


def _identity(run):
    settings = {name: value for name, value in run.config.items() if name not in PLACES}
    dataset = {name: value for name, value in run.dataset.items() if name != "name"}
    return json.dumps([run.kind, settings, dataset], sort_keys=True)


@dataclass(frozen=True)
class Curve:
    """A figure over the steps of several runs: mean, lowest and highest (n,) at steps (n,)."""

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def curve(runs: list[Run], figure: Any) -> Curve | None:
    """Take a figure of each line of the runs' metrics, `figure(record)` or None; None where nobody has it."""
    found: dict[int, list[float]] = {}
    for run in runs:
        for record in run.metrics:
            value = figure(record)
            if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
                found.setdefault(int(record["step"]), []).append(float(value))
    most = max(map(len, found.values()), default=0)
    steps = sorted(step for step, values in found.items() if len(values) == most)  # where all runs have it
    if not steps:
        return None
    rows = [found[step] for step in steps]
    parts = (np.array([part(row) for row in rows]) for part in (np.mean, np.min, np.max))
    return Curve(np.array(steps, dtype=float), *parts)
