"""The report: everything that is known of a run, in one page."""

import os
import platform
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ikem_fast import __version__
from ikem_fast.data import open_dataset
from ikem_fast.errors import InputError, printable
from ikem_fast.evaluate.compare import paired_test
from ikem_fast.evaluate.render import set_label
from ikem_fast.evaluate.render.comparison import NOTE, comparison_rows
from ikem_fast.evaluate.render.html.elements import Markup, section, table, tag
from ikem_fast.evaluate.render.html.page import page
from ikem_fast.evaluate.render.html.results import (
    accuracy_section,
    confusion_data,
    confusion_section,
    fused,
    gains_section,
    others_table,
    over_seeds,
)
from ikem_fast.evaluate.results import SCORES, read_scores
from ikem_fast.files import write_text
from ikem_fast.report.clips import Shelf, features_of, map_section, neighbors_section
from ikem_fast.report.runs import Subject, find_subjects
from ikem_fast.report.training import (
    curve_charts,
    curves_section,
    minutes,
    settings_section,
    time_section,
)
from ikem_fast.runtime.device import choose_device
from ikem_fast.settings import checked

KINDS = {"pretrain": "Pretraining", "distill": "Distillation"}


@checked
def report(
    runs: tuple[Path, ...],
    out: Path = Path("report.html"),
    data: Path | None = None,
    device: str = "auto",
) -> None:
    """Write what a run did and what came of it as one page, which needs no network.

    Args:
        runs: Folders of runs and of their evaluations, which are found in the folders of runs too. Runs that
            differ in nothing but the seed are taken together; the page is about the first, others stand
            beside it.
        out: The page.
        data: Folder of the prepared dataset, for the map of features and the neighbors; where training had
            it, if not given.
        device: Where features are computed: cpu, cuda, cuda:1, …; auto takes a GPU where there is one.

    Example:
        report((Path("runs/teacher"),), Path("report.html"))
    """
    write_report(runs, out, data, device)
    print(out)


def write_report(runs: Sequence[Path], out: Path, data: Path | None = None, device: str = "auto") -> None:
    """Write the report on runs to a file; see `report`.

    Raises InputError where a folder holds neither a run nor results.

    Example:
        write_report([Path("runs/teacher"), Path("runs/linear")], Path("report.html"))
    """
    if not runs:
        raise InputError("runs: expected folders of runs, found none")
    subject, *others = find_subjects(runs)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, report_page(subject, others, data, choose_device(device)))


def report_page(subject: Subject, others: list[Subject], data: Path | None, device: torch.device) -> str:
    """Write the page about a subject, beside others."""
    spent: dict[str, float] = {}
    results = [result for _, result in subject.groups[0].runs] if subject.groups else []
    sections: list[tuple[str, Markup | None]] = []
    found: dict[str, Any] = {"charts": {}}
    if results:
        sections += [("Accuracy", accuracy_section(results)), ("Others", _others(subject, others))]
    else:
        sections.append(("Accuracy", _not_evaluated(subject)))
    if subject.runs:
        charts = curve_charts(subject.runs)
        found["charts"] = {name: chart.data() for name, chart in charts.items()}
        sections.append(("Training", curves_section(subject.runs, charts)))
    if results:
        found["confusion"] = confusion_data(results)
        sections += [("Confusion", confusion_section(results)), ("Gains", gains_section(results))]
    if subject.runs:
        sections += _clip_sections(subject, data, device, found, spent)
        sections += [
            ("Time", time_section(subject.runs, spent)),
            ("Settings", settings_section(subject.runs, _facts(subject, device))),
        ]
    title, subtitle = _title(subject, results)
    return page(title, subtitle, _tiles(subject, results), sections, found)


def _clip_sections(subject, data, device, found, spent):
    """The map and the neighbors, or why they are not there."""
    run = subject.runs[0]
    where = Path(run.config["data"]) if data is None else data.expanduser()
    try:
        dataset = open_dataset(where)
        if not len(dataset["test"]) or not len(dataset["train"]):
            raise InputError(f"{where}: expected clips of both splits")
        with _timed(spent, "features of clips, for the map"):
            seen = features_of(run.folder, dataset, device)
    except InputError as error:
        told = f"Left out: {printable(error, 600)}. --data says where the dataset is."
        return [("Map", section("Map", "", tag("p", told, class_="note"), name="map"))]
    shelf = Shelf(dataset.skeleton)
    with _timed(spent, "the map"):
        mapped, points = map_section(seen, _taken(subject), shelf)
    neighbors = neighbors_section(seen, shelf)
    found |= {"map": points, "clips": shelf.data(), "classes": [printable(c, 60) for c in dataset.classes]}
    return [("Map", mapped), ("Neighbors", neighbors)]


def _taken(subject):
    """Clip's name → class that the first run's best evaluation took it for."""
    if not subject.groups:
        return {}
    path, results = subject.groups[0].runs[0]
    scores = path.with_name(SCORES.format(path.stem))
    if not scores.is_file():
        return {}
    read = read_scores(scores)
    name = fused(results)
    if name not in read.sets:
        return {}
    return dict(zip(map(str, read.names.tolist()), read.sets[name].argmax(1).tolist(), strict=True))


def _others(subject, others):
    """Further evaluations of the subject, and the same evaluation of other runs with a paired test."""
    parts: list[Any] = []
    further = [(_called(group), [result for _, result in group.runs]) for group in subject.groups[1:]]
    if further:
        parts += [tag("h3", "Other evaluations of the same run"), others_table(further)]
    first = subject.groups[0]
    beside = [(other.label, _alike(first, other)) for other in others]
    beside = [(label, group) for label, group in beside if group is not None]
    if beside:
        groups = [first, *(group for _, group in beside)]
        columns = {}
        for label, group in zip([subject.label, *(label for label, _ in beside)], groups, strict=True):
            columns[label if label not in columns else group.label] = [result for _, result in group.runs]
        rows = comparison_rows(
            columns, lambda one, other, name: paired_test(groups[one], groups[other], name)
        )
        parts += [tag("h3", "Beside other runs"), table(rows), tag("p", NOTE, class_="note")]
    missing = [other.label for other in others if _alike(first, other) is None]
    parts += [tag("p", f"{label}: no evaluation like this one.", class_="note") for label in missing]
    return section("Others", "What else was evaluated.", *parts, name="others") if parts else None


def _alike(first, other):
    """The group of another subject that was judged as `first` was."""
    like = first.runs[0][1]
    for group in other.groups:
        one = group.runs[0][1]
        if (one.evaluation, one.probe, one.dataset) == (like.evaluation, like.probe, like.dataset):
            return group
    return None


def _called(group):
    first = group.runs[0][1]
    runs = len(group.runs)
    probe = f", {first.probe}" if first.probe else ""
    return f"{first.evaluation}{probe} ({first.source}, {runs} run{'s' * (runs > 1)})"


def _not_evaluated(subject):
    run = subject.runs[0]
    command = f"ikem-fast evaluate linear --data {run.config['data']} --checkpoint {run.folder} --out "
    told = "Nothing was evaluated yet. This does, and then the report has accuracies:"
    return section("Accuracy", told, tag("pre", f"{command}{run.folder / 'linear'}"), name="accuracy")


def _title(subject, results):
    if not subject.runs:
        return f"{results[0].evaluation} on {results[0].dataset}", subject.label
    run = subject.runs[0]
    encoder = run.config.get("model", {}).get("encoder", {}).get("name")
    seeds = ", ".join(str(one.config.get("seed")) for one in subject.runs)
    parts = [
        f"{len(run.modalities)} modalities",
        f"encoder {encoder}" if encoder else None,
        f"{run.steps} steps" if run.steps else None,
        f"{run.dataset.get('clips')} training clips" if run.dataset.get("clips") else None,
        f"seed{'s' * (len(subject.runs) > 1)} {seeds}",
        str(run.folder),
    ]
    method = str(run.config.get("method", "")).upper() if run.kind == "pretrain" else ""
    title = f"{KINDS[run.kind]}{f' by {method}' if method else ''} on {run.dataset.get('name')}"
    return title, " · ".join(part for part in parts if part)


def _tiles(subject, results):
    tiles = []
    if results:
        name = fused(results[0])
        mean, spread = over_seeds(results, name)
        tiles.append(
            (_percent(mean, spread), f"{set_label(name)}, {results[0].probe or results[0].evaluation}")
        )
        for other, what in (
            ("untrained", "random weights"),
            ("raw", "raw coordinates"),
            ("chance", "chance"),
        ):
            if other in results[0].baselines and name in results[0].baselines[other].top1:
                tiles.append((_percent(results[0].baselines[other].top1[name]), what))
    if subject.runs:
        seconds = sum(run.seconds for run in subject.runs) / len(subject.runs)
        tiles.append((minutes(seconds), "of training, each run" if len(subject.runs) > 1 else "of training"))
    return tiles


def _percent(value, spread=None):
    return f"{value:.1f} %" if spread is None else f"{value:.1f} ± {spread:.1f} %"


def _facts(subject, device):
    where = platform.processor() or platform.machine()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else where
    return [
        ("ikem-fast", __version__), ("torch", torch.__version__), ("Python", platform.python_version()),
        ("system", platform.platform()), ("device", f"{device} ({name}, {os.cpu_count()} cores)"),
        ("runs", ", ".join(str(run.folder) for run in subject.runs)),
        ("written", time.strftime("%Y-%m-%d %H:%M")),
    ]  # fmt: skip


@contextmanager
def _timed(spent, what):
    began = time.perf_counter()
    yield
    spent[what] = time.perf_counter() - began
