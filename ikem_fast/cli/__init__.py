"""The command line: `main` runs a command, `all_commands` lists them, `make_parser` is one's options."""

from ikem_fast.cli.commands import Command, all_commands
from ikem_fast.cli.main import main
from ikem_fast.cli.parser import parse

__all__ = ["Command", "all_commands", "main", "parse"]
