"""Pages of results: text is text, bars are as long as figures, and what is compared is told apart."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ikem_fast.evaluate import Baseline, Results, SetResult, comparison_page
from ikem_fast.evaluate.render import html
from ikem_fast.evaluate.render.html import charts
from ikem_fast.evaluate.render.html.charts import Bar, Line, LineChart, bars, differences, heat, ticks
from ikem_fast.evaluate.render.html.comparison import shortened
from ikem_fast.evaluate.render.html.elements import Markup, tag
from ikem_fast.evaluate.render.html.results import (
    accuracy_section,
    confusion_data,
    confusion_section,
    gains_section,
)
from ikem_fast.evaluate.render.picture import _draw_confusion
from tests.pages import read_page

HOSTILE = "<script>alert(1)</script>\x1b[2J\"'&"


def results(top1=(50.0, 75.0), sets=("joint", "joint+motion"), classes=("sit", "stand"), **more):
    made = {
        name: SetResult(value, 100.0, dict(zip(classes, (value, 100.0), strict=True)), [[1, 1], [0, 2]])
        for name, value in zip(sets, top1, strict=True)
    }
    clips = {"train": 8, "test": 4}
    return Results("Linear evaluation", "people", {}, clips, list(classes), made, probe="ridge", **more)


def test_text_is_escaped_and_markup_is_not():
    found = tag("p", HOSTILE, Markup("<b>"), None, title=HOSTILE, hidden=None)
    assert "<script>" not in found and "\x1b" not in found and found.count("<b>") == 1
    page = read_page(found)
    assert not page.scripts and "".join(page.text) == "<script>alert(1)</script>\\x1b[2J\"'&"


def test_bars_are_as_long_as_their_figures():
    found = bars([("joint", [Bar("trained", 62.5, 2.0), Bar("raw", 140.0, None, "beside raw")])])
    assert re.findall(r'<b style="width:([\d.]+)%', found) == ["62.50", "100.00"]
    assert re.findall(r'<em style="left:([\d.]+)%;width:([\d.]+)%', found) == [("60.50", "4.00")]
    assert "62.5 ± 2.0" in found


def test_differences_go_to_both_sides_from_the_largest_gain():
    found = differences([("worse", -5.0), ("better", 10.0), ("same", 0.0)])
    assert re.findall(r'class="figure">([^<]+)', found) == ["+10.0", "+0.0", "-5.0"]
    assert re.findall(r"left:([\d.]+)%;width:([\d.]+)%", found) == [
        ("50.00", "50.00"), ("50.00", "0.00"), ("25.00", "25.00"),
    ]  # fmt: skip


def test_a_line_goes_through_its_points():
    steps = np.arange(1.0, 6.0)
    chart = LineChart("Loss", "step", [Line("joint", steps, steps[::-1] * 2)])
    path = re.search(r'<polyline points="([^"]+)"', chart.draw("loss"))[1]
    xs, ys = np.array([list(map(float, point.split(","))) for point in path.split()]).T
    assert np.allclose(np.diff(xs), np.diff(xs)[0], atol=0.2) and (np.diff(ys) > 0).all()  # down the page
    (told,) = chart.data()["lines"]
    assert told["x"] == [1, 2, 3, 4, 5] and told["y"] == [10, 8, 6, 4, 2]


def test_long_lines_are_thinned_to_means():
    steps = np.arange(10_000.0)
    (told,) = LineChart("Loss", "step", [Line("joint", steps, steps)]).data()["lines"]
    assert 150 < len(told["x"]) <= 300
    assert np.allclose(told["x"], told["y"], rtol=1e-4)


@pytest.mark.parametrize("range", [(0, 1), (0.2, 0.27), (-3, 900), (1e-7, 3e-7)])
def test_ticks_are_round_few_and_inside(range):
    found = ticks(*range)
    assert 2 <= len(found) <= 6
    step = np.diff(found)
    assert (
        np.allclose(step, step[0], rtol=1e-3) and range[0] - 1e-9 <= found[0] <= found[-1] <= range[1] + 1e-9
    )


def test_a_confusion_matrix_is_inked_by_its_shares():
    address = heat(np.array([[1.0, 0.0], [0.25, 0.75]]))
    image = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    alpha = np.asarray(image)[..., 3]
    assert alpha[0, 0] == 255 and alpha[0, 1] == 0 and 0 < alpha[1, 0] < alpha[1, 1] < 255
    assert (np.asarray(image)[1, 0, :3] != np.asarray(image)[1, 1, :3]).any()  # mistakes look like mistakes


def test_a_confusion_matrix_has_the_classes_that_occur():
    """Those of test clips, and those that they are taken for; many of them get the width of the page."""
    classes = [f"class {number}" for number in range(60)]
    confusion = np.zeros((60, 60), int)
    confusion[3, 3], confusion[3, 50], confusion[9, 9] = 4, 2, 1
    one = SetResult(0.0, 0.0, dict.fromkeys(classes, 0.0), confusion.tolist())
    found = Results("e", "d", {}, {"train": 1, "test": 7}, classes, {"joint": one})
    data = confusion_data([found])
    assert data["classes"] == ["class 3", "class 9", "class 50"]
    assert data["counts"] == [[4, 0, 2], [0, 1, 0], [0, 0, 0]]
    shown = str(confusion_section([found]))
    assert ">class 50<" in shown and ">class 10<" not in shown and 'class="halves"' in shown
    figure = Figure()
    _draw_confusion(figure.add_subplot(), found)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == data["classes"]
    everyone = replace(one, confusion=np.eye(60, dtype=int).tolist())
    assert 'class="whole"' in str(confusion_section([replace(found, sets={"joint": everyone})]))


def test_type_is_large_enough_at_every_width_and_paper_is_white():
    """Charts have at least 10.5 pixels a letter where they are narrowest, beside each other or on a phone."""
    style = (Path(html.__file__).parent / "page.css").read_text(encoding="utf-8")
    size = float(re.search(r"\.chart text { font-size: ([\d.]+)px; }", style)[1])
    least = int(re.search(r"\.grid {.*minmax\(min\((\d+)px", style)[1]) - 2 * 14
    assert size * least / charts.WIDTH >= 10.5
    sizes = re.findall(r"font-size: ([\d.]+)px", style.partition("@media print")[0])
    assert min(map(float, sizes)) >= 12
    dark = re.findall(r"@media ([^{]*prefers-color-scheme: dark[^{]*){", style)
    assert dark and all(one.startswith("screen") for one in dark)


def test_names_beside_a_confusion_matrix_are_as_small_as_its_rows():
    """In a style: as an attribute, a size would yield to that of the sheet."""
    classes = [f"class {number}" for number in range(60)]
    one = SetResult(100.0, 100.0, dict.fromkeys(classes, 100.0), np.eye(60, dtype=int).tolist())
    found = Results("Linear evaluation", "d", {}, {"test": 60}, classes, {"joint": one})
    section = confusion_section([found])
    names = re.findall(r"<text [^>]*>class", section)
    rows = [float(re.search(r' y="([\d.]+)"', name)[1]) for name in names if 'class="row"' in name]
    sizes = {float(re.search(r'style="font-size:([\d.]+)px"', name)[1]) for name in names}
    assert len(names) == 120 and 4 < max(sizes) <= min(np.diff(rows)) and "font-size=" not in section


def test_accuracies_of_several_runs_are_a_mean_with_a_deviation():
    beside = {"raw": Baseline({"joint": 40.0, "joint+motion": 41.0})}
    runs = [results((50, 70), baselines=beside), results((54, 80), baselines=beside)]
    found = accuracy_section(runs)
    assert "52.0 ± 2.8" in found and "75.0 ± 7.1" in found and "41.0" in found
    assert "2 runs" in found


def test_a_diverged_probe_is_warned_of():
    made = results()
    made.sets["joint"] = SetResult(1, 1, {"sit": 1, "stand": 1}, [[0, 1], [1, 0]], diverged="infinite")
    assert "joint: infinite" in accuracy_section([made])


def test_the_worst_mistakes_are_named():
    found = confusion_section([results(classes=("sit", HOSTILE))])
    assert re.search(r"sit</th><td>&lt;script&gt;.*?<td>50 %", found)
    assert "<script>" not in found


def test_gains_need_three_modalities_and_more():
    assert gains_section([results()]) is None
    six = "joint+motion+bone+acceleration"
    found = gains_section([results((50, 75), ("joint+motion+bone", six))])
    assert "+25.0" in found and "1 of 2 classes gain, 0 lose" in found


@pytest.mark.parametrize(
    ("labels", "short"),
    [
        (["runs/six/linear", "runs/three/linear"], ["six", "three"]),
        (["a/b", "a/c/b"], ["b", "c/b"]),
        (["six", "three"], ["six", "three"]),
        (["runs/six"], ["six"]),
        (["a/x", "b/x"], ["a", "b"]),
    ],
)
def test_labels_keep_what_tells_them_apart(labels, short):
    assert shortened(labels) == short


def test_a_comparison_shows_each_column_and_its_difference():
    columns = {"runs/six/linear": [results((50, 90))], f"runs/{HOSTILE}/linear": [results((40, 70))]}
    page = comparison_page(columns, lambda first, column, name: (-20.0, 0.04))
    read = read_page(page)
    shown = " ".join(read.text)
    assert not read.links and len(read.scripts) == 3
    assert "(-20.0, p 0.04)" in shown and "90.0 %" in shown and "-20.0" in shown
    assert "alert(1)</script>" not in page.partition("<body>")[2].partition("<script")[0]
