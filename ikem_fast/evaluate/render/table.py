"""Results as a table on the terminal."""

from typing import TYPE_CHECKING

from ikem_fast.errors import printable
from ikem_fast.evaluate.render import set_label
from ikem_fast.evaluate.results import Results

if TYPE_CHECKING:
    from rich.table import Table


def result_table(results: Results) -> "Table":
    """Make the `rich` table of an evaluation: accuracies in percent, and which probes diverged.

    Names are shown as they are, whatever markup or control characters they hold.

    Example:
        rich.print(result_table(six[0]))
    """
    from rich.table import Table
    from rich.text import Text

    clips = f"{results.clips['test']} test clips"
    title = f"{results.evaluation} on {printable(results.dataset)}, {clips}, top-1 in %"
    table = Table(title=Text(title), caption=_caption(results))
    table.add_column("modalities", no_wrap=True)
    metrics = list(next(iter(results.sets.values())).metrics or ())
    for column in (*results.baselines, results.source, "top-5", "mean of classes", *metrics):
        table.add_column(printable(column), justify="right", overflow="fold")
    for name, result in results.sets.items():
        seen = [accuracy for accuracy in result.per_class.values() if accuracy is not None]
        beside = [figure(one.top1.get(name), one.deviation.get(name)) for one in results.baselines.values()]
        others = (result.top5, sum(seen) / len(seen), *(result.metrics or {}).values())
        label = Text(set_label(name) + (" (diverged)" if result.diverged else ""))
        table.add_row(label, *beside, figure(result.top1, result.deviation), *map(figure, others))
    return table


def figure(value: float | None, deviation: float | None = None) -> str:
    """Write a figure in percent, with its deviation if there is one."""
    if value is None:
        return ""
    return f"{value:.1f}" if deviation is None else f"{value:.1f} ± {deviation:.1f}"


def _caption(results):
    """What the reader must know of the probe, and of how the encoders were normalised."""
    said = [f"probe: {results.probe}, {results.clips['train']} training clips"] if results.probe else []
    if runs := [one.runs for one in results.baselines.values() if one.runs > 1]:
        said.append(f"untrained: mean ± deviation of {runs[0]} seeds")
    if "statistics" in results.settings:
        running = results.settings["statistics"] == "running"
        said.append(
            "normalisation by the statistics that training left"
            if running
            else "normalisation by statistics of the training clips, estimated anew"
        )
    if results.settings.get("holdout"):
        said.append("test clips: held-out training subjects " + printable(results.settings["holdout"]))
    return "; ".join(said)
