"""What tests of tables share."""

import io

from rich.console import Console


def text_of(table):
    """A table as it is shown on a wide terminal."""
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table)
    return " ".join(console.export_text().split())
