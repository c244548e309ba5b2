"""The packed form: one .npz with all clips' frames one after another.

    x          (sum of frames, V, 3) or (sum of frames, V, 3, M), numbers; 2 instead of 3 for flat poses
    len        (N,) frames of each clip
    y          (N,) class of each clip: a number, kept as it is and counted from 0, or a name; (N, K) one-hot
    any other  (N,) an attribute of each clip to split by, such as view; `subject` is kept with the clips

Read as a stream, a clip at a time: memory does not grow with the file, and what its header declares is not
believed before it has been read.
"""

import io
import math
import shlex
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ikem_fast.data.dataset import MAX_CLASSES, Dataset
from ikem_fast.data.formats.base import Format, in_plane
from ikem_fast.data.formats.bodies import to_float32
from ikem_fast.data.formats.npy import BROKEN, entries_of
from ikem_fast.data.formats.stream import as_raw, known_layout, layouts_of_size, number_classes, one_hot
from ikem_fast.data.headers import read_exactly, read_header
from ikem_fast.data.pipeline import PlannedClip, prepare_clips, to_clips
from ikem_fast.data.splits import Choosable, in_order
from ikem_fast.errors import InputError, printable

MAX_CLIP_BYTES = 1 << 26
BLOCK_BYTES = 1 << 18  # of clips that are read at once
MAX_WHOLE = 1 << 53
MAX_COLUMN_BYTES = 1 << 28  # of all columns together
SHOWN, MOST_VALUES = 8, 64  # values of an attribute that are shown, and that clips are usually split by


class PackedClips:
    """Read the description of a packed file; `clips` reads its coordinates.

    lengths, labels: (N,) int64.
    classes: names of the classes.
    planar: whether there are two coordinates.
    attributes: name → (N,) array, for every other entry that is one value a clip.
    num_joints, num_bodies: V and M.

    Raises InputError if the file cannot be read or its entries disagree.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{self.path}: expected an .npz file, found no such file")
        try:
            with zipfile.ZipFile(self.path) as archive:
                self._read_description(archive)
        except InputError:
            raise
        except BROKEN as error:
            raise InputError(
                f"{self.path}: expected an .npz with x, len and y, found: {printable(error)}"
            ) from None

    def _read_description(self, archive):
        entries = sorted(name.removesuffix(".npy") for name in archive.namelist())
        if not {"x", "len", "y"} <= set(entries):
            shown = ", ".join(map(printable, entries[:20]))
            raise InputError(f"{self.path}: expected entries x, len and y, found {shown}")
        self._left = MAX_COLUMN_BYTES
        self._found: dict[str, str] = {}
        columns = {entry: self._read_column(archive, entry) for entry in entries if entry != "x"}
        self.lengths = self._as_integers("len", columns.pop("len"), most=MAX_CLIP_BYTES)
        self.labels, self.classes = self._as_labels(columns.pop("y"))
        if self.labels.shape != self.lengths.shape:
            raise InputError(
                f"{self.path}: expected {len(self.lengths)} values in 'y', as in 'len', "
                f"found {len(self.labels)}"
            )
        self.attributes = {
            entry: column
            for entry, column in columns.items()
            if column is not None and column.shape == self.lengths.shape
        }
        with archive.open("x.npy") as stream:
            shape, fortran_order, dtype = read_header(stream, "x")
        fitting = len(shape) in (3, 4) and shape[2] in (2, 3) and min(shape[1:]) > 0
        if not fitting or dtype is None or dtype.kind not in "fiu":
            raise InputError(
                f"{self.path}: expected 'x' to be numbers of shape (frames, joints, 2 or 3) or "
                f"(frames, joints, 2 or 3, bodies), found {dtype or 'something else'} of shape {shape}"
            )
        if fortran_order and math.prod(shape) * dtype.itemsize > MAX_COLUMN_BYTES:
            raise InputError(
                f"{self.path}: expected 'x' in C order, or of at most {MAX_COLUMN_BYTES} bytes, found shape "
                f"{shape} in Fortran order"
            )
        self._shape, self._fortran_order, self.planar = shape, fortran_order, shape[2] == 2
        self._dtype = dtype
        if shape[0] != self.lengths.sum():
            raise InputError(
                f"{self.path}: expected 'x' to have {self.lengths.sum()} frames, the sum of 'len', "
                f"found {shape[0]}"
            )
        self.num_joints, self.num_bodies = shape[1], shape[3] if len(shape) == 4 else 1

    def _read_column(self, archive, entry):
        """The array of an entry with one number or string a clip; None if it is something else."""
        with archive.open(f"{entry}.npy") as stream:
            shape, fortran_order, dtype = read_header(stream, entry)
            self._found[entry] = f"{dtype or 'another type'} of shape {shape}"
            one_hot_rows = len(shape) == 2 and entry == "y"
            kinds = "iufb" if one_hot_rows else "iufUS"
            if not (len(shape) == 1 or one_hot_rows) or dtype is None or dtype.kind not in kinds:
                return None
            size = math.prod(shape) * dtype.itemsize
            self._left -= size
            if self._left < 0:
                raise InputError(
                    f"{self.path}: expected columns of at most {MAX_COLUMN_BYTES} bytes, found "
                    f"{printable(entry)!r} of {shape[0]} values in {size}"
                )
            column = np.frombuffer(read_exactly(stream, size), dtype)
        if one_hot_rows:
            table = column.reshape(shape, order="F" if fortran_order else "C")
            return np.array(one_hot(table, f"{self.path}, 'y'"), np.int64)
        if dtype.kind == "f":  # as MATLAB and tables have whole numbers
            whole = (np.abs(column) < MAX_WHOLE).all() and (column == np.round(column)).all()
            return column.astype(np.int64) if whole else None
        return column

    def _as_labels(self, column):
        if column is not None and column.dtype.kind in "US":
            labels, classes = number_classes(column.astype(str).tolist(), f"{self.path}, 'y'")
            return np.array(labels, np.int64), classes
        labels = self._as_integers("y", column, most=MAX_CLASSES - 1)
        return labels, [str(label) for label in range(int(labels.max(initial=0)) + 1)]

    def _as_integers(self, entry, column, most):
        if column is None or column.dtype.kind not in "iu":
            raise InputError(
                f"{self.path}: expected one whole number a clip in {entry!r}, found {self._found[entry]}"
            )
        if len(column) and not (column.min() >= 0 and column.max() <= most):
            raise InputError(
                f"{self.path}: expected {entry!r} from 0 to {most}, found {column.min()} … {column.max()}"
            )
        return column.astype(np.int64)

    def clips(self, start: int = 0) -> Iterator[np.ndarray]:
        """Yield the raw clips from `start` on, each (3, F, V, M) float32.

        Raises InputError where the file turns out to be cut short.
        """
        frame_shape = (self.num_joints, self._shape[2], self.num_bodies)
        frame_bytes = math.prod(frame_shape) * self._dtype.itemsize
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open("x.npy") as stream:
                read_header(stream, "x")
                if self._fortran_order:
                    stream = self._in_c_order(stream)
                for first, last, frames in self._blocks(frame_bytes):
                    content = stream.read(frames * frame_bytes)
                    there = len(content) // frame_bytes
                    block = np.frombuffer(content, self._dtype, there * math.prod(frame_shape))
                    block = block.reshape(there, *frame_shape).transpose(2, 0, 1, 3)
                    at = 0
                    for index in range(first, last):
                        end = at + int(self.lengths[index])
                        if end > there:
                            left = len(content) - at * frame_bytes
                            raise EOFError(f"{(end - at) * frame_bytes} bytes expected, {left} left")
                        if index >= start:
                            clip = to_float32(block[:, at:end])
                            yield as_raw(clip) if self.planar else clip
                        at = end
        except InputError:
            raise
        except BROKEN as error:
            raise InputError(f"{self.path}: expected a whole 'x', found: {printable(error)}") from None

    def _blocks(self, frame_bytes):
        """(first clip, the one behind the last, frames) of clips that are read at once: reads cost, too."""
        first = frames = 0
        for index, length in enumerate(self.lengths.tolist()):
            if length * frame_bytes > MAX_CLIP_BYTES:
                raise InputError(
                    f"{self.path}: expected clips of at most {MAX_CLIP_BYTES} bytes, "
                    f"found clip {index} of {length} frames"
                )
            if frames and (frames + length) * frame_bytes > BLOCK_BYTES:
                yield first, index, frames
                first, frames = index, 0
            frames += length
        yield first, len(self.lengths), frames

    def _in_c_order(self, stream):
        content = read_exactly(stream, math.prod(self._shape) * self._dtype.itemsize)
        array = np.frombuffer(content, self._dtype).reshape(self._shape, order="F")
        return io.BytesIO(np.ascontiguousarray(array).tobytes())


def prepare_npz(
    out: Path,
    source: Path,
    layout: str,
    train: str | None = None,
    name: str | None = None,
    test: str | None = None,
) -> Dataset:
    """Prepare clips packed into one .npz file.

    Args:
        out: folder to write.
        source: the .npz: x (frames, joints, 3[, bodies]), len and y, and attributes of clips to split by.
        layout: the joint layout: a name, such as utd-mhad, kinect-v1 or ntu-rgb+d, or a YAML file.
        train: which are training clips: an attribute and its values, such as subject=1,3,5,7, list=FILE,
            ratio=0.8 or fold=1/5; the rest are test clips, if `test` does not say which.
        test: the same for test clips, such as view=3; the rest are training clips, if `train` does not say
            which. With both, what is neither is left out.
        name: name of the dataset; the file's, if not given.
    """
    packed = PackedClips(source)
    name = printable(name or packed.path.stem)
    names = names_of(packed, name)
    splits = _choosable(packed, names, {"train": train, "test": test}).splits(train, test)
    rules = {"train": train, **({} if test is None else {"test": test})}
    return prepare_packed(packed, splits, out, name, layout, packed.classes, {"from": "npz"}, rules)


def names_of(packed: PackedClips, name: str) -> list[str]:
    """Name each clip by the dataset and its number."""
    digits = len(str(len(packed.labels)))
    return [f"{name}-{index:0{digits}d}" for index in range(len(packed.labels))]


def prepare_packed(
    packed: PackedClips,
    splits: Sequence[str],
    out: Path,
    name: str,
    layout: str,
    classes: Sequence[str],
    prepared: Mapping[str, Any],
    rules: Mapping[str, Any],
) -> Dataset:
    """Prepare packed clips of which it is known where each goes: "train", "test", or "" to be left out.

    prepared, rules: what says of the dataset where it is from, and how it was split.
    """
    skeleton = known_layout(layout, packed.num_joints, packed.path)
    names, subjects = names_of(packed, name), subjects_of(packed)
    kept = [index for index, split in enumerate(splits) if split]
    plan = [
        PlannedClip(names[index], splits[index], int(packed.labels[index]), subject=subjects[index])
        for index in kept
    ]

    def results(start):
        first = kept[start] if start < len(kept) else len(splits)
        raws = zip(packed.clips(first), splits[first:], strict=True)
        return to_clips((raw for raw, split in raws if split), skeleton)

    with in_plane(packed.planar):
        return prepare_clips(
            plan,
            results,
            out=out,
            name=name,
            layout=skeleton,
            classes=classes,
            num_bodies=packed.num_bodies,
            prepared={**prepared, "file": packed.path.name, "bytes": packed.path.stat().st_size, **rules},
        )


def subjects_of(packed: PackedClips) -> list[str] | list[None]:
    """Say who was recorded in each clip: texts, or None for each where that is not known."""
    column = packed.attributes.get("subject")
    try:
        return [None] * len(packed.labels) if column is None else column.astype(str).tolist()
    except ValueError:  # bytes that are no text
        return [None] * len(packed.labels)


def _choosable(packed, names, rules):
    """What the clips can be split by: attributes whose bytes are texts."""
    attributes = {}
    for name, column in packed.attributes.items():
        try:
            attributes[name] = column.astype(str)
        except ValueError as error:
            for option, rule in rules.items():
                if (rule or "").partition("=")[0] == name:
                    raise InputError(
                        f"{option}: expected text or numbers in {printable(name)!r} of {packed.path}, found: "
                        f"{printable(error)}"
                    ) from None
    return Choosable(names, packed.labels, attributes, str(packed.path))


def _detect(path: Path) -> str:
    try:
        packed = PackedClips(path)
    except InputError:
        return "x, len and y in it" if entries_of(path) >= {"x", "len", "y"} else ""
    fitting = ", ".join(layouts_of_size(packed.num_joints)) or "none that is known"
    bodies = f"{packed.num_bodies} bodies" if packed.num_bodies > 1 else "1 body"
    by = "".join(f"; {printable(name)} of each: {_values(packed, name)}" for name in packed.attributes)
    joints = f"{packed.num_joints} joints (layouts: {fitting}) of {bodies}"
    return f"x, len and y of {len(packed.labels)} clips in it; {joints}{by}"


def _values(packed, name):
    """The values of an attribute, for people."""
    values = in_order(packed.attributes[name].astype(str))
    shown = values if len(values) <= SHOWN else [*values[:2], "…", values[-1]]
    return " ".join(map(printable, shown))


def _usual(path: Path) -> str:
    """The layout, where one alone fits, and a split by an attribute that there is: by who was recorded."""
    packed = PackedClips(path)
    fitting = layouts_of_size(packed.num_joints)
    layout = fitting[0] if len(fitting) == 1 else "LAYOUT"
    names = sorted(packed.attributes, key=lambda name: (name != "subject", name))
    values = in_order(packed.attributes[names[0]].astype(str)) if names else []
    rule = f"{names[0]}={','.join(values[::2])}" if 1 < len(values) <= MOST_VALUES else "ratio=0.8"
    return shlex.join(["--layout", layout, "--train", rule])


def _read(path: Path) -> Iterator[np.ndarray]:
    yield from PackedClips(path).clips()


NPZ = Format(
    name="npz",
    summary="Prepare clips packed into one .npz file.",
    example="ikem-fast prepare npz --source utd.npz --layout utd-mhad --train subject=1,3,5,7 --out data/utd",
    prepare=prepare_npz,
    detect=_detect,
    read=_read,
    former={"file": "source"},
    usual=_usual,
)
