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
    """
    from rich.table import Table
    from rich.text import Text

    title = f"{results.evaluation} on {printable(results.dataset)}, {results.clips['test']} test clips"
    table = Table(title=Text(title), caption=_caption(results))
    table.add_column("modalities")
    for column in ("top-1 %", "top-5 %", "mean of classes %"):
        table.add_column(column, justify="right")
    for name, result in results.sets.items():
        seen = [accuracy for accuracy in result.per_class.values() if accuracy is not None]
        figures = (result.top1, result.top5, sum(seen) / len(seen))
        label = Text(set_label(name) + (" (diverged)" if result.diverged else ""))
        table.add_row(label, *(f"{figure:.1f}" for figure in figures))
    return table


def _caption(results):
    """What the reader must know of how the encoders were normalised."""
    if results.settings.get("statistics") == "running":
        return "normalisation by the statistics that training left"
    return "normalisation by statistics of the training clips, estimated anew"
