"""Clips of one's own: files of one's own names, whose classes stand in a list or in the folders above them.

A list of labels is a text with a line a clip: its file's name, its label, and who was recorded where that is
known, between commas, tabs or semicolons, or else spaces; or a table with a first line that names its
columns: name, label, and any of subject, split, class, frames and what else clips may be chosen by, such as
view. Or names say it, by a pattern such as {label}_{subject}_*. Without either a clip's class is the folder
it is in, and folders called train, val or test above these say where it goes.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.base import in_plane
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
    """What is known of a clip.

    frames: its true frame count, where it has been preprocessed already.
    attributes: what else is known, that clips may be chosen by.
    """

    label: str
    subject: str | None = None
    split: str = "train"
    named: str | None = None
    frames: int | None = None
    attributes: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Own:
    """Clips of one's own to prepare.

    parse: from a file's bytes to a raw clip; must be picklable.
    limit: bytes above which a file is left out.
    planar: whether poses are in a plane, their third number a score or 0.
    """

    files: Sequence[SourceFile]
    parse: Callable[[bytes], Any]
    limit: int
    layout: str | Layout
    num_bodies: int
    num_frames: int | None = None
    planar: bool = False

    def prepare(
        self,
        out: Path,
        source: Path,
        labels: Path | SourceFile | None,
        workers: int | None,
        prepared: Mapping[str, Any],
    ) -> Dataset:
        """Prepare a dataset of the clips. Raises InputError where labels are missing or wrong.

        labels: a list, or a pattern of names; the folders that clips are in, if not given.
        """
        keys = {file: _key(file, Path(source)) for file in self.files}
        row_of = _rows_by(labels)
        found = {file: row_of(keys[file]) for file in self.files}
        known = {file: row for file, row in found.items() if row is not None}
        if not known:
            shown = examples(list(keys.values()))
            advice = "" if labels else "; give --labels, a list or a pattern of names, or a folder a class"
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
            return PlannedClip(name, row.split, number[file], None, row.subject, row.attributes)

        with in_plane(self.planar):
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
                prepared={**prepared, "labels": labels and labels.name},
                **({} if self.num_frames is None else {"num_frames": self.num_frames}),
            )


def read_rows(file: SourceFile) -> dict[str, Row]:
    """Read a list of labels: a clip's name → what is known of it. Raises InputError."""
    try:
        text = file.read(MAX_LIST_BYTES).decode("utf-8-sig")
    except ValueError as error:
        expected = "a list of names and labels in UTF-8"
        raise InputError(f"{file}: expected {expected}, found: {printable(error)}") from None
    lines = [line for line in text.splitlines() if line.strip()]
    sign = next((sign for sign in ",\t;" if lines and sign in lines[0]), None)
    table = list(csv.reader(lines, delimiter=sign)) if sign else [line.split() for line in lines]
    table = [[cell.strip() for cell in cells] for cells in table]
    columns = [cell.lower() for cell in table[0]] if table else []
    headed = {"name", "label"} <= set(columns)
    columns = columns if headed else list(COLUMNS[:3])
    rows: dict[str, Row] = {}
    for number, cells in enumerate(table[headed:], 1 + headed):
        where = f"{file}, line {number}"
        if len(cells) < 2 or len(cells) > len(columns):
            raise InputError(f"{where}: expected {', '.join(columns)}, found {len(cells)} words")
        cell = dict(zip(columns, cells, strict=False))
        name, row = bare_name(cell["name"]), _row(cell, where)
        if rows.setdefault(name, row) != row:
            raise InputError(f"{where}: expected {printable(name)} once, found it again with something else")
    count = Counter(PurePosixPath(name).name for name in rows)
    short = {last: row for name, row in rows.items() if count[last := PurePosixPath(name).name] == 1}
    return {**short, **rows}


def _row(cell, where):
    """A row of the texts in it, by column."""
    split, frames = cell.get("split") or "train", cell.get("frames") or None
    if not cell["label"]:
        raise InputError(f"{where}: expected a label, found none")
    if split.lower() not in SPLITS or (frames and not frames.isdecimal()):
        raise InputError(
            f"{where}: expected train, val or test, and counts of frames, found "
            f"{printable(repr(split), 40)} and {printable(repr(frames), 40)}"
        )
    return Row(
        cell["label"],
        printable(cell["subject"], 100) if cell.get("subject") else None,
        SPLITS[split.lower()],
        cell.get("class") or None,
        int(frames) if frames else None,
        {name: value for name, value in cell.items() if name and name not in COLUMNS},
    )


def _rows_by(labels: Path | SourceFile | None) -> Callable[[str], Row | None]:
    """Return what tells, from where a clip is below the source, what is known of it."""
    if labels is None:
        return _row_of_folders
    if is_pattern(labels):
        return partial(_row_of_name, _as_regex(labels), labels)
    listed = labels if isinstance(labels, SourceFile) else SourceFile(labels)
    rows = read_rows(listed)
    inside = f"{PurePosixPath(listed.member).parent}/" if listed.member else ""
    return lambda key: rows.get(key.removeprefix(inside)) or rows.get(PurePosixPath(key).name)


def is_pattern(labels: Path | SourceFile | None) -> bool:
    """Say whether labels are in names, by a pattern, rather than in a list."""
    return isinstance(labels, Path) and "{label}" in str(labels)


def _as_regex(pattern):
    """A pattern of names as an expression: {label} and others for any text, * for what does not matter."""
    parts = re.split(r"(\{\w+\}|\*)", bare_name(pattern.as_posix()))
    named = [part[1:-1] for part in parts if part.startswith("{")]
    if len(set(named)) != len(named) or not all(name.isidentifier() for name in named):
        raise InputError(f"{pattern}: expected each of {{label}}, {{subject}}, … once, found {named}")
    as_regex = {"*": "[^/]*", **{f"{{{name}}}": f"(?P<{name}>[^/]+)" for name in named}}
    return re.compile("".join(as_regex.get(part, re.escape(part)) for part in parts))


def _row_of_name(regex, pattern, key):
    """By the whole way from the source where the pattern has folders, else by the file's name."""
    match = regex.fullmatch(key if "/" in pattern.as_posix() else PurePosixPath(key).name)
    return _row(match.groupdict(), f"{key} by {pattern}") if match else None


def bare_name(name: str) -> str:
    """Return a name in a list without its folders' marks and its ending."""
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


def _row_of_folders(key):
    folders = PurePosixPath(key).parts[:-1]
    split = next((SPLITS[folder.lower()] for folder in folders if folder.lower() in SPLITS), "train")
    inner = folders[-1] if folders else ""
    return Row(inner, split=split) if inner and inner.lower() not in SPLITS else None


def frame_counts(
    files: Sequence[SourceFile], source: Path, labels: Path | SourceFile | None
) -> dict[SourceFile, int]:
    """Find the true frame counts that labels have of clips."""
    row_of = _rows_by(labels)
    found = {file: row_of(_key(file, Path(source))) for file in files}
    return {file: row.frames for file, row in found.items() if row and row.frames}


def as_bodies(points: np.ndarray, columns: str) -> np.ndarray:
    """Make coordinates (F, V, C, M), of such columns, a raw clip (3, F, V, M) of the same dtype.

    columns: xyz, xyzc (with a confidence, which is left out), xy (the third is 0) or xyc (it is the score).
    """
    raw = points.transpose(2, 0, 1, 3)[:3]
    return np.concatenate([raw, np.zeros_like(raw[:1])]) if columns == "xy" else np.ascontiguousarray(raw)
