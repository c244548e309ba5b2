"""The command line: `main` runs a command, `all_commands` lists them, `parse` makes one's options.

Only `main` is imported here: what commands run is imported when it is asked for.
"""

from ikem_fast.cli.main import main

__all__ = ["Command", "all_commands", "main", "parse"]


def __getattr__(name: str) -> object:
    if name in ("Command", "all_commands"):
        from ikem_fast.cli import commands

        return getattr(commands, name)
    if name == "parse":
        from ikem_fast.cli.parser import parse

        return parse
    raise AttributeError(f"module 'ikem_fast.cli' has no attribute {name!r}")
