"""Sections on training: its curves, its time, its settings."""

import json
import statistics
from typing import Any

from ikem_fast.evaluate.render.html.charts import Line, LineChart, grid, key
from ikem_fast.evaluate.render.html.elements import Markup, section, table, tag
from ikem_fast.report.repeat import repeating_command
from ikem_fast.report.runs import Run, curve

HEALTH = {
    "knn": ("Nearest neighbor of the same class, %", 1),
    "rank": ("Effective rank of features", 0),
    "positive": ("Cosine with the own key", 2),
}


def curve_charts(runs: list[Run]) -> dict[str, LineChart]:
    """Make the charts of training, by name: losses, what health looks found, throughput."""
    names = list(dict.fromkeys(name for run in runs for record in run.metrics for name in record["losses"]))
    phases = _phases(runs[0])
    shades = phases[1:] if len(phases) > 1 else ()
    titles = {"loss": ("Loss", 2), **HEALTH}
    charts = {}
    for figure, (title, digits) in titles.items():
        lines = []
        for place, name in enumerate(names):
            if figure == "loss":
                found = curve(runs, lambda record, name=name: record["losses"].get(name))
            else:
                found = curve(runs, lambda record, name=name, figure=figure: _health(record, name, figure))
            if found is not None:
                lines.append(_line(name.replace("_", " "), found, f"line-{place % 8}"))
        if lines:
            charts[figure] = LineChart(title, "step", lines, shades, digits=digits)
    speed = curve(runs, lambda record: record.get("clips_per_second"))
    if speed is not None:
        charts["speed"] = LineChart(
            "Clips a second", "step", [_line("clips/s", speed, "line-6")], shades, digits=0
        )
    return charts


def curves_section(runs: list[Run], charts: dict[str, LineChart]) -> Markup | None:
    """Show how training went."""
    if not charts:
        return None
    lines = charts["loss"].lines if "loss" in charts else ()
    lead = "Touch a chart to read it. " + (
        f"Lines are means of {len(runs)} runs, bands reach from the lowest to the highest."
        if len(runs) > 1
        else "Losses are means over the clips of an epoch."
    )
    warnings = dict.fromkeys(
        text for run in runs for record in run.metrics for text in record.get("warnings", ())
    )
    return section(
        "Training", lead, key([(line.kind, line.label) for line in lines]),
        grid([chart.draw(name) for name, chart in charts.items()]),
        [tag("p", f"Warned: {text}", class_="warning") for text in warnings], name="training",
    )  # fmt: skip


def time_section(runs: list[Run], parts: dict[str, float]) -> Markup:
    """Show where the time went, in training and in writing the report.

    parts: what was done for the report → seconds.
    """
    phases: dict[str, list[float]] = {}
    speeds: dict[str, list[float]] = {}
    for run in runs:
        for record in run.metrics:
            phases.setdefault(record.get("phase", "training"), []).append(record.get("seconds", 0.0))
            speeds.setdefault(record.get("phase", "training"), []).append(record.get("clips_per_second", 0.0))
    rows: list[list[Any]] = [["part", "time", "share", "clips a second"]]
    spent = {phase: sum(seconds) / len(runs) for phase, seconds in phases.items()}
    kept = statistics.mean(run.seconds for run in runs)
    if kept > sum(spent.values()):
        spent["rest: looks, checkpoints"] = kept - sum(spent.values())
    whole = sum(spent.values()) or 1.0
    for phase, seconds in spent.items():
        speed = f"{statistics.median(speeds[phase]):.0f}" if phase in speeds else ""
        rows.append([phase, minutes(seconds), f"{100 * seconds / whole:.0f} %", speed])
    rows += [[what, minutes(seconds), "", ""] for what, seconds in parts.items()]
    bar = [
        tag(
            "span",
            style=f"flex-grow:{max(seconds, 0):.3f}",
            class_=f"line-{place}",
            title=f"{part}: {minutes(seconds)}",
        )
        for place, (part, seconds) in enumerate(spent.items())
    ]
    lead = f"Training took {minutes(kept)}" + (f" in the mean of {len(runs)} runs" if len(runs) > 1 else "")
    lead += "; below it, what this page took."
    return section("Time", lead, tag("div", bar, class_="time"), table(rows), name="time")


def settings_section(runs: list[Run], facts: list[tuple[str, str]]) -> Markup:
    """Show the command that repeats the run, what it ran on, and every setting."""
    first = runs[0]
    rows: list[list[Any]] = [["setting", "value"]]
    rows += [[name, json.dumps(value, ensure_ascii=False)] for name, value in _flat(first.config)]
    seeds = ", ".join(str(run.config.get("seed")) for run in runs)
    lead = "The command that repeats it" + (
        f", here with the first of the seeds {seeds}." if len(runs) > 1 else "."
    )
    return section(
        "Settings", lead, _lines(repeating_command(first)),
        tag("details", tag("summary", f"All {len(rows) - 1} settings"), table(rows)),
        tag("details", tag("summary", "What it was written with"),
            table([["what", "value"], *map(list, facts)])), name="settings",
    )  # fmt: skip


def _lines(text):
    return tag("pre", [[line, Markup("\n")] for line in text.splitlines()])


def minutes(seconds: float) -> str:
    """Write a time for people."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _line(label, found, kind):
    band = (found.low, found.high) if (found.high > found.low).any() else (None, None)
    return Line(label, found.steps, found.mean, *band, kind)


def _health(record, name, figure):
    health = record.get("health")
    return health.get(name, {}).get(figure) if isinstance(health, dict) else None


def _phases(run):
    """(first step, last step, name) of each phase, in order."""
    found: list[list[Any]] = []
    for record in run.metrics:
        phase = str(record.get("phase", "training"))
        if found and found[-1][2] == phase:
            found[-1][1] = record["step"]
        else:
            found.append([found[-1][1] if found else 0, record["step"], phase])
    return [tuple(one) for one in found]


def _flat(settings, prefix=""):
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
