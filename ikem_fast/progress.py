"""The one progress bar of all long commands: what, how far, time left, and a status of the command's own."""

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Leave out, from now on or no longer, what is said beside results and errors."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Say whether results and errors alone are wanted."""
    return _quiet


def progress_bar():
    """A `rich` progress bar; `update(task, status=…)` shows a few words at its end. Silent off a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
        console=console,
        disable=_quiet or not console.is_terminal,
    )
