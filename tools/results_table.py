"""The tables of docs/results.md out of what tools/reproduce_results.sh left, as Markdown.

usage: python tools/results_table.py DATASET_FOLDER [DATASET_FOLDER ...]
Folders of the same dataset and test clips, such as SBU's five folds, make one table: a run is a seed of a
fold. The deviation of untrained encoders is a single one's, as that of a pretrained one is: each run has the
mean and deviation of three.
"""

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from ikem_fast.evaluate.render import set_label
from ikem_fast.evaluate.results import read_results

RUNS = {
    "six": "six pretrained",
    "student": "student of the six",
    "three": "three alone",
    "crossclr": "six, `crossclr`",
    "skeletonclr": "six, `skeletonclr`",
}
LOG = "metrics.jsonl"
PROBES = {"ridge": ("linear_probe=ridge", "linear.json"), "1-NN … 20-NN": ("knn_*", "knn.json")}


def tables(folders):
    """One dataset: a table a probe, top-1 of every set of modalities as mean ± deviation over runs."""
    runs = sorted(
        run for folder in folders for run in Path(folder).glob("seed*") if _result(run / "six", "ridge")
    )
    first = _result(runs[0] / "six", "ridge")
    lines = [
        f"### {first.dataset}: {first.clips['train']} training clips, {first.clips['test']} test clips, "
        f"{len(first.classes)} classes, {len(runs)} runs",
    ]
    for probe in PROBES:
        lines += ["", f"Probe {probe}:", "", *_table(runs, probe)]
    sgd = [
        read_results(path).sets for run in runs for path in (run / "six").glob("linear_probe=sgd/linear.json")
    ]
    if sgd:
        all_six = max(sgd[0], key=lambda together: together.count("+"))
        lines += [
            "",
            f"Published probe (SGD, rate 3.0), all six: {_cell([sets[all_six].top1 for sets in sgd])}.",
        ]
    efforts = [_effort(runs, kind) for kind in RUNS if (runs[0] / kind / LOG).is_file()]
    return "\n".join([*lines, *(["", "; ".join(efforts) + "."] if efforts else [])])


def _table(runs, probe):
    six = [result for run in runs if (result := _result(run / "six", probe))]
    columns = {
        name: [result.baselines[name].top1 for result in six] for name in ("chance", "raw", "untrained")
    }
    within = {
        name: statistics.mean(result.baselines["untrained"].deviation[name] ** 2 for result in six)
        for name in six[0].sets
    }
    for kind, title in RUNS.items():
        found = [result for run in runs if (result := _result(run / kind, probe))]
        if found:
            columns[title] = [{name: one.top1 for name, one in result.sets.items()} for result in found]
    yield "| modalities | " + " | ".join(columns) + " |"
    yield "| --- |" + " ---: |" * len(columns)
    for modalities in six[0].sets:
        cells = [
            _cell(
                [run[modalities] for run in each if modalities in run],
                within[modalities] if title == "untrained" else 0.0,
            )
            for title, each in columns.items()
        ]
        yield f"| {set_label(modalities)} | " + " | ".join(cells) + " |"


def _result(run, probe):
    where, name = PROBES[probe]
    return next((read_results(path) for path in sorted(run.glob(f"{where}/{name}"))), None)


def _cell(top1, within=0.0):
    """Mean ± deviation; within: the variance that each figure has in itself, where it is a mean."""
    if len(top1) < 2:
        return "".join(f"{value:.1f}" for value in top1)
    deviation = (statistics.variance(top1) + within) ** 0.5
    return f"{statistics.mean(top1):.1f}" + (f" ± {deviation:.1f}" if deviation else "")


def _effort(runs, kind):
    logs = [(run / kind / LOG).read_text().splitlines() for run in runs if (run / kind).is_dir()]
    epochs = [[json.loads(line) for line in log] for log in logs]
    minutes = statistics.mean(sum(epoch["seconds"] for epoch in run) / 60 for run in epochs)
    return f"{RUNS[kind]}: {epochs[0][-1]['step']} steps in {minutes:.1f} minutes"


if __name__ == "__main__":
    datasets = defaultdict(list)
    for folder in sys.argv[1:]:
        results = read_results(next(Path(folder).glob("seed*/six/linear_*/linear.json")))
        datasets[results.dataset, results.settings.get("drop_copies", False)].append(folder)
    print("\n\n".join(tables(folders) for folders in datasets.values()))
