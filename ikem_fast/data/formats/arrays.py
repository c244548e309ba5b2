"""Plain arrays, a file a clip: .npy, .csv or .txt, in any order of joints that a layout names.

    .npy          (frames, joints, C) or (frames, joints, C, bodies), or (frames, joints · C)
    .csv, .txt    a line a frame with the numbers of all joints, or a line a joint, those of a frame together;
                  a first line that names the columns is passed over

An .npz is a folder of .npy. C numbers are x y z, x y, x y z confidence or, where that is said, x y score.
"""

import csv
import io
import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.base import Format
from ikem_fast.data.formats.bodies import to_float32
from ikem_fast.data.formats.npy import BROKEN, MAX_BLOCK_BYTES, NpyFile
from ikem_fast.data.formats.own import Own, as_bodies, bare_name, frame_counts, is_pattern, read_rows
from ikem_fast.data.formats.stream import known_layout
from ikem_fast.data.formats.text import as_rows, as_table, is_numbers
from ikem_fast.data.headers import read_header
from ikem_fast.data.preparation import NUM_FRAMES
from ikem_fast.data.preprocess import MAX_COORDINATE, Clip, Skipped, is_bounded
from ikem_fast.data.sources import SourceFile, find_files
from ikem_fast.errors import InputError
from ikem_fast.files import write_text
from ikem_fast.settings import Allowed
from ikem_fast.skeleton import Layout

SUFFIXES = (".npy", ".csv", ".txt")
LABELS = "labels.csv"
Columns = Literal["xyz", "xyzc", "xy", "xyc"]
_LOOKED_INTO = 1 << 14  # bytes, by which a text is told to be a table
_BY_COUNT: dict[int, Columns] = {2: "xy", 3: "xyz", 4: "xyzc"}


@dataclass(frozen=True)
class Counted(SourceFile):
    """A clip that has been preprocessed already, of so many frames; its count is read ahead of its bytes."""

    frames: int = 0

    def read(self, limit: int) -> bytes:
        """Read the count, a null, and the file's bytes."""
        return b"%d\0" % self.frames + SourceFile(self.path, self.member).read(limit)


def parse_clip(
    content: bytes,
    joints: int,
    columns: Columns | None = None,
    length: int | None = None,
    bodies: int | None = None,
) -> np.ndarray | Clip:
    """Parse a file's bytes into a raw clip (3, F, V, M). Raises ValueError if they are none.

    length: what F is, if that is known, of a clip that has been preprocessed already.
    bodies: what M is, if that is known; where there are fewer, the others are nobody.
    """
    count, null, _ = content[:20].partition(b"\0")
    if null and count.isdigit():
        points, _ = _points(content[len(count) + 1 :], joints, "xyz")
        clip = _of_bodies(to_float32(points.transpose(2, 0, 1, 3)), bodies)
        if not is_bounded(clip):
            raise ValueError(f"expected coordinates below {MAX_COORDINATE:g}, found NaN, infinity or more")
        if clip.shape[1] != (length or clip.shape[1]):
            raise ValueError(
                f"expected {length} frames of a clip that was prepared already, as `frames` of its "
                f"labels says, found {clip.shape[1]}; leave `frames` out for raw clips"
            )
        return Clip(clip, int(count))
    points, found = _points(content, joints, columns)
    wide = points.dtype.itemsize >= 8 and points.dtype.kind == "f"
    return _of_bodies(as_bodies(points.astype(np.float64 if wide else np.float32), found), bodies)


def _of_bodies(clip, bodies):
    missing = (bodies or clip.shape[3]) - clip.shape[3]
    if missing < 0:
        raise ValueError(f"expected at most {bodies} bodies, found {clip.shape[3]}; --bodies says how many")
    return np.pad(clip, [(0, 0)] * 3 + [(0, missing)]) if missing else clip


def _points(content, joints, columns):
    """(F, V, C, M) and what the C are."""
    points = _npy(content) if content.startswith(b"\x93NUMPY") else as_table(content)
    if not points.size:
        raise ValueError(f"expected frames of {joints} joints, found none")
    if points.ndim == 2 and points.shape[1] in _BY_COUNT and len(points) % joints == 0:
        points = points.reshape(-1, joints, points.shape[1])
    elif points.ndim == 2 and points.shape[1] % joints == 0:
        points = points.reshape(len(points), joints, -1)
    points = points[..., None] if points.ndim == 3 else points
    given = points.shape[2] if points.ndim == 4 else 0
    if points.ndim != 4 or points.shape[1] != joints or given != len(columns or _BY_COUNT.get(given, "")):
        expected = f"frames of {joints} joints of {columns or 'xy, xyz or xyzc'}"
        raise ValueError(f"expected {expected}, found shape {points.shape}")
    numbers = points[:, :, 0, 0] - np.arange(joints)
    if joints > 1 and numbers[0, 0] in (0, 1) and (numbers == numbers[0, 0]).all():
        raise ValueError(
            "expected coordinates, found the joints' numbers in the first column; leave them out"
        )
    return points, columns or _BY_COUNT[given]


def _npy(content):
    stream = io.BytesIO(content)
    try:
        header = read_header(stream, "the file")
    except (EOFError, struct.error) as error:
        raise ValueError(f"expected a NumPy array, found: {error}") from None
    if header.dtype is None or header.dtype.kind not in "fiu":
        raise ValueError(f"expected numbers, found {header.dtype or 'another type'}")
    declared = stream.tell() + math.prod(header.shape) * header.dtype.itemsize
    if declared != len(content):
        raise ValueError(
            f"expected {declared} bytes, as declared for shape {header.shape} of {header.dtype}, found "
            f"{len(content)}"
        )
    values = np.frombuffer(content, header.dtype, offset=stream.tell())
    return values.reshape(header.shape, order="F" if header.fortran_order else "C")


def prepare_arrays(
    out: Path,
    source: Path,
    layout: str,
    labels: Path | None = None,
    columns: Columns | None = None,
    bodies: Annotated[int, Allowed(least=1, most=64)] | None = None,
    workers: int | None = None,
) -> Dataset:
    """Prepare plain arrays of one's own: a .npy, .csv or .txt a clip, in the order of a layout's joints.

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: folder with the files (searched to its depths), a .zip of them, or an .npz of arrays.
        layout: the joint layout: a name, or a YAML file of one's own.
        labels: list with a line a clip: its file's name, its label, who was recorded; or what names are
            made of, such as {label}_{subject}_*; if not given, labels.csv of the source, in an archive too,
            or the folders that clips are in.
        columns: what the numbers of a joint are; xy, xyz or xyzc by how many there are, if not given.
        bodies: how many bodies a clip has at most; those of the first file, if not given.
        workers: processes that read files; as many as there are cores, if not given.
    """
    source = Path(source)
    found = find_files(source, SUFFIXES)
    listed = _list_of(source, found, labels)
    files = [file for file in found if not (listed and _is_same(file, listed))]
    if not files:
        raise InputError(f"{source}: expected {', '.join(SUFFIXES)} files there, found a list alone")
    joints = known_layout(layout).num_joints
    given = listed or labels
    counts = frame_counts(files, source, given)
    files = [Counted(f.path, f.member, counts[f]) if f in counts else f for f in files]
    parse = partial(parse_clip, joints=joints, columns=columns)
    first = _first(files, parse)
    planar = not counts and (columns in ("xy", "xyc") or (columns is None and not first[2].any()))
    num_frames = first.shape[1] if len(counts) == len(files) else None
    bodies = bodies or first.shape[3]
    parse = partial(parse, length=num_frames or NUM_FRAMES, bodies=bodies)
    own = Own(files, parse, MAX_BLOCK_BYTES, layout, bodies, num_frames, planar)
    return own.prepare(out, source, given, workers, {"from": "arrays", "columns": columns})


def _list_of(source, files, labels):
    """The list that is given, or the one that lies with the clips, in a folder or an archive."""
    if labels is not None:
        return None if is_pattern(labels) else SourceFile(labels)
    if source.is_dir():
        beside = SourceFile(source / LABELS)
        return beside if beside.path.is_file() else None
    lists = [file for file in files if file.member and file.name == LABELS]
    return min(lists, key=lambda file: file.member.count("/"), default=None)


def _is_same(file, other):
    if file.member or other.member:
        return file == other
    return other.path.exists() and file.path.samefile(other.path)


def _first(files, parse):
    """Coordinates of the first file that is a clip."""
    for file in files:
        try:
            clip = parse(file.read(MAX_BLOCK_BYTES))
        except ValueError as error:
            problem = problem_of(file, error)
            continue
        return clip.coordinates if isinstance(clip, Clip) else clip
    raise problem


def problem_of(file: SourceFile, error: Exception) -> InputError:
    """Name the file in what is wrong with it."""
    return InputError(f"{file}: {Skipped.of(error).reason}")


def write_arrays(dataset: Dataset, out: Path) -> list[Path]:
    """Write a dataset as a .npy (frames, joints, 3, bodies) a clip, with a list of what is known of them.

    Reading gives the same clips to the bit, with their names, labels, classes, subjects and frame counts.

    Returns the files.
    """
    written = []
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["name", "label", "subject", "split", "class", "frames"])
    for name, split in dataset.splits.items():
        subjects = [""] * len(split) if split.subjects is None else split.subjects.tolist()
        (out / name).mkdir(parents=True, exist_ok=True)
        for index, subject in enumerate(subjects):
            path = out / name / f"{_file_name(str(split.names[index]))}.npy"
            np.save(path, np.ascontiguousarray(split.clips[index].transpose(1, 2, 0, 3)), allow_pickle=False)
            label = int(split.labels[index])
            known = label, subject, name, dataset.classes[label], int(split.frames[index])
            rows.writerow([f"{name}/{path.name}", *known])
            written.append(path)
    write_text(out / LABELS, table.getvalue())
    return [*written, out / LABELS]


def _file_name(name):
    """A clip's name as that of a file."""
    return "".join("_" if c in '/\\:*?"<>|' else c for c in name)


def _detect(path: Path) -> str:
    try:
        files = find_files(path, SUFFIXES)
    except InputError:
        return ""
    arrays = [file for file in files if file.name.lower().endswith(".npy")]
    try:
        is_clip = bool(arrays) and len(NpyFile(arrays[0]).shape) in (2, 3, 4)
    except InputError:
        is_clip = False
    texts = [file for file in files if file.name.lower().endswith((".csv", ".txt")) and _is_table(file)]
    shown = [*texts, *(arrays if is_clip else [])]
    return f"{len(shown)} files of numbers such as {shown[0].name}" if shown else ""


def _is_table(file):
    """Whether a text begins like one: its first line may be names, and the last that is read may be cut."""
    try:
        with file.open() as stream:
            begin = stream.read(_LOOKED_INTO)
        lines = begin.splitlines()[: -1 if len(begin) == _LOOKED_INTO else None]
        return as_rows(b"\n".join(lines[bool(lines) and not is_numbers(lines[0]) :])).size >= 4
    except (ValueError, *BROKEN):
        return False


def _read(path: Path, layout: Layout | None = None) -> Iterator[np.ndarray | Clip]:
    """The array of a file, as it is where it has joints of its own; a table needs a layout to be read by."""
    try:
        if layout is not None:
            yield parse_clip(_listed(Path(path)).read(MAX_BLOCK_BYTES), layout.num_joints)
            return
        points = _npy(SourceFile(Path(path)).read(MAX_BLOCK_BYTES))
        if points.ndim not in (3, 4) or points.shape[2] not in _BY_COUNT:
            raise ValueError(f"expected (frames, joints, 2 to 4[, bodies]), found shape {points.shape}")
    except (ValueError, EOFError) as error:
        raise problem_of(SourceFile(Path(path)), error) from None
    points = points[..., None] if points.ndim == 3 else points
    yield as_bodies(points, _BY_COUNT[points.shape[2]])


def _listed(path):
    """A file with the frame count that the list of `write_arrays` has of it, if there is one."""
    beside = os.path.dirname(os.path.abspath(path))  # of every file that is read: far faster than as a Path
    for folder in (beside, os.path.dirname(beside)):
        if os.path.isfile(os.path.join(folder, LABELS)):
            labels = Path(folder, LABELS)
            name = bare_name(path.absolute().relative_to(folder).as_posix())
            row = _rows(labels, labels.stat().st_mtime_ns).get(name)
            return Counted(path, None, row.frames) if row and row.frames else SourceFile(path)
    return SourceFile(path)


@lru_cache(maxsize=2)
def _rows(labels, changed):
    """What a list, as it is since it was `changed`, says of clips; nothing where it is none of clips."""
    try:
        return read_rows(SourceFile(labels))
    except InputError:
        return {}


ARRAYS = Format(
    name="arrays",
    summary="Prepare plain arrays of your own: .npy, .npz, .csv or .txt, a clip each.",
    example="ikem-fast prepare arrays --source clips --layout chair.yaml --labels list.csv --out data/own",
    prepare=prepare_arrays,
    detect=_detect,
    read=_read,
    needs_layout=True,
    write=write_arrays,
)
