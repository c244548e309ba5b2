"""Clips of one's own: files of one's own names, whose classes stand in a list or in the folders above them.

A list of labels is a text with a line a clip: its file's name, its label, and who was recorded where that is
known, between commas, tabs or spaces; or a table with a first line that names its columns: name, label, and
any of subject, split, class and frames. Without a list a clip's class is the folder it is in, and folders
called train, val or test above these say where it goes.
"""

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.base import Damaged, prepared_with
from ikem_fast.data.formats.stream import examples, known_layout, number_classes
from ikem_fast.data.pipeline import PlannedClip, prepare_files
from ikem_fast.data.preprocess import Skipped
from ikem_fast.data.sources import SourceFile
from ikem_fast.errors import InputError, printable
from ikem_fast.skeleton import Layout

MAX_LIST_BYTES = 1 << 26
SPLITS = {"train": "train", "training": "train", "val": "test", "validation": "test", "test": "test"}
COLUMNS = ("name", "label", "subject", "split", "class", "frames")


class Row(NamedTuple):
    """What is known of a clip; frames: its true frame count, where it has been preprocessed already."""

    label: str
    subject: str | None = None
    split: str = "train"
    named: str | None = None
    frames: int | None = None


@dataclass(frozen=True)
class Own:
    """Clips of one's own to prepare.

    parse: from a file's bytes to a raw clip; must be picklable.
    limit: bytes above which a file is left out.
    """

    files: Sequence[SourceFile]
    parse: Callable[[bytes], Any]
    limit: int
    layout: str | Layout
    num_bodies: int
    num_frames: int | None = None

    def prepare(
        self,
        out: Path,
        source: Path,
        labels: Path | None,
        workers: int | None,
        damaged: Damaged,
        prepared: Mapping[str, Any],
    ) -> Dataset:
        """Prepare a dataset of the clips. Raises InputError where labels are missing or wrong."""
        rows = read_rows(labels) if labels else {}
        keys = {file: _key(file, Path(source)) for file in self.files}
        found = {
            file: _row(keys[file], rows) if labels else _row_of_folders(keys[file]) for file in self.files
        }
        known = {file: row for file, row in found.items() if row is not None}
        if not known:
            shown = examples(list(keys.values()))
            advice = "" if labels else "; give --labels FILE, or a folder for each class"
            raise InputError(
                f"{labels or source}: expected labels of clips such as {shown}, found none{advice}"
            )
        numbers, classes = number_classes((row.label for row in known.values()), labels or source)
        number = dict(zip(known, numbers, strict=True))
        for file, row in known.items():
            if row.named:
                classes[number[file]] = printable(row.named)
        stems = [PurePosixPath(key).name for key in keys.values()]
        unique = len(set(stems)) == len(stems)

        def plan(file: SourceFile) -> PlannedClip:
            row, name = found[file], printable(PurePosixPath(keys[file]).name if unique else keys[file])
            if row is None:
                return PlannedClip(name, skip=Skipped("expected a label, found none"))
            return PlannedClip(name, row.split, number[file], subject=row.subject)

        return prepare_files(
            list(self.files),
            plan,
            self.parse,
            limit=self.limit,
            workers=workers,
            out=out,
            name=printable(Path(source).stem),
            layout=known_layout(self.layout),
            classes=classes,
            num_bodies=self.num_bodies,
            prepared={**prepared, "labels": labels and labels.name, **prepared_with(damaged)},
            repair=damaged == "interpolate",
            **({} if self.num_frames is None else {"num_frames": self.num_frames}),
        )


def read_rows(path: Path) -> dict[str, Row]:
    """Read a list of labels: a clip's name → what is known of it. Raises InputError."""
    try:
        text = SourceFile(path).read(MAX_LIST_BYTES).decode("utf-8-sig")
    except ValueError as error:
        raise InputError(f"{path}: expected a list of names and labels, found: {printable(error)}") from None
    lines = [line for line in text.splitlines() if line.strip()]
    table = list(csv.reader(lines)) if lines and "," in lines[0] else [line.split() for line in lines]
    table = [[cell.strip() for cell in cells] for cells in table]
    columns = [cell.lower() for cell in table[0]] if table else []
    headed = {"name", "label"} <= set(columns)
    columns = columns if headed else list(COLUMNS[:3])
    rows = {}
    for number, cells in enumerate(table[headed:], 1 + headed):
        if len(cells) < 2 or len(cells) > len(columns):
            raise InputError(
                f"{path}: expected {', '.join(columns)} a line, found {len(cells)} words in line {number}"
            )
        cell = dict(zip(columns, cells, strict=False))
        split = cell.get("split") or "train"
        frames = cell.get("frames") or None
        if split not in SPLITS or (frames and not frames.isdecimal()):
            raise InputError(
                f"{path}: expected train, val or test, and counts, in line {number}, found others"
            )
        rows[_bare(cell["name"])] = Row(
            cell["label"],
            printable(cell["subject"], 100) if cell.get("subject") else None,
            SPLITS[split],
            cell.get("class") or None,
            int(frames) if frames else None,
        )
    count = Counter(PurePosixPath(name).name for name in rows)
    short = {last: row for name, row in rows.items() if count[last := PurePosixPath(name).name] == 1}
    return {**short, **rows}


def _bare(name):
    """A name in a list, without its folders' marks and its ending."""
    path = PurePosixPath(name.replace("\\", "/"))
    return (
        str(path.with_suffix(""))
        if path.suffix[1:].isalnum() and not path.suffix[1:].isdecimal()
        else str(path)
    )


def _key(file, source):
    """Where a clip is below the source, without its ending."""
    inside = PurePosixPath(file.member) if file.member else None
    try:
        path = PurePosixPath(file.path.relative_to(source if source.is_dir() else source.parent).as_posix())
    except ValueError:
        path = PurePosixPath(file.path.name)
    folder = (inside.parent if inside else path.parent) / file.stem
    return str(folder)


def _row(key, rows):
    return rows.get(key) or rows.get(PurePosixPath(key).name)


def _row_of_folders(key):
    folders = PurePosixPath(key).parts[:-1]
    split = next((SPLITS[folder.lower()] for folder in folders if folder.lower() in SPLITS), "train")
    inner = folders[-1] if folders else ""
    return Row(inner, split=split) if inner and inner.lower() not in SPLITS else None


def frame_counts(files: Sequence[SourceFile], source: Path, rows: Mapping[str, Row]) -> dict[SourceFile, int]:
    """Find the true frame counts that a list of labels has of clips."""
    found = {file: _row(_key(file, Path(source)), rows) for file in files}
    return {file: row.frames for file, row in found.items() if row and row.frames}


def as_bodies(points: np.ndarray, columns: str) -> np.ndarray:
    """Make coordinates (F, V, C, M), of such columns, a raw clip (3, F, V, M) of the same dtype.

    columns: xyz, xyzc (with a confidence, which is left out), xy (the third is 0) or xyc (it is the score).
    """
    raw = points.transpose(2, 0, 1, 3)[:3]
    return np.concatenate([raw, np.zeros_like(raw[:1])]) if columns == "xy" else np.ascontiguousarray(raw)
