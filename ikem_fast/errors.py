"""What the command line reports without a traceback, and how it quotes what others wrote."""


class InputError(ValueError):
    """Something the user gave (a file, a folder, a setting) cannot be used as it is.

    The message names it, says what was expected and what was found, and what to do. The command line
    prints the message alone and exits with status 2; `--debug` shows the traceback.
    """


class Stopped(KeyboardInterrupt):
    """A run was told to stop by a signal, and did when its state was on disk.

    The command line ends with status 75, by which schedulers tell that there is something to go on from.
    """


def printable(text: object, limit: int = 300) -> str:
    """Show text that others wrote (a name, a value, another library's message) so that no terminal obeys it.

    What does not print is escaped, and what is longer than `limit` characters ends in "...".

    Example:
        printable("\x1b[2Jname")  # '\\x1b[2Jname'
    """
    text = str(text)
    shown = text[:limit] + ("..." if len(text) > limit else "")
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in shown)
