"""Which format `prepare auto` prepares: the one that the source is seen to hold."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ikem_fast.cli.commands import Command, all_commands
from ikem_fast.errors import printable

GIVEN = ("--source", "--out")  # to every format


def with_format(command: Command, words: Sequence[str]) -> tuple[Command, list[str]]:
    """Put the command of the format that was found in place of `prepare auto`, and say on a line why.

    Its options are those behind `prepare auto`; what is usual besides is said, too, for the same source.
    Without one, `prepare auto` itself says what is missing.

    Raises InputError where the source holds no known format, or several.

    Example:
        with_format(all_commands()["prepare auto"], ["--source", "raw", "--out", "data"])  # prepare ntu
    """
    words = list(words)
    source = _value(words, "--source")
    if command.name != "prepare auto" or not source or "--help" in words:
        return command, words
    from ikem_fast.data.formats import find_format

    found, why = find_format(Path(source).expanduser())
    sys.stdout.write(f"format: {found.name} ({printable(why)}); as by ikem-fast prepare {found.name}\n")
    usual = found.usual(Path(source).expanduser()) if found.usual else _options_of(found.example)
    further = {word for word in usual.split() if word.startswith("--")}
    if not further <= {word.split("=")[0] for word in words}:
        places = [f"{name} {shlex.quote(value)}" for name in GIVEN if (value := _value(words, name))]
        line = " ".join([f"ikem-fast prepare {found.name}", places[0], usual, *places[1:]])
        sys.stdout.write(f"usual options of it: {printable(line, 1 << 12)}\n")
    sys.stdout.flush()
    return all_commands()[f"prepare {found.name}"], words


def _value(words, name):
    """What the words give an option; "" where they do not have it."""
    behind = zip(words, [*words[1:], ""], strict=False)
    found = (
        after if word == name else word.partition("=")[2]
        for word, after in behind
        if word.split("=")[0] == name
    )
    return next(found, "")


def _options_of(example):
    """An example's options but for those that every format is given."""
    words = example.split()[3:]
    pairs = zip(words[::2], words[1::2], strict=True)
    return " ".join(f"{name} {value}" for name, value in pairs if name not in GIVEN)
