"""The one error that the command line reports without a traceback."""


class InputError(ValueError):
    """Something the user gave (a file, a folder, a setting) cannot be used as it is.

    The message names it, says what was expected and what was found, and what to do. The command line
    prints the message alone and exits with status 2; `--debug` shows the traceback.
    """
