"""Writing files so that nobody ever finds half of one: the only place that replaces a file on disk."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ikem_fast.errors import InputError

SUFFIX = ".partial"
FULL = (errno.ENOSPC, errno.EDQUOT)  # what a write ends with where there is no room for it


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
        with contextlib.suppress(OSError):  # what went wrong first is what is told
            beside.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def write_text(path: str | os.PathLike[str], text: str, *, contended: bool = False) -> None:
    """Replace the file at `path` by `text` in UTF-8, whole or not at all; see `replacing`."""
    with replacing(path, contended=contended) as beside:
        beside.write_text(text, encoding="utf-8")


def give_name(path: Path, name: Path) -> None:
    """Give the file at `path` a second name, which keeps its content when `path` is replaced.

    What had that name is replaced. It costs no copy, where the file system knows links.

    Raises OSError where the folder cannot be written to or the disk is full.

    Example:
        give_name(out / "checkpoint.pt", out / "checkpoint-00000120.pt")
    """
    with replacing(name) as beside:
        beside.unlink(missing_ok=True)
        try:
            os.link(path, beside)
        except OSError:  # a file system without links
            shutil.copyfile(path, beside)


def free_space(path: str | os.PathLike[str]) -> int:
    """Return how many bytes are free where a path is, or is to be.

    Example:
        free_space("runs/teacher")
    """
    path = Path(path).absolute()
    return shutil.disk_usage(next(one for one in (path, *path.parents) if one.exists())).free


def require_space(path: str | os.PathLike[str], needed: int, what: str) -> None:
    """Raise InputError where fewer than `needed` bytes are free for `what`, to be written at a path.

    Example:
        require_space(out, 517_000_000, "a checkpoint")
    """
    free = free_space(path)
    if free < needed:
        raise InputError(
            f"{path}: expected {amount(needed)} free on its disk for {what}, found {amount(free)}; make room "
            "there, or write elsewhere"
        )


def amount(count: int) -> str:
    """Write a number of bytes for people.

    Example:
        amount(517_000_000)  # "517 MB"
    """
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def lock_folder(folder: Path, doing: str) -> int | None:
    """Keep other processes from doing the same in a folder, while this descriptor is open.

    Args:
        folder: that is there. Nothing is written to it.
        doing: what another process would be doing there, for the message.

    Returns:
        The descriptor; None where the system or the file system has no such locks.

    Raises InputError where another process, of this machine or one that shares the file system, holds it.

    Example:
        descriptor = lock_folder(out, "training into")
    """
    try:
        import fcntl
    except ImportError:  # POSIX alone has it
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(f"{folder}: another run is {doing} this folder; wait for it to end") from None
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _sync(path: Path) -> None:
    """Have the system write a file, or a folder's names, to disk."""
    if path.is_dir() and os.name == "nt":  # Windows has no handle for a folder
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
