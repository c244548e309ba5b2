"""Arrays of training and of test clips, each with a label file, as CrosSCLR's and AGCN's relatives have.

train_position.npy   (N, C, T, V, M), of whatever number type and byte order
train_label.pkl      (names, labels) or (names, labels, frame counts); or labels alone, as train_label.npy too
val_position.npy, val_label.pkl
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ikem_fast.data.formats.npy import NpyFile
from ikem_fast.data.formats.stream import (
    ClipStream,
    Labels,
    classes_of,
    ntu_names,
    number_classes,
    read_labels,
    subject_of,
)
from ikem_fast.data.pipeline import PlannedClip
from ikem_fast.data.preparation import NUM_FRAMES
from ikem_fast.data.preprocess import Clip, Skipped
from ikem_fast.data.sources import SourceFile, find_files, find_together
from ikem_fast.errors import InputError
from ikem_fast.skeleton import Layout

SPLITS = {"train": "train", "val": "test", "test": "test"}  # part of a file's name → split


LABELS = ("label.pkl", "label.npy")  # what a label file may be called; the first says more


class Part(NamedTuple):
    """The clips of one split. array: (N, C, T, V, M). beside: other files of the same split, by name."""

    split: str
    array: NpyFile
    labels: Labels
    beside: dict[str, SourceFile]
    files: list[SourceFile]


def find_parts(source: Path, arrays: Sequence[str], beside: Sequence[str] = ()) -> list[Part]:
    """Find the parts of a dataset.

    arrays: names that an array may have behind `train_` and `val_`; beside: other files' that may be there.

    Raises InputError where there are none, one has no labels, or is no array of clips.
    """
    found = find_together(
        source, [f"{part}_{name}" for part in SPLITS for name in (*arrays, *beside, *LABELS)]
    )
    parts = []
    for part, split in SPLITS.items():
        names = [f"{part}_{name}" for name in arrays if f"{part}_{name}" in found]
        if not names:
            continue
        array = NpyFile(found[names[0]])
        if len(array.shape) != 5 or array.shape[1] not in (2, 3) or array.dtype.kind not in "fiu":
            raise InputError(
                f"{array.file}: expected numbers of shape (clips, 2 or 3, frames, joints, bodies), found "
                f"{array.dtype} of shape {array.shape}"
            )
        label = next((found[f"{part}_{name}"] for name in LABELS if f"{part}_{name}" in found), None)
        if label is None:
            expected = " or ".join(f"{part}_{name}" for name in LABELS)
            raise InputError(f"{array.file}: expected {expected} beside it, found none")
        others = {name: found[f"{part}_{name}"] for name in beside if f"{part}_{name}" in found}
        parts.append(
            Part(
                split,
                array,
                read_labels(label, array.shape[0]),
                others,
                [array.file, label, *others.values()],
            )
        )
    if not parts:
        raise InputError(f"{source}: expected train_{arrays[0]} or val_{arrays[0]}, found labels alone")
    return parts


def seen_in(path: Path, arrays: Sequence[str]) -> str:
    """Say which arrays of these names a path holds, whole or not: `find_parts` says what they lack."""
    names = {f"{part}_{name}" for part in SPLITS for name in arrays}
    try:
        files = [file for file in find_files(path, tuple(names)) if file.name in names]
    except InputError:
        return ""
    return ", ".join(map(str, files))


def arrays_at(path: Path, arrays: Sequence[str], beside: Sequence[str] = ()) -> list[SourceFile]:
    """List the arrays of clips at a path, each to be read by itself; see `parts_at`."""
    return [part.array.file for part in parts_at(path, arrays, beside)]


def parts_at(path: Path | SourceFile, arrays: Sequence[str], beside: Sequence[str] = ()) -> list[Part]:
    """Find the parts at a path, of which one that is an array itself is that part alone.

    Raises InputError as `find_parts` does, and for a file that goes with an array.
    """
    file = path if isinstance(path, SourceFile) else SourceFile(Path(path))
    parts = find_parts(file.path, arrays, beside)
    if file.member or (file.path.is_file() and file.path.suffix != ".zip"):
        parts = [part for part in parts if part.array.file == file]
    if not parts:
        raise InputError(f"{file}: expected an array of clips, found what is beside one")
    return parts


def stream_of(
    parts: Sequence[Part],
    layout: Layout,
    read: Callable[[Part, int, np.ndarray], Iterable[np.ndarray | Clip | Skipped]],
    num_frames: int = NUM_FRAMES,
    notes: tuple[str, ...] = (),
) -> ClipStream:
    """Make a stream of the clips of all parts.

    read: given a part, a clip's number in it and rows of the array from there on (K, C, T, V, M), which it
        may write to, makes their clips.

    Raises InputError where parts disagree with the layout or each other; planning, where labels are wrong.
    """
    shape = parts[0].array.shape
    for part in parts:
        if part.array.shape[3:] != shape[3:] or min(shape[2], part.array.shape[2], shape[4]) < 1:
            raise InputError(
                f"{part.array.file}: expected frames, joints and bodies, these as in the other array, "
                f"{shape[3:]}, found {part.array.shape[2:]}"
            )

    def plan() -> tuple[list[PlannedClip], Sequence[str]]:
        given = list(chain.from_iterable(part.labels.labels for part in parts))
        labels, classes = number_classes(given, parts[0].files[1])
        names, splits = [], []
        for part in parts:
            digits = len(str(part.array.shape[0]))
            numbered = [f"{part.split}-{index:0{digits}d}" for index in range(part.array.shape[0])]
            names += part.labels.names or numbered
            splits += [part.split] * part.array.shape[0]
        parsed = ntu_names(names)
        planned = [
            PlannedClip(name, split, label, subject=subject_of(of_ntu))
            for name, split, label, of_ntu in zip(names, splits, labels, parsed, strict=True)
        ]
        return planned, classes_of(parsed, labels, classes)

    def some_clips(start: int) -> Iterator[Iterable[np.ndarray | Clip | Skipped]]:
        for part in parts:
            first, start = min(start, part.array.shape[0]), max(start - part.array.shape[0], 0)
            for rows in part.array.some_rows(first):
                yield read(part, first, rows)
                first += len(rows)

    return ClipStream(
        plan=plan,
        read=lambda start: chain.from_iterable(some_clips(start)),
        files=[file for part in parts for file in part.files],
        layout=layout,
        num_bodies=shape[4],
        num_frames=num_frames,
        notes=notes,
        planar=parts[0].array.shape[1] == 2,
    )
