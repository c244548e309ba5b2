"""What is asked about: arrays, files of every format, folders and archives of them; clips with names."""

import contextlib
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from ikem_fast.data.formats import FORMATS, Format
from ikem_fast.data.formats.arrays import LABELS
from ikem_fast.data.formats.npy import BROKEN
from ikem_fast.data.preprocess import Clip, RawClip, Skipped
from ikem_fast.errors import InputError, printable
from ikem_fast.skeleton import Layout

MAX_MEMBER_BYTES = 1 << 30  # of an archive

Array: TypeAlias = np.ndarray | torch.Tensor
Source: TypeAlias = str | PathLike[str] | Array
Named: TypeAlias = tuple[str, np.ndarray | RawClip | Clip | Skipped]


def named_clips(
    clips: Source | Iterable[Source], format: str | None = None, layout: Layout | None = None
) -> Iterator[Named]:
    """Yield (name, raw clip (3,F,V,M)), or (name, `Skipped`) where one cannot be read; the rest go on.

    Those of files that `write` left are `Clip`, which have been preprocessed already.

    Args:
        clips: a raw clip (3,F,V,M), a batch of them (N,3,F,V,M), the path of a file, a folder or a .zip, or
            several of these. Of a folder or an archive, the files that a format knows by their names, at any
            depth; a file of another name is tried with every format.
        format: name of the format that files have, if it is known.
        layout: whose joints tables of numbers have, which do not say themselves.

    Raises InputError for a format that there is not, or one without files.

    Example:
        for name, clip in named_clips("raw/"):
            print(name, clip.reason if isinstance(clip, Skipped) else clip.shape)
    """
    reader = _Reader(_readable(format), layout)
    several = [clips] if isinstance(clips, str | PathLike | np.ndarray | torch.Tensor) else clips
    count = 0
    for one in several:
        if isinstance(one, str | PathLike):
            yield from reader.of_path(Path(one))
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


@dataclass(frozen=True)
class _Reader:
    """Reads clips of these formats; layout: see `named_clips`."""

    formats: list[Format]
    layout: Layout | None

    def of_path(self, path):
        if path.is_dir():
            files = sorted(
                file
                for file in path.rglob("*")
                if file.is_file() and not _hidden(file.relative_to(path).parts)
            )
            yield from self._of_place(path, ((file, printable(file)) for file in files))
        elif path.suffix.lower() == ".zip" and zipfile.is_zipfile(path):
            with contextlib.closing(_unpacked(path)) as files:
                yield from self._of_place(path, files)
        elif path.is_file():
            yield from self._of_file(path, printable(path), self._knowing(path) or self.formats)
        else:
            yield printable(path), Skipped("expected a file or a folder, found nothing there")

    def _knowing(self, file):
        """The formats that know a file by its name; the one that there is, where it was chosen."""
        if len(self.formats) == 1:
            return self.formats
        return [format for format in self.formats if format.detect(file)]

    def _of_place(self, place, files):
        """The clips of several files each, then those of files that are known: (path or `Skipped`, name)."""
        count = known = 0
        several = []
        for format in self.formats:
            with contextlib.suppress(InputError):
                if format.find is not None and format.detect(place):
                    several.append(format)
                    for clip in format.find(place):
                        known += 1
                        yield from self._of_file(clip, str(clip), [format])
        for file, name in files:
            count += 1
            if isinstance(file, Skipped):
                known += 1
                yield name, file
                continue
            knowing = self._knowing(file)
            if knowing and not any(format in several for format in knowing):
                known += 1
                yield from self._of_file(file, name, knowing)
        if not known:
            reason = f"expected clips of a known format there, found none in {count} files"
            yield printable(place), Skipped(reason)

    def _of_file(self, file, name, formats):
        """The clips of a file by the first format that reads it; one of several clips numbers them."""
        problems = []
        for format in formats:
            try:
                found = self._numbered(file, name, format)
                first = next(found, None)
            except (InputError, OSError, MemoryError) as error:
                problems.append(_reason(error, file))
                continue
            yield (name, Skipped("expected a clip, found an empty file")) if first is None else first
            yield from _until_damaged(file, name, found)
            return
        names = ", ".join(format.name for format in formats)
        several = f"expected a clip of a known format ({names}), found none; --format names one"
        yield name, Skipped(problems[0] if len(problems) == 1 else several)

    def _numbered(self, file, name, format):
        raws = format.read(file, self.layout) if format.needs_layout else format.read(file)
        clips = (_of_format(clip, format) for clip in raws)
        first, second = next(clips, None), next(clips, None)
        if first is not None and second is None:
            yield name, first
        elif first is not None:
            yield f"{name}#0", first
            yield f"{name}#1", second
            yield from ((f"{name}#{number}", clip) for number, clip in enumerate(clips, 2))


def _hidden(parts):
    """Whether one of a path's parts is a hidden file or folder; ".." is neither."""
    return any(part.startswith(".") and part.strip(".") for part in parts)


def _unpacked(path):
    """(path, name) of each file of an archive, unpacked for as long as it is looked at; lists, which clips
    are read by, before all others and for as long as these are."""
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        for member in sorted(archive.infolist(), key=lambda member: not _is_list(member.filename)):
            if member.is_dir() or _hidden(member.filename.split("/")):
                continue
            name = printable(f"{path}/{member.filename}", 1 << 12)
            try:
                if member.file_size > MAX_MEMBER_BYTES:
                    raise ValueError(f"expected at most {MAX_MEMBER_BYTES} bytes, found {member.file_size}")
                file = Path(archive.extract(member, folder))
            except (ValueError, *BROKEN) as error:
                yield Skipped.of(error), name
                continue
            yield file, name
            if not _is_list(member.filename):
                file.unlink()


def _is_list(name):
    return name.rpartition("/")[2] == LABELS


def _of_format(clip, format):
    """A raw clip with the layout that its format has; one that has been preprocessed already as it is."""
    if isinstance(clip, Clip):
        return clip
    clip = clip if isinstance(clip, RawClip) else RawClip(clip)
    return clip._replace(layout=format.layout)


def _until_damaged(file, name, clips):
    try:
        yield from clips
    except (InputError, OSError, MemoryError) as error:
        yield name, Skipped(_reason(error, file))


def _reason(error, file):
    return printable(str(error).removeprefix(f"{file}: ") or "takes more memory than there is")
