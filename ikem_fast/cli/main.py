"""Running a command. Wrong usage and unusable input are one message and exit status 2."""

import sys
from contextlib import nullcontext

from ikem_fast import __version__
from ikem_fast.cli.commands import all_commands
from ikem_fast.cli.detected import with_format
from ikem_fast.cli.parser import parse, take_common
from ikem_fast.cli.recipe import with_recipe
from ikem_fast.errors import InputError, Stopped, printable
from ikem_fast.settings import checked

MESSAGE = 4000  # characters of one
SAVED = 75  # EX_TEMPFAIL of sysexits.h: start it again


def main(argv: list[str] | None = None) -> int:
    """Run one command of the command line.

    Args:
        argv: its words, without the program's name; those of this process if not given. `--debug` among them
            shows tracebacks.

    Returns:
        The exit status: 0, 1 if a check failed, 2 for wrong usage or unusable input, 75 if a run was stopped
        by a signal and has saved its state, 130 if stopped otherwise.

    Example:
        main(["prepare", "synthetic", "--out", "data/synthetic"])
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    if debug:
        argv.remove("--debug")
    try:
        return _dispatch(argv)
    except (InputError, OSError, MemoryError) as error:
        if debug:
            raise
        _complain(str(error) or ("not enough memory" if isinstance(error, MemoryError) else repr(error)))
        return 2
    except Stopped as stopped:
        _complain(str(stopped))
        return SAVED
    except KeyboardInterrupt:
        _complain("stopped; what was finished is kept")
        return 130


def _complain(message):
    """One line, whatever names and values it quotes: no terminal obeys it."""
    sys.stderr.write(f"ikem-fast: {printable(message, MESSAGE)}\n")


def _dispatch(argv):
    if argv[:1] == ["--version"]:
        print(f"ikem-fast {__version__}")
        return 0
    commands = all_commands()
    words = [word for word in argv[:2] if not word.startswith("-")]
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in commands:
            return _run(*with_format(commands[name], argv[len(name.split()) :]))
    group = words[0] if words and any(name.startswith(words[0] + " ") for name in commands) else ""
    known = [command for name, command in commands.items() if name.startswith(f"{group} " if group else "")]
    if (words == [group] or not words) and ("--help" in argv or "-h" in argv):
        print(_overview(known))
        return 0
    names, found = ", ".join(command.name for command in known), " ".join(words) or "nothing"
    raise InputError(f"expected a command ({names}), found {found!r}; see ikem-fast --help")


def _overview(commands):
    width = max(len(command.name) for command in commands)
    return "\n".join([
        "usage: ikem-fast COMMAND [options]        (or: python -m ikem_fast COMMAND [options])",
        "", *(f"  {command.name:{width}}  {command.summary}" for command in commands), "",
        "ikem-fast COMMAND --help has the options and an example; --debug shows tracebacks.",
    ])  # fmt: skip


def _run(command, argv):
    options = parse(command, with_recipe(command, argv))
    common = [take_common(command, one, options) for one in command.common]
    with command.within(*common) if command.within else nullcontext():
        if command.settings:
            result = command.run(command.settings(**options))
        else:
            result = checked(command.run)(**options)
    return result if isinstance(result, int) else 0
