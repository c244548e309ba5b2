"""Which format `prepare auto` prepares: the one that the source is seen to hold."""

import sys
from collections.abc import Sequence
from pathlib import Path

from ikem_fast.cli.commands import Command, all_commands
from ikem_fast.errors import printable

GIVEN = ("--source", "--out")  # to every format


def with_format(command: Command, words: Sequence[str]) -> tuple[Command, list[str]]:
    """Put the command of the format that was found in place of `prepare auto`, and say on a line why.

    Its options are those behind `prepare auto`; what its example has besides is said, too. Without a source,
    `prepare auto` itself says what is missing.

    Raises InputError where the source holds no known format, or several.

    Example:
        with_format(all_commands()["prepare auto"], ["--source", "raw", "--out", "data"])  # prepare ntu
    """
    words = list(words)
    source = next(
        (
            after if word == "--source" else word.partition("=")[2]
            for word, after in zip(words, [*words[1:], ""], strict=False)
            if word.split("=")[0] == "--source"
        ),
        "",
    )
    if command.name != "prepare auto" or not source or "--help" in words:
        return command, words
    from ikem_fast.data.formats import find_format

    found, why = find_format(Path(source).expanduser())
    sys.stdout.write(f"format: {found.name} ({printable(why)}); as by ikem-fast prepare {found.name}\n")
    further = [word for word in found.example.split() if word.startswith("--") and word not in GIVEN]
    if not set(further) <= {word.split("=")[0] for word in words}:
        sys.stdout.write(f"usual options of it: {found.example}\n")
    sys.stdout.flush()
    return all_commands()[f"prepare {found.name}"], words
