"""The recipe that training takes where none is named: by the number of clips there are to train on."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ikem_fast.cli.commands import Command
from ikem_fast.data import open_dataset
from ikem_fast.errors import InputError
from ikem_fast.progress import is_quiet

FEW = 10_000  # training clips: the published recipe was made for four times as many


def with_recipe(command: Command, words: Sequence[str]) -> list[str]:
    """Put `--config` ahead of a training command's words where there is none, and say on a line what it is.

    A dataset that cannot be opened has no recipe: the command itself says what is wrong with it.

    Example:
        with_recipe(all_commands()["pretrain"], ["--data", "data/ntu60", "--out", "run"])  # --config ntu …
    """
    words = list(words)
    if command.section not in ("pretrain", "distill") or _value("--config", words) is not None:
        return words
    data = _value("--data", words)
    try:
        clips = len(open_dataset(Path(data or "").expanduser())["train"])
    except (InputError, OSError, RuntimeError):
        return words
    name, why = ("small", "fewer than") if clips < FEW else ("ntu", "at least")
    if int(os.environ.get("RANK", 0)) == 0 and not is_quiet():
        sys.stdout.write(f"recipe: {name} ({clips} training clips, {why} {FEW}); --config takes another\n")
        sys.stdout.flush()
    return ["--config", name, *words]


def _value(option, words):
    """What stands behind an option the last time it is given, or None."""
    found = None
    for word, after in zip(words, [*words[1:], None], strict=False):
        if word == option:
            found = after
        elif word.startswith(f"{option}="):
            found = word.partition("=")[2]
    return found
