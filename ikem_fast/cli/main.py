"""Running a command. Wrong usage and unusable input are one message and exit status 2."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from ikem_fast import __version__
from ikem_fast.cli.index import overview, read_index
from ikem_fast.errors import InputError, Stopped, printable
from ikem_fast.progress import is_quiet, set_quiet

DRY = ("demo", "pretrain", "distill", "evaluate finetune")
HELP = {"--help", "-h"}
MESSAGE = 4000  # characters of one
CUT_SHORT = (
    "ikem-fast: expected files that stay as they are while they are read, found one of the dataset cut short "
    "meanwhile; prepare it anew, or copy it again\n"
)
SAVED = 75  # EX_TEMPFAIL of sysexits.h: start it again


def main(argv: list[str] | None = None) -> int:
    """Run one command of the command line.

    Args:
        argv: its words, without the program's name; those of this process if not given. `--debug` among them
            shows tracebacks, `-q` leaves out what is said beside results and errors, `-v` says where and how
            long it ran.

    Returns:
        The exit status: 0, 1 if a check failed, 2 for wrong usage or unusable input, 75 if a run was stopped
        by a signal and has saved its state, 130 if stopped otherwise.

    Example:
        main(["prepare", "synthetic", "--out", "data/synthetic"])
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = _taken(argv, "--debug")
    quiet, verbose = _taken(argv, "-q", "--quiet"), _taken(argv, "-v", "--verbose")
    set_quiet(quiet)
    began = time.monotonic()
    try:
        status = _dispatch(argv)
        if verbose and not HELP & set(argv):
            _complain(_where_and_how_long(time.monotonic() - began))
        return status
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
    finally:  # `main` is called from Python, too
        set_quiet(False)


def _complain(message):
    """One line, whatever names and values it quotes: no terminal obeys it."""
    sys.stderr.write(f"ikem-fast: {printable(message, MESSAGE)}\n")


@contextmanager
def _naming_cut_files() -> Iterator[None]:
    """Have a mapped file that is cut short while it is read end the command with a message, too."""
    try:
        from ikem_fast._skeleton_io import end_at_bus_errors
    except ImportError:  # installed without a compiler
        yield
        return
    end_at_bus_errors(CUT_SHORT)
    try:
        yield
    finally:
        end_at_bus_errors("")


def _taken(argv, *names):
    """Whether one of these is among the words, from which it is taken."""
    found = [word for word in argv if word in names]
    for word in found:
        argv.remove(word)
    return bool(found)


def _where_and_how_long(seconds):
    import torch

    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{torch.get_num_threads()} CPU threads"
    )
    return f"ikem-fast {__version__}, torch {torch.__version__}, {device}; {seconds:.1f} s"


def _dispatch(argv):
    if argv[:1] == ["--version"]:
        print(f"ikem-fast {__version__}")
        return 0
    words = [word for word in argv[:2] if not word.startswith("-")]
    commands = _commands(words)
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in commands:
            if HELP & set(argv):
                sys.stdout.write(commands[name]["help"])
                return 0
            return _run(name, argv[len(name.split()) :])
    group = words[0] if words and any(name.startswith(words[0] + " ") for name in commands) else ""
    known = [name for name in commands if name.startswith(f"{group} " if group else "")]
    if (words == [group] or not words) and HELP & set(argv):
        print(overview(known, commands))
        return 0
    names, found = ", ".join(known), " ".join(words) or "nothing"
    raise InputError(f"expected a command ({names}), found {found!r}; see ikem-fast --help")


def _commands(words):
    """What is known of each command; made anew where a name is not in the index: one was just added."""
    commands = read_index()
    groups = {name.split()[0] for name in commands}
    if words and " ".join(words) not in commands.keys() | groups and words[0] not in commands:
        from ikem_fast.cli.parser import build_index

        return build_index()
    return commands


def _run(name, argv):
    from ikem_fast.cli.commands import all_commands
    from ikem_fast.cli.detected import with_format
    from ikem_fast.cli.dry_run import dry_run
    from ikem_fast.cli.following import next_commands
    from ikem_fast.cli.parser import parse, take_common
    from ikem_fast.cli.recipe import with_recipe
    from ikem_fast.settings import checked

    command, argv = with_format(all_commands()[name], argv)
    only_told = command.name in DRY and _taken(argv, "--dry-run")
    options = parse(command, with_recipe(command, argv))
    if only_told:
        dry_run(command, options)
        return 0
    common = [take_common(command, one, options) for one in command.common]
    with _naming_cut_files(), command.within(*common) if command.within else nullcontext():
        if command.settings:
            result = command.run(command.settings(**options))
        else:
            result = checked(command.run)(**options)
    status = result if isinstance(result, int) else 0
    if status == 0 and not is_quiet() and sys.stderr.isatty():
        for index, following in enumerate(next_commands(command.name, options)):
            sys.stderr.write(f"{'  or' if index else 'next'}: {printable(following, MESSAGE)}\n")
    return status
