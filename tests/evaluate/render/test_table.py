"""Tables on terminals of several widths: every figure and every word of a heading stays whole."""

import io

import pytest
from rich.console import Console

from ikem_fast.evaluate import comparison_table, result_table
from ikem_fast.evaluate.results import Baseline, Results, SetResult

SIX = ("joint", "motion", "bone", "acceleration", "rotation_axis", "angular_velocity")
SETS = (*SIX, "+".join(SIX[:3]), "+".join(SIX))
METRICS = {"mAP": 55.2, "recall@1": 50.3, "recall@10": 61.4}


def lines(table, width):
    """What a terminal of that many columns shows."""
    console = Console(width=width, file=io.StringIO())
    console.print(table)
    return console.file.getvalue().splitlines()


def results(beside, before="", metrics=None):
    names = [before + name for name in SETS]
    one = SetResult(94.7, 99.8, {"wave": 93.1}, [[1]], metrics=metrics, deviation=1.6)
    figures, deviations = dict.fromkeys(names, 78.4), dict.fromkeys(names, 2.5)
    baselines = {
        name: Baseline(figures) if name in ("chance", "raw") else Baseline(figures, deviations, 3)
        for name in beside
    }
    clips = {"train": 431, "test": 430}
    return Results("Linear evaluation", "utd-mhad", {}, clips, ["wave"], dict.fromkeys(names, one),
                   probe="ridge", baselines=baselines)  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(
    ("beside", "before", "metrics"),
    [
        (("chance", "raw", "untrained"), "", None),
        (("chance", "raw", "untrained"), "", METRICS),
        (("chance", "raw", "untrained", "frozen", "scratch"), "10% of labels: ", None),
    ],
)
def test_no_figure_and_no_heading_is_broken(beside, before, metrics, width):
    shown = lines(result_table(results(beside, before, metrics)), width)
    assert max(map(len, shown)) <= width
    words = [*beside, "pretrained", "top-5", "classes", *(metrics or {})]
    found = " ".join(shown).split()
    assert set(words) <= set(found), shown
    text = "\n".join(shown)
    assert text.count("94.7 ± 1.6") == len(SETS) and text.count("99.8") == len(SETS)
    assert text.count("78.4 ± 2.5") == len(SETS) * (len(beside) - 2)


def test_the_usual_table_is_in_one_piece_at_80_columns():
    shown = lines(result_table(results(("chance", "raw", "untrained"))), 80)
    assert sum(line.startswith("joint ") for line in shown) == 1
    assert any(line.startswith("joint+motion+bone ") for line in shown)


def test_a_comparison_of_many_runs_is_whole_too():
    heads = [f"runs/some/{name}/linear: linear evaluation on utd-mhad, ridge, 1 run" for name in "abcd"]
    rows = [["modalities", *heads], ["joint", "94.7 ± 1.6", *["94.7 ± 1.6 (+0.8, p 0.034)"] * 3]]
    shown = lines(comparison_table(rows), 80)
    text = "\n".join(shown)
    assert max(map(len, shown)) <= 80 and text.count("94.7 ± 1.6 (+0.8, p 0.034)") == 3
    assert all(f"runs/some/{name}/linear:" in text for name in "abcd")
