"""What a subject is: its name, what it compares, and how its figures read."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What the command line says of a run; a subject heeds what applies to it.

    quick: the method's size alone. tiny: sizes that show whether a subject works, and nothing of speed.
    skeletons: a folder of .skeleton files. against: another checkout of this package, built, to be measured
    beside this one.
    """

    device: str = "cpu"
    threads: int = 1
    quick: bool = False
    tiny: bool = False
    skeletons: Path | None = None
    against: Path | None = None


@dataclass(frozen=True)
class Results:
    """A results file: what the figures depend on besides the code (its first line), and a row a line."""

    about: dict
    rows: list[dict]


@dataclass(frozen=True)
class Subject:
    """One line of the table of subjects.

    Args:
        about: one sentence for people, above the figures.
        measure: called with a `run.Run`, measures and records rows.
        show: results → lines of Markdown.
        headline: results → one sentence for the index.
        plots: results → {name: matplotlib figure}.
        calls: (group, way, make) for `pytest --benchmark`; make() gives the call that is timed.
        devices: those that it is measured on; some subjects are of the processor by their nature.
    """

    about: str
    measure: Callable
    show: Callable[[Results], list[str]]
    headline: Callable[[Results], str]
    plots: Callable[[Results], dict] = lambda results: {}
    calls: Callable[[], Iterable[tuple[str, str, Callable]]] = lambda: ()
    devices: tuple[str, ...] = ("cpu", "cuda")
