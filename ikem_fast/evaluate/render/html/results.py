"""Sections of a page that show results: accuracies, confusion, gains of classes, tables."""

import statistics
from collections.abc import Sequence

import numpy as np

from ikem_fast.errors import printable
from ikem_fast.evaluate.render import occurring, scored_on, set_label
from ikem_fast.evaluate.render.html.charts import Bar, bars, differences, heat, key
from ikem_fast.evaluate.render.html.elements import Markup, section, table, tag
from ikem_fast.evaluate.render.table import figure
from ikem_fast.evaluate.results import Results

TRIO = "joint+motion+bone"
MOST_CLASSES = 40  # of which the gain is shown: halves of the largest gains and losses
MOST_PAIRS = 8
LABELS = 60  # classes whose names stand beside a confusion matrix
SIZE = 440  # units of a side of it
MANY = 24  # classes above which it takes the whole width, and a phone has no room for names


def over_seeds(runs: Sequence[Results], name: str) -> tuple[float, float | None]:
    """Compute a set's accuracy over runs: mean, and standard deviation of several."""
    top1 = [results.sets[name].top1 for results in runs if name in results.sets]
    if len(top1) > 1:
        return statistics.mean(top1), statistics.stdev(top1)
    return top1[0], next(results.sets[name].deviation for results in runs if name in results.sets)


def fused(results: Results) -> str:
    """Find the set of most modalities."""
    return max(results.sets, key=lambda name: name.count("+"))


def accuracy_section(runs: Sequence[Results]) -> Markup:
    """Show each set's accuracy, the mean over runs, beside what stands beside it."""
    first, many = runs[0], len(runs)
    beside = [name for name in ("untrained", "raw", "chance") if name in first.baselines]
    beside += [name for name in first.baselines if name not in beside]
    rows = []
    for name in first.sets:
        group = [Bar(first.source, *over_seeds(runs, name))]
        for other in beside:
            found = [run.baselines[other] for run in runs if other in run.baselines]
            values = [one.top1[name] for one in found if name in one.top1]
            if values:
                spread = found[0].deviation.get(name)
                group.append(Bar(other, statistics.mean(values), spread, f"beside {other}"))
        rows.append((set_label(name), group))
    told = {"untrained": "the same encoders with random weights", "raw": "the coordinates themselves",
            "chance": "always the commonest class"}  # fmt: skip
    legend = [("main", first.source), *((f"beside {name}", told.get(name, name)) for name in beside)]
    clips = scored_on(first)
    lead = (
        f"{first.evaluation} on {first.clips['test']} test clips{clips and f' ({clips})'}, top-1 in %"
        + (f", by the probe {first.probe} fitted to {first.clips['train']} clips" if first.probe else "")
        + (f"; mean ± standard deviation over {many} runs" if many > 1 else "")
        + ". What training is worth is what it adds to the best of the thin bars."
    )
    diverged = [
        f"The probe of {warning}: its accuracy says nothing." for run in runs for warning in run.warnings
    ]
    return section(
        "Accuracy", lead, key(legend), bars(rows), [tag("p", text, class_="warning") for text in diverged],
        name="accuracy",
    )  # fmt: skip


def confusion_section(runs: Sequence[Results]) -> Markup | None:
    """Show who is taken for whom by the set of most modalities, counted over all runs."""
    name = fused(runs[0])
    classes, counts = _occurring(runs, name)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    C = len(classes)
    pairs = [(shares[a, b], a, b) for a in range(C) for b in range(C) if a != b and counts[a, b]]
    worst = sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:MOST_PAIRS]
    rows = [["true class", "taken for", "share"]]
    rows += [[classes[a], classes[b], f"{100 * share:.0f} %"] for share, a, b in worst]
    size, room = SIZE, _room(classes)
    step = size / C
    labels = []
    for i, label in enumerate(classes if C <= LABELS else []):
        text, place = printable(label, 14), room + (i + 0.5) * step
        small = f"font-size:{_letters(classes):.1f}px"  # an attribute of its own yields to the sheet
        labels.append(tag("text", text, x=room - 5, y=f"{place:.1f}", class_="row", style=small))
        turned = f"rotate(-90 {place:.1f} {room - 5})"
        labels.append(
            tag("text", text, x=f"{place:.1f}", y=room - 5, transform=turned, class_="column", style=small)
        )
    frame = {"x": room, "y": room, "width": size, "height": size}
    picture = tag(
        "svg",
        tag("rect", **frame, class_="frame"),
        tag("image", href=heat(shares), **frame, preserveAspectRatio="none", class_="heat"),
        labels,
        viewBox=f"0 0 {room + size + 4} {room + size + 4}",
        class_="confusion",
        role="img",
        aria_label="confusion matrix",
    )
    lead = (
        f"By {set_label(name)}: rows are true classes, columns what they are taken for. Touch one to read it."
    )
    right = [tag("h3", "Most often mistaken"), table(rows)] if worst else [tag("p", "Nothing is mistaken.")]
    return section(
        "Confusion", lead,
        tag("div", tag("figure", picture, tag("output", class_="told")), tag("div", right),
            class_="halves" if C <= MANY else "whole"),
        name="confusion",
    )  # fmt: skip


def confusion_data(runs: Sequence[Results]) -> dict[str, object]:
    """List what the script tells of a cell that is touched."""
    labels, counts = _occurring(runs, fused(runs[0]))
    classes = [printable(label, 60) for label in labels]
    return {"classes": classes, "counts": counts.tolist(), "room": _room(classes)}


def _occurring(runs, name):
    """The classes that test clips are of or are taken for, and who of these is taken for whom (C,C)."""
    counts = sum(np.array(run.sets[name].confusion) for run in runs if name in run.sets)
    return occurring(runs[0].classes, np.asarray(counts))


def _room(classes):
    """Units beside a confusion matrix for the names of classes."""
    longest = max(len(printable(label, 14)) for label in classes)
    return min(160, 14 + 0.58 * _letters(classes) * longest) if len(classes) <= LABELS else 12


def _letters(classes):
    """Units that names beside a confusion matrix are high: as its rows, but not above what reads well."""
    return min(18, 0.82 * SIZE / len(classes))


def gains_section(runs: Sequence[Results]) -> Markup | None:
    """Show which classes gain by all modalities over three; None where not both were judged."""
    name = fused(runs[0])
    if TRIO not in runs[0].sets or name == TRIO:
        return None
    return _gains(
        f"What {set_label(name)} add to three",
        "Accuracy of each class by all modalities, less that by joint, motion and bone",
        _of_classes(runs, name), _of_classes(runs, TRIO), runs[0].classes, len(runs), "gains",
    )  # fmt: skip


def difference_section(
    first: Sequence[Results], second: Sequence[Results], labels: tuple[str, str], name: str
) -> Markup | None:
    """Show which classes one group of runs gets right more often than another; None where classes differ.

    name: of the section's anchor.
    """
    if first[0].classes != second[0].classes:
        return None
    sets = [fused(first[0]), fused(second[0])]
    lead = (
        f"Accuracy of each class, {labels[1]} ({set_label(sets[1])}) less {labels[0]} ({set_label(sets[0])})"
    )
    return _gains(
        f"{labels[1]} against {labels[0]}", lead, _of_classes(second, sets[1]), _of_classes(first, sets[0]),
        first[0].classes, max(len(first), len(second)), name,
    )  # fmt: skip


def _gains(title, lead, more, less, classes, runs, name):
    rows = [(label, more[label] - less[label]) for label in classes if label in more and label in less]
    moved = sorted((row for row in rows if row[1]), key=lambda row: row[1])
    left_out = len(moved) - MOST_CLASSES
    if left_out > 0:
        moved = moved[: MOST_CLASSES // 2] + moved[-MOST_CLASSES // 2 :]
    better, worse = sum(value > 0 for _, value in rows), sum(value < 0 for _, value in rows)
    lead += f", in percentage points{', mean of the runs' if runs > 1 else ''}: {better} of {len(rows)} "
    lead += f"classes gain, {worse} lose."
    lead += f" The largest {MOST_CLASSES} differences are shown." if left_out > 0 else ""
    return section(title, lead, differences(moved), name=name)


def _of_classes(runs, name):
    """Class → accuracy in %, the mean over runs."""
    found = [run.sets[name].per_class for run in runs if name in run.sets]
    return {
        label: statistics.mean([one[label] for one in found])
        for label, value in found[0].items()
        if value is not None
    }


def others_table(groups: Sequence[tuple[str, Sequence[Results]]]) -> Markup:
    """Show further evaluations of the same run, a column each."""
    sets = dict.fromkeys(name for _, runs in groups for name in runs[0].sets)
    rows: list[list[object]] = [["modalities", *(label for label, _ in groups)]]
    for name in sets:
        cells = [figure(*over_seeds(runs, name)) if name in runs[0].sets else "" for _, runs in groups]
        rows.append([set_label(name), *cells])
    return table(rows)
