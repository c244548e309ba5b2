"""What is asked about: arrays, files of every format, folders of them; each clip with a name, or why not."""

from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from ikem_fast.data.formats import FORMATS
from ikem_fast.data.preprocess import RawClip, Skipped
from ikem_fast.errors import InputError, printable

Array: TypeAlias = np.ndarray | torch.Tensor
Source: TypeAlias = str | PathLike[str] | Array
Named: TypeAlias = tuple[str, np.ndarray | Skipped]


def named_clips(clips: Source | Iterable[Source], format: str | None = None) -> Iterator[Named]:
    """Yield (name, raw clip (3,F,V,M)), or (name, `Skipped`) where one cannot be read; the rest go on.

    Args:
        clips: a raw clip (3,F,V,M), a batch of them (N,3,F,V,M), the path of a file or folder, or several of
            these. Of a folder, the files that a format knows by their names, at any depth; a file of another
            name is tried with every format.
        format: name of the format that files have, if it is known.

    Raises InputError for a format that there is not, or one without files.

    Example:
        for name, clip in named_clips("raw/"):
            print(name, clip.reason if isinstance(clip, Skipped) else clip.shape)
    """
    formats = _readable(format)
    several = [clips] if isinstance(clips, str | PathLike | np.ndarray | torch.Tensor) else clips
    count = 0
    for one in several:
        if isinstance(one, str | PathLike):
            yield from _of_path(Path(one), formats)
            continue
        array = one.detach().cpu().numpy() if isinstance(one, torch.Tensor) else np.asarray(one)
        for clip in array if array.ndim == 5 else [array]:
            yield f"clip {count}", clip
            count += 1


def _readable(name):
    formats = [format for format in FORMATS.values() if format.read is not None]
    if name is None:
        return formats
    chosen = [format for format in formats if format.name == name]
    if not chosen:
        names = ", ".join(format.name for format in formats)
        raise InputError(f"format: expected one of {names}, found {printable(repr(name))}")
    return chosen


def _of_path(path, formats):
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not _hidden(file, path))
        known = [(file, found) for file in files if (found := _detected(file, formats))]
        if not known:
            yield (
                printable(path),
                Skipped(f"expected clips of a known format there, found none in {len(files)} files"),
            )
        for file, found in known:
            yield from _of_file(file, found)
    elif path.is_file():
        yield from _of_file(path, _detected(path, formats) or formats)
    else:
        yield printable(path), Skipped("expected a file or a folder, found nothing there")


def _hidden(file, folder):
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _detected(file, formats):
    """The formats that know a file by its name; the one that there is, where it was chosen."""
    return formats if len(formats) == 1 else [format for format in formats if format.detect(file)]


def _of_file(file, formats):
    """The clips of a file by the first format that reads it; one of several clips numbers them."""
    problems = []
    for format in formats:
        try:
            found = _numbered(file, format)
            first = next(found, None)
        except (InputError, OSError, MemoryError) as error:
            problems.append(_reason(error, file))
            continue
        yield (printable(file), Skipped("expected a clip, found an empty file")) if first is None else first
        yield from _until_damaged(file, found)
        return
    names = ", ".join(format.name for format in formats)
    several = f"expected a clip of a known format ({names}), found none; --format names one"
    yield printable(file), Skipped(problems[0] if len(problems) == 1 else several)


def _numbered(file, format):
    clips = (_of_format(clip, format) for clip in format.read(file))
    first, second = next(clips, None), next(clips, None)
    if first is not None and second is None:
        yield printable(file), first
    elif first is not None:
        yield f"{printable(file)}#0", first
        yield f"{printable(file)}#1", second
        yield from ((f"{printable(file)}#{number}", clip) for number, clip in enumerate(clips, 2))


def _of_format(clip, format):
    """A raw clip with the layout that its format has."""
    clip = clip if isinstance(clip, RawClip) else RawClip(clip)
    return clip._replace(layout=format.layout)


def _until_damaged(file, clips):
    try:
        yield from clips
    except (InputError, OSError, MemoryError) as error:
        yield printable(file), Skipped(_reason(error, file))


def _reason(error, file):
    return printable(str(error).removeprefix(f"{file}: ") or "takes more memory than there is")
