"""Groups of runs as a table, for a terminal or as Markdown."""

import statistics
from collections.abc import Callable

from ikem_fast.errors import printable
from ikem_fast.evaluate.render import scored_on, set_label
from ikem_fast.evaluate.render.table import Columns, figure
from ikem_fast.evaluate.results import Results

# Two columns and a set → the difference of the second from the first, and p.
Test = Callable[[int, int, str], tuple[float, float] | None]
NOTE = (
    "top-1 in %: mean ± standard deviation over runs; in brackets the difference from the first column of "
    "the same evaluation and p, by flipping signs of clips (with one run each, McNemar's test)"
)


def first_alike(columns: dict[str, list[Results]]) -> list[int]:
    """Tell which column each is compared with: the first of the same evaluation, clips and probe.

    Example:
        first_alike({"six": six, "three": three})  # [0, 0]
    """
    firsts = [runs[0] for runs in columns.values()]
    kinds = [(one.evaluation, one.dataset, scored_on(one), one.probe) for one in firsts]
    return [kinds.index(kind) for kind in kinds]


def comparison_rows(columns: dict[str, list[Results]], test: Test) -> list[list[str]]:
    """Make the rows of a comparison, the first its headings.

    Args:
        columns: heading → results of its runs.
        test: compares two columns on a set.

    Example:
        comparison_rows({"six": six, "three": three}, lambda *_: None)[0]  # headings
    """
    sets = dict.fromkeys(name for runs in columns.values() for results in runs for name in results.sets)
    heads = [_heading(label, runs) for label, runs in columns.items()]
    rows, firsts = [["modalities", *heads]], first_alike(columns)
    for name in sets:
        cells = []
        for column, (first, runs) in enumerate(zip(firsts, columns.values(), strict=True)):
            top1 = [results.sets[name].top1 for results in runs if name in results.sets]
            cell = (
                figure(statistics.mean(top1), statistics.stdev(top1) if len(top1) > 1 else None)
                if top1
                else ""
            )
            tested = test(first, column, name) if column != first and top1 else None
            cells.append(cell + (f" ({tested[0]:+.1f}, p {tested[1]:.2g})" if tested else ""))
        rows.append([set_label(name), *cells])
    return rows


def _heading(label, runs):
    first, clips = runs[0], scored_on(runs[0])
    on = printable(first.dataset) + (f" ({clips})" if clips else "")
    said = [f"{printable(label)}: {printable(first.evaluation.lower())} on {on}", printable(first.source)]
    said += [first.probe] if first.probe else []
    return ", ".join([*said, f"{len(runs)} run{'s' * (len(runs) > 1)}"])


def comparison_table(rows: list[list[str]]) -> Columns:
    """Make the table of `comparison_rows`.

    Example:
        rich.print(comparison_table(comparison_rows({"six": six}, lambda *_: None)))
    """
    (first, *heads), *others = rows
    labels = [row[0].replace(" + ", "+") for row in others]
    columns = [(head, [row[i] for row in others]) for i, head in enumerate(heads, start=1)]
    return Columns("", [(first, labels), *columns], NOTE)


def comparison_markdown(rows: list[list[str]]) -> str:
    """Write `comparison_rows` as Markdown.

    Example:
        print(comparison_markdown(comparison_rows({"six": six}, lambda *_: None)))
    """
    lines = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines.insert(1, ["---", *["---:"] * (len(rows[0]) - 1)])
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + f"\n\n{NOTE}\n"
