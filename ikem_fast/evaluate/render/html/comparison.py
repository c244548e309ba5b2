"""Groups of runs side by side, as a page."""

import statistics

from ikem_fast.errors import printable
from ikem_fast.evaluate.render import set_label
from ikem_fast.evaluate.render.comparison import NOTE, Test, comparison_rows, first_alike
from ikem_fast.evaluate.render.html.charts import Bar, bars, key
from ikem_fast.evaluate.render.html.elements import section, table, tag
from ikem_fast.evaluate.render.html.page import page
from ikem_fast.evaluate.render.html.results import difference_section, fused, over_seeds
from ikem_fast.evaluate.results import Results

COLORS = 5  # columns of a color of their own


def comparison_page(columns: dict[str, list[Results]], test: Test) -> str:
    """Write the page of a comparison.

    Args:
        columns: heading → results of its runs.
        test: compares two columns on a set.

    Example:
        comparison_page({"six": six, "three": three}, lambda *_: None)
    """
    columns = dict(zip(shortened(list(columns)), columns.values(), strict=True))
    labels = list(columns)
    rows = comparison_rows(columns, test)
    sets = dict.fromkeys(name for runs in columns.values() for results in runs for name in results.sets)
    drawn = []
    for name in sets:
        group = [
            Bar(label, *over_seeds(runs, name), kind=f"column-{place % COLORS}")
            for place, (label, runs) in enumerate(columns.items())
            if any(name in results.sets for results in runs)
        ]
        drawn.append((set_label(name), group))
    legend = [(f"column-{place % COLORS}", label) for place, label in enumerate(labels)]
    lead = "Top-1 in %, mean ± standard deviation over the runs of each."
    sections = [
        ("Accuracy", section("Accuracy", lead, key(legend), bars(drawn), name="accuracy")),
        ("Table", section("Table", "With the test of each difference.", table(rows),
                          tag("p", NOTE, class_="note"), name="table")),
    ]  # fmt: skip
    for place, first in enumerate(first_alike(columns)):
        if place != first:
            pair = labels[first], labels[place]
            found = difference_section(columns[pair[0]], columns[pair[1]], pair, f"against-{place}")
            sections.append((f"Classes: {printable(pair[1], 20)}", found))
    best = {label: _best(runs) for label, runs in columns.items()}
    tiles = [(f"{mean:.1f} %", f"{printable(label, 60)}, {name}") for label, (mean, name) in best.items()]
    datasets = dict.fromkeys(results.dataset for runs in columns.values() for results in runs)
    count = sum(map(len, columns.values()))
    subtitle = f"{len(columns)} kinds of runs, {count} evaluations, on {', '.join(datasets)}"
    return page("Comparison", subtitle, tiles[:6], sections, {"charts": {}})


def shortened(labels: list[str]) -> list[str]:
    """Take from paths what they all begin with and end in, as far as each keeps a name.

    Example:
        shortened(["runs/six/linear", "runs/three/linear"])  # ["six", "three"]
    """
    parts = [label.split("/") for label in labels]
    least = min(map(len, parts))
    alike = lambda place: len({one[place] for one in parts}) == 1  # noqa: E731
    first = next((i for i in range(least - 1) if not alike(i)), least - 1)
    last = next((i for i in range(least - first - 1) if not alike(-1 - i)), least - first - 1)
    short = ["/".join(one[first : len(one) - last]) for one in parts]
    return short if len(set(short)) == len(labels) else labels


def _best(runs):
    """(accuracy of the set of most modalities, its name)."""
    name = fused(runs[0])
    return statistics.mean(results.sets[name].top1 for results in runs if name in results.sets), set_label(
        name
    )
