"""The arrays of AGCN and its relatives (ISC, CMD, HiCo, UmURL, USDRL): padded clips with labels beside them.

    train_data_joint.npy   (N, 3, 300, 25, 2), also called train_data.npy or train_joint.npy
    train_num_frame.npy    (N,) frames of each clip; not everywhere
    train_label.pkl        (names, labels)
    val_…                  likewise

Behind its last frame a clip is zero, or, as AGCN itself has it, begins anew until the array is full.
Shi et al., "Two-Stream Adaptive Graph Convolutional Networks" (CVPR 2019).
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.base import Format
from ikem_fast.data.formats.npy import NpyFile
from ikem_fast.data.formats.parts import Part, arrays_at, find_parts, parts_at, seen_in, stream_of
from ikem_fast.data.formats.stream import ClipStream, as_raw, known_layout, last_frame, layout_of_size
from ikem_fast.data.preprocess import Skipped
from ikem_fast.data.sources import SourceFile
from ikem_fast.errors import InputError
from ikem_fast.skeleton import Layout

ARRAYS = ("data_joint.npy", "data.npy", "joint.npy")
COUNTS = "num_frame.npy"


def find_clips(parts: Sequence[Part], layout: str | Layout = "ntu-rgb+d") -> ClipStream:
    """Find the clips of arrays. Raises InputError."""
    skeleton = known_layout(layout, parts[0].array.shape[3], parts[0].array.file)
    counts = {part.split: _read_counts(part) for part in parts}

    def read(part: Part, first: int, rows: np.ndarray) -> Iterator[np.ndarray | Skipped]:
        known = counts[part.split]
        for index, row in enumerate(rows, first):
            count = count_frames(row) if known is None else known[index]
            if count < 1 and known is not None:
                yield Skipped(f"expected at least one frame in {COUNTS}, found {count}")
            else:
                yield as_raw(row[:, :count])

    notes = []
    for part in parts:
        known, frames = counts[part.split], part.array.shape[2]
        if known is None:
            notes.append(f"{part.array.file}: no {COUNTS} beside it; frames are counted up to the padding")
        elif (too_many := int((known > frames).sum())) > 0:
            notes.append(
                f"{part.beside[COUNTS]}: {too_many} of {len(known)} clips are said to have more than the "
                f"{frames} frames of the array; they are taken to have {frames}"
            )
    return stream_of(parts, skeleton, read, notes=tuple(notes))


def _read_counts(part):
    if COUNTS not in part.beside:
        return None
    counts = NpyFile(part.beside[COUNTS]).load()
    if counts.shape != part.array.shape[:1] or counts.dtype.kind not in "iuf":
        raise InputError(
            f"{part.beside[COUNTS]}: expected a number for each of {part.array.shape[0]} clips, found "
            f"{counts.dtype} of shape {counts.shape}"
        )
    if not np.isfinite(counts).all():
        raise InputError(f"{part.beside[COUNTS]}: expected numbers of frames, found NaN or infinity")
    return counts.astype(np.int64)


def count_frames(raw: np.ndarray) -> int:
    """Count the frames of a padded clip (3, T, V, M): up to the zeros, or to where body 0 begins anew.

    Example:
        count_frames(np.resize(np.random.rand(40, 3, 25, 1), (300, 3, 25, 1)).swapaxes(0, 1))  # 40
    """
    frames = last_frame(raw)
    if frames < raw.shape[1]:
        return frames
    body = raw[..., 0].transpose(1, 0, 2).reshape(frames, -1)
    again = 1 + np.flatnonzero((body[1:] == body[0]).all(1))
    return next((int(n) for n in again if np.array_equal(body[n:], body[:-n])), frames)


def prepare_agcn(out: Path, source: Path, layout: str = "ntu-rgb+d") -> Dataset:
    """Prepare the arrays of AGCN and its relatives (train_data_joint.npy, train_label.pkl, val_…).

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: folder with the arrays, or one above it.
        layout: the joint layout of the arrays: a name, or a YAML file.
    """
    return find_clips(find_parts(source, ARRAYS, [COUNTS]), layout).prepare(
        out, Path(source).stem, {"from": "agcn"}
    )


def _detect(path: Path) -> str:
    return seen_in(path, ARRAYS)


def _read(path: Path | SourceFile, layout: Layout | None = None) -> Iterator[np.ndarray]:
    """The clips of an array, or of all in a folder."""
    parts = parts_at(path, ARRAYS, [COUNTS])
    yield from find_clips(parts, layout or layout_of_size(parts[0].array.shape[3], path)).raws()


AGCN = Format(
    name="agcn",
    summary="Prepare arrays of AGCN, ISC, CMD and their relatives.",
    example="ikem-fast prepare agcn --source ntu/xsub --out data/ntu60",
    prepare=prepare_agcn,
    detect=_detect,
    read=_read,
    needs_layout=True,
    find=partial(arrays_at, arrays=ARRAYS, beside=[COUNTS]),
)
