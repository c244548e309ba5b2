"""What a format is, and what formats of one clip a file share.

To add one: a file beside this one that makes a `Format`, a line in the table of `formats`, a test.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.pipeline import PlannedClip, prepare_files
from ikem_fast.data.preparation import in_force, preparing
from ikem_fast.data.preprocess import Skipped
from ikem_fast.data.sources import SourceFile, find_files
from ikem_fast.errors import InputError, printable


@dataclass(frozen=True)
class Format:
    """A form that clips come in.

    name: as the command line has it, `ikem-fast prepare NAME`.
    summary, example: of that command, for its help.
    prepare: prepares a dataset; its parameters (the folder `out` first), their annotations and its docstring
        are the command's options.
    detect: says by what a file, a folder or an archive is seen to hold clips of this format, whole or not:
        what is wrong with them is for `prepare` and `read` to say; "" where nothing is seen.
    read: yields the raw clips (3, F, V, M) of one file, or raises InputError; None where there are no files.
    needs_layout: whether `read` takes a layout beside the file, which may not say what its joints are.
    find: lists the clips below a folder or in an archive, for `read`, where one is several files; or raises
        InputError.
    write: writes a prepared dataset's clips to a folder in this form, and returns the files.
    layout: name of the joint layout of all its clips; None where the files or their owner say.
    former: names that options of `prepare` had → what they are called now.
    usual: says which options fit what is at a path; those of the example, if not given.
    """

    name: str
    summary: str
    example: str
    prepare: Callable[..., Dataset]
    detect: Callable[[Path], str]
    read: Callable[..., Iterator[Any]] | None = None
    needs_layout: bool = False
    find: Callable[[Path], Sequence[SourceFile]] | None = None
    write: Callable[[Dataset, Path], list[Path]] | None = None
    layout: str | None = None
    former: Mapping[str, str] = field(default_factory=dict)
    usual: Callable[[Path], str] | None = None


class ClipName(Protocol):
    """What the name of a clip's file says."""

    @property
    def label(self) -> int:
        """The clip's class, from 0."""

    @property
    def split(self) -> str:
        """Where the clip goes: train or test."""

    @property
    def subject(self) -> int:
        """Who was recorded."""


class CrossSubjectName(NamedTuple):
    """The numbers of a name such as a27_s8_t4, each from 1, where people of odd numbers train."""

    action: int
    subject: int
    repetition: int

    @property
    def label(self) -> int:
        """The clip's class."""
        return self.action - 1

    @property
    def split(self) -> str:
        """Where the clip goes."""
        return "train" if self.subject % 2 else "test"


class ClipFiles(NamedTuple):
    """One clip of one body a file, whose name says split and label.

    expected: what a name has to be, for messages.
    parse_name: the `ClipName` of a file's stem, or None if it is not one.
    parse_clip: from a file's bytes to a raw clip; raises ValueError.
    limit: bytes above which a file is left out.
    bodies: of a clip.
    """

    suffix: str
    layout: str
    expected: str
    parse_name: Callable[[str], ClipName | None]
    parse_clip: Callable[[bytes], np.ndarray]
    limit: int
    bodies: int = 1

    def detect(self, path: Path) -> str:
        """Say which files there, the path itself or below it, are named like these."""
        return named_like(path, self.suffix, self.parse_name)

    def read(self, path: Path) -> Iterator[np.ndarray]:
        """Yield the raw clip of a file. Raises InputError naming it if it is not one."""
        try:
            yield self.parse_clip(SourceFile(Path(path)).read(self.limit))
        except ValueError as error:
            raise InputError(f"{path}: {Skipped.of(error).reason}") from None

    def plan(self, file: SourceFile) -> PlannedClip:
        """Plan the clip of a file by its name."""
        clip = self.parse_name(file.stem)
        if clip is None:
            return PlannedClip(str(file), skip=Skipped(f"expected a name such as {self.expected}"))
        return PlannedClip(file.stem, clip.split, clip.label, subject=str(clip.subject))

    def prepare(
        self,
        out: Path,
        source: Path,
        workers: int | None,
        *,
        name: str,
        classes: tuple[str, ...],
        wanted: Callable[[str], bool] = lambda stem: True,
    ) -> Dataset:
        """Prepare a dataset of the files at `source`; of those whose names are `wanted`."""
        return prepare_files(
            [file for file in find_files(source, self.suffix) if wanted(file.stem)],
            self.plan,
            self.parse_clip,
            limit=self.limit,
            workers=workers,
            out=out,
            name=name,
            layout=self.layout,
            classes=classes,
            num_bodies=self.bodies,
            prepared={"from": name},
        )


def named_like(path: Path, suffix: str, parse_name: Callable[[str], object]) -> str:
    """Say how many files at a path are named as a format's are, and what one is called; "" if none is."""
    try:
        names = [file.name for file in find_files(path, suffix) if parse_name(file.stem)]
    except InputError:
        return ""
    return f"{len(names)} files such as {printable(names[0])}" if names else ""


@contextlib.contextmanager
def in_plane(planar: bool) -> Iterator[None]:
    """Have poses in a plane prepared so until the block ends: not turned, the third number left alone."""
    chosen = in_force()
    if planar:
        chosen = replace(chosen, preprocessing=replace(chosen.preprocessing, planar=True, align="none"))
    with preparing(chosen):
        yield
