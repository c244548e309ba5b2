"""The arrays of CrosSCLR, IKEM and their relatives (AimCLR, HiCLR, PSTL, ActCLR): clips preprocessed already.

    train_position.npy   (N, 3, 50, 25, 2) float32
    train_label.pkl      (names, labels), and frame counts behind them where it is IKEM's
    val_…                likewise

Clips with a frame count beside them, or with the root joint at zero, have been centered and resampled: they
are kept as they are, bit for bit. True frame counts, by which derivatives over time are scaled, are those of
IKEM's label files, or have to be given.
Li et al., "3D Human Action Representation Learning via Cross-View Consistency Pursuit" (CVPR 2021).
"""

import pickle
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.base import Format
from ikem_fast.data.formats.bodies import to_float32
from ikem_fast.data.formats.parts import Part, arrays_at, find_parts, parts_at, seen_in, stream_of
from ikem_fast.data.formats.stream import ClipStream, as_raw, examples, known_layout, layout_of_size
from ikem_fast.data.preprocess import MAX_COORDINATE, Clip, Skipped, is_bounded
from ikem_fast.data.skeletons import MAX_FILE_BYTES, parse_skeleton
from ikem_fast.data.sources import SourceFile, find_files
from ikem_fast.errors import InputError, printable
from ikem_fast.files import replacing
from ikem_fast.skeleton import Layout

ARRAYS = ("position.npy",)
LOOKED_AT = 16  # clips by which it is told whether they are preprocessed


def find_clips(
    parts: Sequence[Part], layout: str | Layout = "ntu-rgb+d", lengths: str | None = None
) -> ClipStream:
    """Find the clips of arrays. Raises InputError."""
    skeleton = known_layout(layout, parts[0].array.shape[3], parts[0].array.file)
    if not all(part.labels.frames or _is_centered(part, skeleton.root) for part in parts):
        note = f"{parts[0].array.file}: the root joint is not at zero, so clips are preprocessed anew"
        return stream_of(parts, skeleton, lambda part, first, rows: map(as_raw, rows), notes=(note,))
    frames = {part.split: _frame_counts(part, lengths) for part in parts}
    num_frames = parts[0].array.shape[2]

    def read(part: Part, first: int, rows: np.ndarray) -> Iterable[Clip | Skipped]:
        if part.array.shape[1:3] != (3, num_frames):
            expected = f"expected (3, {num_frames}, …), as in the other array"
            return repeat(Skipped(f"{expected}, found {rows.shape[1:]}"), len(rows))
        return _whole_clips(rows, frames[part.split][first : first + len(rows)])

    return stream_of(parts, skeleton, read, num_frames)


_CLIP_OF = partial(tuple.__new__, Clip)  # of a pair: `Clip._make` without looking once more whether it is one


def _whole_clips(rows: np.ndarray, frames: Sequence[int]) -> Iterable[Clip | Skipped]:
    """Clips as they are, but for those that are none; looked at together, which costs a fraction."""
    clips = rows if rows.dtype == np.float32 and rows.flags.c_contiguous else to_float32(rows)
    # Where the last joint of body 0 is at x ≠ 0 in the first frame there is a body; others are looked into.
    begun = 0 not in clips[:, 0, 0, -1, 0].tolist()
    if begun and is_bounded(clips) and all(frames):
        return map(_CLIP_OF, zip(clips, frames, strict=True))
    return map(_clip_or_why_not, clips, frames)


def _clip_or_why_not(clip, count):
    if not clip[..., 0].any():
        return Skipped("expected a body, found none in any frame")
    if not is_bounded(clip):
        return Skipped(f"expected coordinates below {MAX_COORDINATE:g}, found NaN, infinity or more")
    return Clip(clip, count) if count else Skipped("expected its frame count in the lengths, found none")


def _is_centered(part, root):
    rows = (row for _, row in zip(range(LOOKED_AT), part.array.rows(), strict=False))
    return part.array.shape[1] == 3 and all(np.abs(row[:, :, root]).max(initial=0) < 1e-5 for row in rows)


def _frame_counts(part, lengths):
    """The true frame count of each clip, 0 where it is not known."""
    if lengths is None and part.labels.frames is not None:
        return part.labels.frames
    if lengths is None:
        raise InputError(
            f"{part.files[1]}: expected (names, labels, frame counts), found no frame counts, and clips of "
            f"{part.array.shape[2]} frames do not tell how many they were made of; say --lengths FOLDER with "
            "the .skeleton files, --lengths FILE with a name and a count a line, or --lengths 90 for all"
        )
    if lengths.isdecimal() and int(lengths) > 0:
        return [int(lengths)] * part.array.shape[0]
    path = Path(lengths).expanduser()
    names = part.labels.names or []
    known = (
        _counts_of_skeletons(path, set(names)) if path.is_dir() or path.suffix == ".zip" else _listed(path)
    )
    missing = [name for name in names if name not in known]
    if not names or len(missing) == len(names):
        raise InputError(
            f"{lengths}: expected counts for clips such as {examples(names)}, found none of them"
        )
    return [known.get(name, 0) for name in names]


def _counts_of_skeletons(folder, wanted):
    """name → frames that hold body 0, of the .skeleton files of those clips that can be read."""
    counts = {}
    for file in find_files(folder, ".skeleton"):
        if file.stem in wanted:
            try:
                raw = parse_skeleton(file.read(MAX_FILE_BYTES)).clip()
                counts[file.stem] = count_bodies(raw)
            except ValueError:
                continue  # a clip of no known length is left out, by name
    return counts


def count_bodies(raw: np.ndarray) -> int:
    """Count the frames of a raw clip (3, F, V, M) that hold body 0, as `preprocess` does."""
    by_first = int((raw[:, :, 0, 0] != 0).any(0).sum())
    return by_first or int((raw[..., 0] != 0).any((0, 2)).sum())


def _listed(path):
    """name → count of a text with both a line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        pairs = [line.replace(",", " ").split() for line in lines if line.strip()]
        counts = {name.removesuffix(".skeleton"): int(count) for name, count in pairs}
        if least := [name for name, count in counts.items() if count < 1]:
            raise ValueError(f"counts below 1, of {examples(least)}")
        return counts
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a name and a count a line, found: {printable(error)}") from None


def prepare_crossclr(
    out: Path,
    source: Path,
    layout: str = "ntu-rgb+d",
    lengths: str | None = None,
) -> Dataset:
    """Prepare the arrays of CrosSCLR, IKEM and their relatives (train_position.npy, train_label.pkl, val_…).

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: folder with the arrays, or one above it.
        layout: the joint layout of the arrays: a name, or a YAML file.
        lengths: where the label files have no frame counts: a folder or .zip of the .skeleton files, a text
            with a name and a count a line, or one count for all clips.
    """
    prepared = {"from": "crossclr", **({} if lengths is None else {"lengths": str(lengths)})}
    return find_clips(find_parts(source, ARRAYS), layout, lengths).prepare(out, Path(source).stem, prepared)


def write_crossclr(dataset: Dataset, out: Path) -> list[Path]:
    """Write a dataset as IKEM reads it: (names, labels, frame counts) beside each array.

    Class names and subjects are not part of the form, nor is the name of the joint layout.

    Returns the files.
    """
    written = []
    for name, split in dataset.splits.items():
        part = "val" if name == "test" else name
        array, label = out / f"{part}_position.npy", out / f"{part}_label.pkl"
        with replacing(array) as beside, beside.open("wb") as file:
            np.lib.format.write_array(file, np.asarray(split.clips), allow_pickle=False)
        columns = (split.names.tolist(), split.labels.tolist(), split.frames.tolist())
        with replacing(label) as beside:
            beside.write_bytes(pickle.dumps(columns, protocol=4))
        written += [array, label]
    return written


def _detect(path: Path) -> str:
    return seen_in(path, ARRAYS)


def _read(path: Path | SourceFile, layout: Layout | None = None) -> Iterator[np.ndarray | Clip]:
    """The clips of an array, or of all in a folder; as raw ones where their frame counts are not known."""
    parts = parts_at(path, ARRAYS)
    skeleton = layout or layout_of_size(parts[0].array.shape[3], path)
    counted = all(part.labels.frames for part in parts)
    stream = find_clips(parts, skeleton, None if counted else "1")
    if not counted and not stream.notes:
        print(
            f"note: {parts[0].array.file}: clips were prepared already, of how many frames is not said, so "
            "they are taken as raw ones; prepare crossclr --lengths makes them what they were",
            file=sys.stderr,
        )
    return stream.clips() if counted else stream.raws()


CROSSCLR = Format(
    name="crossclr",
    summary="Prepare arrays of CrosSCLR, AimCLR, IKEM and their relatives.",
    example="ikem-fast prepare crossclr --source NTU60/xsub --lengths nturgbd_skeletons.zip --out data/ntu60",
    prepare=prepare_crossclr,
    detect=_detect,
    read=_read,
    needs_layout=True,
    find=partial(arrays_at, arrays=ARRAYS),
    write=write_crossclr,
)
