"""Writing files so that nobody ever finds half of one: the only place that replaces a file on disk."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".partial"


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, contended: bool = False) -> Iterator[Path]:
    """Yield a path beside `path` to write to; when the block ends well, it takes the name `path` at once.

    Until then, and for ever if the block raises, what was at `path` stays whole. What the block wrote is on
    disk before it is renamed, and so is the new name when the context ends.

    contended: whether other processes may replace the same file meanwhile; each then writes beside it under a
        name of its own, and the last to end wins.

    Example:
        with replacing(out / "results.json") as beside:
            beside.write_text(text, encoding="utf-8")

    Raises OSError where the folder cannot be written to or the disk is full.
    """
    path = Path(path)
    beside = path.with_name(path.name + (f".{os.getpid()}" if contended else "") + SUFFIX)
    try:
        yield beside
        _sync(beside)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def write_text(path: str | os.PathLike[str], text: str, *, contended: bool = False) -> None:
    """Replace the file at `path` by `text` in UTF-8, whole or not at all; see `replacing`."""
    with replacing(path, contended=contended) as beside:
        beside.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    """Have the system write a file, or a folder's names, to disk."""
    if path.is_dir() and os.name == "nt":  # Windows has no handle for a folder
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
