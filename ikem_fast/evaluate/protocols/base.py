"""What an evaluation is.

To add one: a file beside this one that makes a `Protocol`, a line in the table of `protocols`, a test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ikem_fast.evaluate.results import Results


@dataclass(frozen=True)
class Protocol:
    """An evaluation; the command line has a command of its name.

    name: of the command, and of its section in a configuration file.
    summary: what it does, a sentence.
    example: of the command.
    settings: the dataclass of its settings, with the folder `out` among them.
    run: settings → results, written to the folder `out` of the settings.
    files: names of what it leaves there.
    words: the setting that words of the command without an option are for.
    """

    name: str
    summary: str
    example: str
    settings: type
    run: Callable[[Any], Results]
    files: tuple[str, ...]
    words: str | None = None
