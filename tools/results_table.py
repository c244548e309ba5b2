"""The tables of docs/results.md out of what tools/reproduce_results.sh left, as Markdown.

usage: python tools/results_table.py DATASET_FOLDER [DATASET_FOLDER ...]
"""

import json
import statistics
import sys
from pathlib import Path

from ikem_fast.evaluate.render import set_label

COLUMNS = {
    "untrained": "linear_untrained",
    "six pretrained": "linear_six",
    "student of the six": "linear_student",
    "three pretrained": "linear_three",
}
KINDS = {"six": "pretraining of six", "student": "distillation", "three": "pretraining of three"}


def table(folder):
    """One dataset: top-1 of every set of modalities, mean ± standard deviation over seeds."""
    runs = sorted(path for path in folder.glob("seed*") if (path / "linear_three" / "linear.json").is_file())
    reports = {name: [_read(run / where / "linear.json") for run in runs] for name, where in COLUMNS.items()}
    six = reports["six pretrained"][0]
    lines = [
        f"### {six['dataset']}: {six['clips']['train']} training clips, {six['clips']['test']} test clips, "
        f"{len(six['classes'])} classes",
        "",
        f"Top-1 in %, mean ± standard deviation over {len(runs)} seeds:",
        "",
        "| modalities | " + " | ".join(COLUMNS) + " |",
        "| --- |" + " ---: |" * len(COLUMNS),
    ]
    for modalities in six["sets"]:
        cells = [_cell([report["sets"].get(modalities) for report in each]) for each in reports.values()]
        lines.append(f"| {set_label(modalities)} | " + " | ".join(cells) + " |")
    lines += ["", "; ".join(_effort(runs, kind, name) for kind, name in KINDS.items()) + "."]
    return "\n".join(lines)


def _read(path):
    return json.loads(path.read_text())


def _cell(results):
    if None in results:
        return ""
    top1 = [result["top1"] for result in results]
    return f"{statistics.mean(top1):.1f} ± {statistics.stdev(top1) if len(top1) > 1 else 0:.1f}"


def _effort(runs, kind, name):
    epochs = [
        [json.loads(line) for line in (run / kind / "metrics.jsonl").read_text().splitlines()] for run in runs
    ]
    minutes = statistics.mean(sum(epoch["seconds"] for epoch in run) / 60 for run in epochs)
    return f"{name}: {len(epochs[0])} epochs in {minutes:.0f} minutes"


if __name__ == "__main__":
    print("\n\n".join(table(Path(folder)) for folder in sys.argv[1:]))
