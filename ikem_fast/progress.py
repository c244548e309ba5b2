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
    """A `rich` progress bar; `update(task, status=…)` shows a line below it. Silent off a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Bar(Progress):
        """A bar whose status has a line of its own: beside it, both would be cut on a narrow terminal."""

        def get_renderables(self):
            yield from super().get_renderables()
            for task in self.tasks:
                if status := task.fields["status"]:
                    yield Text(status, no_wrap=True, overflow="ellipsis")

    console = Console(stderr=True)
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=_quiet or not console.is_terminal,
    )
