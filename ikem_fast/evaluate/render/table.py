"""Results as a table on the terminal."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ikem_fast.errors import printable
from ikem_fast.evaluate.render import scored_on, set_label
from ikem_fast.evaluate.results import Results

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, ConsoleOptions
    from rich.table import Table
    from rich.text import Text

GAP = 2  # blanks between columns
HEAD = 10  # characters of a heading's line, where its cells are narrower
WORD = 30  # characters of a heading's word, such as a path, above which it is broken


@dataclass(frozen=True)
class Columns:
    """Columns that are shown beside each other as far as the terminal is wide, the others below these.

    No figure is ever broken over lines, as it would be in a table that is made narrower. `rich` prints it.

    title, caption: above the first and below the last; words, or "".
    columns: heading and cells of each; the first, what the rows are, stands in front of all others.

    Example:
        rich.print(Columns("top-1 in %", [("set", ["joint"]), ("raw", ["78.4"])]))
    """

    title: str
    columns: Sequence[tuple[str, Sequence[str]]]
    caption: str = ""

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[Table | Text]":
        from rich.text import Text

        parts: list[Table | Text] = [Text(self.title, "bold")] if self.title else []
        parts += map(_table, self._blocks(options.max_width))
        parts += [Text(self.caption, "dim")] if self.caption else []
        for index, part in enumerate(parts):
            if index:
                yield Text()
            yield part

    def _blocks(self, width):
        """Columns that fit a line each, the first in front."""
        (head, *others), block, used = [_wrapped(*column) for column in self.columns], [], 0
        for column in others:
            if block and head.width + used + GAP + column.width > width:
                yield [head, *block]
                block, used = [], 0
            block.append(column)
            used += GAP + column.width
        yield [head, *block]


@dataclass(frozen=True)
class _Column:
    heading: str
    cells: Sequence[str]
    width: int


def _wrapped(heading, cells):
    """A column with its heading in lines about as long as its cells."""
    from rich.cells import cell_len

    widest = max(map(cell_len, cells), default=0)
    word = min(max(map(len, heading.split()), default=0), WORD)
    lines = textwrap.wrap(heading, max(widest, HEAD, word), break_on_hyphens=False) or [""]
    return _Column("\n".join(lines), cells, max(widest, *map(cell_len, lines)))


def _table(columns):
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    for index, column in enumerate(columns):
        justify = "right" if index else "left"
        table.add_column(Text(column.heading), justify=justify, vertical="bottom", no_wrap=True)
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(Text, row))
    return table


def result_table(results: Results) -> Columns:
    """Make the table of an evaluation: accuracies in percent, and which probes diverged.

    Names are shown as they are, whatever markup or control characters they hold.

    Example:
        rich.print(result_table(six[0]))
    """
    clips = f"{results.clips['test']} test clips"
    title = f"{results.evaluation} on {printable(results.dataset)}, {clips}, top-1 in %"
    sets = results.sets.items()
    columns = [("modalities", [_label(name) + " (diverged)" * bool(one.diverged) for name, one in sets])]
    for name, beside in results.baselines.items():
        cells = [figure(beside.top1.get(one), beside.deviation.get(one)) for one in results.sets]
        columns.append((printable(name), cells))
    columns.append((printable(results.source), [figure(one.top1, one.deviation) for _, one in sets]))
    columns.append(("top-5", [figure(one.top5) for _, one in sets]))
    columns.append(("mean of classes", [figure(_mean_of_classes(one)) for _, one in sets]))
    columns += [
        (printable(name), [figure((one.metrics or {}).get(name)) for _, one in sets])
        for name in next(iter(results.sets.values())).metrics or ()
    ]
    return Columns(title, columns, _caption(results))


def _label(name):
    """A set's name, without the blanks that cost the most of a narrow terminal."""
    return printable(set_label(name).replace(" + ", "+"))


def _mean_of_classes(result):
    seen = [accuracy for accuracy in result.per_class.values() if accuracy is not None]
    return sum(seen) / len(seen)


def figure(value: float | None, deviation: float | None = None) -> str:
    """Write a figure in percent, with its deviation if there is one."""
    if value is None:
        return ""
    return f"{value:.1f}" if deviation is None else f"{value:.1f} ± {deviation:.1f}"


def _caption(results):
    """What the reader must know of the probe, and of how the encoders were normalized."""
    said = [f"probe: {results.probe}, {results.clips['train']} training clips"] if results.probe else []
    if repeated := {printable(name): one.runs for name, one in results.baselines.items() if one.runs > 1}:
        said.append(f"{', '.join(repeated)}: mean ± deviation of {max(repeated.values())} seeds")
    if "statistics" in results.settings:
        running = results.settings["statistics"] == "running"
        said.append(
            "normalization by the statistics that training left"
            if running
            else "normalization by statistics of the training clips, estimated anew"
        )
    if clips := scored_on(results):
        said.append(f"test clips: {clips}")
    return "; ".join(said)
