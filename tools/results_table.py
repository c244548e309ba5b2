"""The table of docs/results.md out of what tools/reproduce_results.sh left: one Markdown table a dataset.

usage: python tools/results_table.py RUN [RUN ...]
"""

import json
import platform
import sys
from pathlib import Path

import torch

from ikem_fast.evaluate.report import set_label

COLUMNS = {"untrained": "linear_untrained", "pretrained": "linear_trained", "student": "linear_student"}


def table(run):
    read = lambda folder: json.loads((run / folder / "linear.json").read_text())  # noqa: E731
    reports = {name: read(folder) for name, folder in COLUMNS.items()}
    pretrained = reports["pretrained"]
    clips, classes = pretrained["clips"], len(pretrained["classes"])
    lines = [
        f"### {pretrained['dataset']}: {clips['train']} training clips, {clips['test']} test clips, "
        f"{classes} classes",
        "",
        "| modalities | " + " | ".join(f"{name}, top-1 (top-5)" for name in COLUMNS) + " |",
        "| --- |" + " ---: |" * len(COLUMNS),
    ]
    for modalities in pretrained["sets"]:
        results = [report["sets"].get(modalities) for report in reports.values()]
        cells = [f"{r['top1']:.1f} ({r['top5']:.1f})" if r else "" for r in results]
        lines.append(f"| {set_label(modalities)} | " + " | ".join(cells) + " |")
    for kind in ("teacher", "student"):
        epochs = [json.loads(line) for line in (run / kind / "metrics.jsonl").read_text().splitlines()]
        minutes = sum(epoch["seconds"] for epoch in epochs) / 60
        lines += ["", f"{kind}: {len(epochs)} epochs, {minutes:.0f} minutes"]
    return "\n".join(lines)


if __name__ == "__main__":
    print(f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads\n")
    print("\n\n".join(table(Path(run)) for run in sys.argv[1:]))
