"""The prepared-dataset folder: memory-mapped arrays and a JSON description, read by `open_dataset`.

    dataset.json          format, version, name, layout (its name and all its tables), class names, sizes,
                          clips a split, origin
    <split>_clips.npy     (N, 3, T, V, M) float32: preprocessed clips
    <split>_frames.npy    (N,) int32: true frame counts f (see `preprocess`)
    <split>_labels.npy    (N,) int64: class of each clip, from 0
    <split>_names.npy     (N,) unicode: what each clip was prepared from
    <split>_subjects.npy  (N,) unicode or integers: who was recorded; not there where that is not known

Nothing in it is pickled; `writer.DatasetWriter` writes it.
"""

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ikem_fast.data.headers import read_header
from ikem_fast.data.preparation import Preprocessing
from ikem_fast.errors import InputError, printable
from ikem_fast.skeleton import Layout, stored_layout

FORMAT = "ikem-fast dataset"
VERSION = 1
DESCRIPTION = "dataset.json"
MAX_CLASSES = 1 << 12  # what is known has hundreds; evaluation counts pairs of classes


@dataclass(frozen=True)
class Split:
    """One part of a dataset.

    clips: (N, 3, T, V, M) float32, memory-mapped, read-only.
    frames: (N,) int32, true frame counts.
    labels: (N,) int64.
    names: (N,) unicode.
    subjects: (N,) unicode, who was recorded; None where that is not known.
    """

    clips: np.ndarray
    frames: np.ndarray
    labels: np.ndarray
    names: np.ndarray
    subjects: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, where: np.ndarray) -> "Split":
        """Make a split of some of the clips, which are copied into memory.

        where: (N,) bool, or their positions.
        """
        subjects = None if self.subjects is None else self.subjects[where]
        return Split(self.clips[where], self.frames[where], self.labels[where], self.names[where], subjects)


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset; `dataset["train"]` is a `Split`.

    skeleton: the joint layout.
    prepared: how it was prepared: the format it came from and the settings that shaped it.
    skipped: (name, reason) of every clip that was left out.
    """

    folder: Path
    name: str
    skeleton: Layout
    classes: tuple[str, ...]
    num_frames: int
    num_bodies: int
    splits: Mapping[str, Split]
    prepared: Mapping[str, object]
    skipped: tuple[tuple[str, str], ...]

    @property
    def layout(self) -> str:
        """The name of the joint layout."""
        return self.skeleton.name

    @property
    def preprocessing(self) -> Preprocessing:
        """The choices that its clips were preprocessed by. Raises InputError where they are out of range."""
        return Preprocessing.of({**self.prepared, "frames": self.num_frames})

    @property
    def num_joints(self) -> int:
        """V, of the layout."""
        return self.skeleton.num_joints

    def __getitem__(self, split: str) -> Split:
        if split not in self.splits:
            raise InputError(
                f"{self.folder}: expected a split among {', '.join(self.splits)}, found {split!r}"
            )
        return self.splits[split]


def open_dataset(folder: str | Path) -> Dataset:
    """Open a prepared dataset; clips stay on disk and are mapped into memory as they are read.

    Example:
        open_dataset("data/ntu60")["train"].clips.shape  # (N, 3, 50, 25, 2)

    Raises InputError naming the file, what was expected and what was found, if anything in the folder is
    missing, cut short, of another version, or at odds with its description.
    """
    folder = Path(folder)
    description = read_description(folder)
    skeleton = stored_layout(description, str(folder / DESCRIPTION))
    row_shape = (3, description["frames"], skeleton.num_joints, description["bodies"])
    splits = {
        split: _open_split(folder, split, rows, row_shape, len(description["classes"]))
        for split, rows in description["splits"].items()
    }
    return Dataset(
        folder=folder,
        name=description["name"],
        skeleton=skeleton,
        classes=tuple(description["classes"]),
        num_frames=description["frames"],
        num_bodies=description["bodies"],
        splits=splits,
        prepared=description["prepared"],
        skipped=tuple((name, reason) for name, reason in description["skipped"]),
    )


def hold_out(dataset: Dataset, subjects: Iterable[str]) -> Dataset:
    """Make a dataset of the training clips alone: "test" has those of these subjects, "train" the others.

    Example:
        hold_out(open_dataset("data/utd_mhad"), ["7"])["test"].subjects  # ["7", "7", …]

    Raises InputError where subjects are not known, or one of these is not among the training clips.
    """
    train, wanted = dataset["train"], list(subjects)
    if train.subjects is None:
        raise InputError(
            f"{dataset.folder}: expected subjects of the training clips, found none; prepare it anew, from a "
            "format that knows them"
        )
    known = sorted(set(train.subjects.tolist()))
    missing = [subject for subject in wanted if subject not in known]
    if missing or not wanted:
        raise InputError(
            f"{dataset.folder}: expected training subjects ({', '.join(map(printable, known[:50]))}), found "
            f"{', '.join(map(printable, missing)) or 'none'}"
        )
    out = np.isin(train.subjects, wanted)
    return replace(dataset, splits={"train": train.take(~out), "test": train.take(out)})


def drop_copies(dataset: Dataset) -> Dataset:
    """Make a dataset whose "test" has no clip that is a training clip's copy, see `digests`.

    Where there are copies, the test clips that are left are read into memory.

    Example:
        len(drop_copies(open_dataset("data/nw_ucla"))["test"])

    Raises InputError where every test clip is a copy.
    """
    test, known = dataset["test"], set(digests(dataset["train"]))
    new = np.array([digest not in known for digest in digests(test)], dtype=bool)
    if new.all():
        return dataset
    if not new.any():
        raise InputError(
            f"{dataset.folder}: expected test clips that are no training clip's copy, found {len(test)} "
            "copies alone; divide the clips anew, or score on them without --drop-copies"
        )
    return replace(dataset, splits={**dataset.splits, "test": test.take(new)})


def digests(split: Split) -> list[bytes]:
    """Digest each clip's coordinates: clips that are the same bit for bit have the same."""
    return [
        hashlib.blake2b(split.clips[place].tobytes(), digest_size=16).digest() for place in range(len(split))
    ]


def is_count(value: object, least: int) -> bool:
    """Say whether a value out of a JSON file is an integer of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_pairs(value: object) -> bool:
    """Say whether a value out of a JSON file is a list of [name, reason]."""
    return isinstance(value, list) and all(_is_strings(item) and len(item) == 2 for item in value)


def _is_strings(value):
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_printable(value):
    return isinstance(value, str) and value.isprintable()


# What each entry of dataset.json must be: (wording for the error message, test).
_ENTRIES = {
    "name": ("a printable string", _is_printable),
    "layout": ("the name of a joint layout", lambda value: isinstance(value, str)),
    "classes": (
        f"a list of 1 to {MAX_CLASSES} printable class names",
        lambda value: (
            _is_strings(value) and 1 <= len(value) <= MAX_CLASSES and all(map(_is_printable, value))
        ),
    ),
    "frames": ("a positive integer", lambda value: is_count(value, 1)),
    "bodies": ("a positive integer", lambda value: is_count(value, 1)),
    "splits": (
        "a clip count for each split's name",
        lambda value: (
            isinstance(value, dict)
            and value
            and all(
                re.fullmatch(r"[a-z][a-z0-9_]*", split) and is_count(rows, 0) for split, rows in value.items()
            )
        ),
    ),
    "prepared": ("an object", lambda value: isinstance(value, dict)),
    "skipped": ("a list of [name, reason]", is_pairs),
    "fingerprint": ("a string", lambda value: isinstance(value, str)),
}


def read_json(path: Path) -> dict:
    """Read a file with a JSON object in it. Raises InputError naming the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8
        raise InputError(f"{path}: expected a JSON file, found: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def read_description(folder: Path) -> dict:
    """Read a folder's dataset.json and hold each entry against what it must be. Raises InputError."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise InputError(
            f"{folder}: expected a prepared dataset, found no {DESCRIPTION} there; "
            "prepare one first: ikem-fast prepare --help"
        )
    description = read_json(path)
    if description.get("format") != FORMAT:
        raise InputError(f"{path}: expected format {FORMAT!r}, found {description.get('format')!r}")
    if description.get("version") != VERSION:
        raise InputError(
            f"{path}: expected version {VERSION}, found {description.get('version')!r}; prepare anew"
        )
    for entry, (wording, is_valid) in _ENTRIES.items():
        if entry not in description or not is_valid(description[entry]):
            raise InputError(
                f"{path}: expected {entry!r} to be {wording}, found {description.get(entry)!r:.100}"
            )
    return description


def _open_array(path, dtype, shape):
    """Open an .npy file and hold it against its expected dtype (None: any unicode) and shape.

    What has a row of numbers a clip is mapped into memory, all else is read: it is small, and then of no
    matter to a run what becomes of the file.
    """
    if not path.is_file():
        raise InputError(f"{path}: expected an array of shape {shape}, found no such file; prepare anew")
    try:
        with path.open("rb") as file:
            header = read_header(file, path.name)
            start, size = file.tell(), os.fstat(file.fileno()).st_size
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path}: expected a whole .npy file, found: {error}; prepare anew") from None
    found = header.dtype
    fits = found is not None and (found.kind == "U" if dtype is None else found == dtype)
    if not fits or header.shape != shape or (header.fortran_order and len(shape) > 1):
        expected = "unicode" if dtype is None else np.dtype(dtype).name
        raise InputError(
            f"{path}: expected {expected} of shape {shape}, "
            f"found {found or 'another type'} of shape {header.shape}; prepare anew"
        )
    bytes_of_all = math.prod(shape) * found.itemsize
    if size - start < bytes_of_all:
        raise InputError(
            f"{path}: expected a whole .npy file, found {size - start} bytes in place of {bytes_of_all}; "
            "prepare anew"
        )
    if len(shape) > 1:
        return np.memmap(path, found, "r", start, shape)
    array = np.fromfile(path, found, math.prod(shape), offset=start)
    array.flags.writeable = False
    return array


def _open_split(folder, split, rows, row_shape, num_classes):
    def open_array(part, dtype, shape):
        return _open_array(folder / f"{split}_{part}.npy", dtype, shape)

    frames = open_array("frames", np.int32, (rows,))
    labels = open_array("labels", np.int64, (rows,))
    if rows and frames.min() < 1:
        raise InputError(f"{folder / f'{split}_frames.npy'}: expected frame counts ≥ 1, found {frames.min()}")
    if rows and not (labels.min() >= 0 and labels.max() < num_classes):
        raise InputError(
            f"{folder / f'{split}_labels.npy'}: expected labels 0 … {num_classes - 1}, "
            f"found {labels.min()} … {labels.max()}"
        )
    return Split(
        clips=open_array("clips", np.float32, (rows, *row_shape)),
        frames=frames,
        labels=labels,
        names=open_array("names", None, (rows,)),
        subjects=_open_subjects(folder / f"{split}_subjects.npy", rows),
    )


def _open_subjects(path, rows):
    if not path.exists():
        return None
    with contextlib.suppress(InputError):  # integers, or what is said below
        return _open_array(path, np.int64, (rows,)).astype(str)
    return _open_array(path, None, (rows,))
