"""What `--help` shows of a command: options in groups, with types that read, choices, bounds and defaults."""

import inspect
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ikem_fast.settings import Allowed

WIDTH, COLUMN = 100, 30
WORDS = {int: "N", float: "X", str: "NAME", Path: "PATH", bool: "true|false"}
NEEDED, OTHER = "needed", "options"


def help_text(command: Any, actions: Iterable[Any]) -> str:
    """Write the help of a command.

    Args:
        command: a `cli.Command`.
        actions: of its parser, one an option.
    """
    roots = (command.settings or command.run, *command.common)
    groups: dict[str, list[str]] = {NEEDED: []}
    needed = []
    for action in actions:
        name = action.option_strings[0].replace("_", "-")
        hint = Path if action.dest == "config" else _hint(roots, action.dest)
        words = command.words == action.dest
        option = f"{action.dest.upper()}…" if words else f"{name} {_word(hint)}"
        required = action.required or (words and action.default in (None, inspect.Parameter.empty))
        if required:
            needed.append(option)
        title = NEEDED if required else _title(roots, action.dest)
        groups.setdefault(title, []).append(_row(option, _described(action, hint, required)))
    sections = [f"{title}:\n" + "\n".join(rows) for title, rows in groups.items() if rows]
    usage = textwrap.fill(
        f"usage: ikem-fast {' '.join([command.name, *needed])} [options]",
        WIDTH, subsequent_indent="         ", break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip
    return "\n\n".join([usage, command.summary, *sections, f"example: {command.example}"]) + "\n"


def choices_of(command: Any, actions: Iterable[Any]) -> Mapping[str, list[str]]:
    """Return the options of a command with what may stand behind each, where that is a list of names."""
    roots = (command.settings or command.run, *command.common)
    return {
        action.option_strings[0].replace("_", "-"): _choices(_hint(roots, action.dest)) for action in actions
    }


def _row(option, text):
    lines = textwrap.wrap(text, WIDTH - COLUMN, break_on_hyphens=False) or [""]
    if len(option) > COLUMN - 4:
        return f"  {option}\n" + "\n".join(f"{'':{COLUMN}}{line}" for line in lines)
    first = f"  {option:{COLUMN - 2}}{lines[0]}"
    return "\n".join([first, *(f"{'':{COLUMN}}{line}" for line in lines[1:])])


def _described(action, hint, required):
    """Its text, then in brackets what it may be and what it is where it is left out."""
    allowed = _allowed(hint)
    kind = _bare(hint)
    facts = [f"out of {', '.join(allowed.choices)}"] if allowed and allowed.choices else []
    facts += [repr(allowed).removeprefix("a number ")] if allowed and not allowed.choices else []
    facts += [" | ".join(choices)] if (choices := _choices(hint)) and kind is not bool else []
    if not required and action.default not in (None, inspect.Parameter.empty):
        facts.append(f"default: {_shown(action.default)}")
    text = " ".join((action.help or "").split())
    return text + (f" [{'; '.join(facts)}]" if facts else "")


def _shown(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "none"
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _title(roots, dest):
    """The group of an option: the settings that it is among, or the class that declares it."""
    if "." in dest:
        return dest.rpartition(".")[0]
    kinds = [kind for root in roots if isinstance(root, type) for kind in root.__mro__]
    owner = next((kind for kind in kinds if dest in inspect.get_annotations(kind)), None)
    if owner in roots[1:]:
        return owner.__name__.lower()
    if owner is None or not (owner.__doc__ or "").startswith("Settings"):
        return OTHER
    return owner.__doc__.split(".")[0].removeprefix("Settings of ").removeprefix("Settings that ")


def _hint(roots, dest):
    """The annotation of an option, with what a field or an annotation allows; None where it is not known."""
    first = dest.partition(".")[0]
    hint, kind = None, next((root for root in roots if first in get_type_hints(root)), None)
    for part in dest.split("."):
        hint = get_type_hints(kind, include_extras=True).get(part) if kind else None
        if is_dataclass(kind):
            extra = next(
                (entry.metadata.get("allowed") for entry in fields(kind) if entry.name == part), None
            )
            hint = (hint, extra) if extra else hint
        kind = hint if isinstance(hint, type) else None
    return hint


def _allowed(hint):
    parts = [hint, *get_args(hint)] if not isinstance(hint, tuple) else list(hint)
    found = (extra for part in parts for extra in (part, *getattr(part, "__metadata__", ())))
    return next((extra for extra in found if isinstance(extra, Allowed)), None)


def _bare(hint):
    """The type itself: without what is allowed, and without None beside it."""
    hint = hint[0] if isinstance(hint, tuple) else hint
    while hasattr(hint, "__metadata__"):
        hint = hint.__origin__
    if get_origin(hint) in (Union, UnionType):
        others = [part for part in get_args(hint) if part is not type(None)]
        if set(others) == {int, float}:
            return float
        return _bare(others[0]) if len(others) == 1 else hint
    return hint


def _choices(hint):
    kind = _bare(hint)
    if kind is bool:
        return ["true", "false"]
    return [str(choice) for choice in get_args(kind)] if get_origin(kind) is Literal else []


def _word(hint):
    kind = _bare(hint)
    if kind in WORDS:
        return WORDS[kind]
    if get_origin(kind) is Literal:
        return "NAME"
    if get_origin(kind) in (tuple, list):
        return f"[{_word(get_args(kind)[0])}, …]" if get_args(kind) else "[…]"
    return "{NAME: VALUE}" if get_origin(kind) is dict else "VALUE"
