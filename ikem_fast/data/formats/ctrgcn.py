"""The archives of CTR-GCN and its relatives (MAMP, MacDiff): NTU60_CS.npz, NTU120_CSet.npz and their like.

    x_train, x_test   (N, 300, 150) float32: a row a frame, of it M bodies with V joints of x, y, z; zero
                      behind the last frame, and where there is one body only
    y_train, y_test   (N, K) one-hot, or (N,) labels

Rows are read out of the archive one at a time. Chen et al., "Channel-wise Topology Refinement Graph
Convolution for Skeleton-Based Action Recognition" (ICCV 2021).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.base import Format
from ikem_fast.data.formats.npy import BROKEN, NpyFile, entries_of
from ikem_fast.data.formats.stream import (
    ClipStream,
    as_raw,
    known_layout,
    number_classes,
    one_hot,
)
from ikem_fast.data.pipeline import PlannedClip
from ikem_fast.data.preprocess import Skipped
from ikem_fast.data.sources import SourceFile
from ikem_fast.errors import InputError, printable

SPLITS = ("train", "test")
ENTRIES = ("x_train", "y_train", "x_test", "y_test")


def find_clips(source: Path, layout: str = "ntu-rgb+d") -> ClipStream:
    """Find the clips of an archive. Raises InputError."""
    source, skeleton = Path(source), known_layout(layout)
    if source.is_dir():
        raise InputError(f"{source}: expected an .npz such as NTU60_CS.npz, found a folder; name the file")
    joints = skeleton.num_joints
    arrays = {split: _array(source, f"x_{split}") for split in SPLITS}
    columns = {array.shape[-1] for array in arrays.values()}
    bodies, rest = divmod(columns.pop(), 3 * joints)
    if columns or rest or not bodies:
        count, odd = divmod(arrays["train"].shape[-1], 3)
        if not odd:
            counts = f"{source}: two bodies a row" if count % 2 == 0 else f"{source}: one body a row"
            known_layout(layout, count // 2 if count % 2 == 0 else count, counts)
        raise InputError(
            f"{source}: expected rows of bodies with {joints} joints of x, y, z (layout {layout}), found "
            f"{' and '.join(str(array.shape[-1]) for array in arrays.values())} numbers a row"
        )
    given: list[object] = []
    for split, array in arrays.items():
        labels = _array(source, f"y_{split}", 1, 2)
        if labels.shape[0] != array.shape[0]:
            raise InputError(
                f"{labels.file}: expected labels of {array.shape[0]} clips, found {labels.shape[0]}"
            )
        given += one_hot(labels.load(), labels.file)
    labels, classes = number_classes(given, source)
    digits = len(str(max(array.shape[0] for array in arrays.values())))
    places = [(split, index) for split in SPLITS for index in range(arrays[split].shape[0])]
    plan = [
        PlannedClip(f"{split}-{index:0{digits}d}", split, label)
        for (split, index), label in zip(places, labels, strict=True)
    ]

    def read(start: int) -> Iterator[np.ndarray | Skipped]:
        for array in arrays.values():
            first, start = min(start, array.shape[0]), max(start - array.shape[0], 0)
            for row in array.rows(first):
                there = row.any(1).nonzero()[0]
                if len(there):
                    frames = row[: there[-1] + 1].reshape(-1, bodies, joints, 3)
                    yield as_raw(frames.transpose(3, 0, 2, 1))
                else:
                    yield Skipped("expected a body, found none in any frame")

    return ClipStream(lambda: (plan, classes), read, [SourceFile(source)], skeleton, bodies)


def _array(source, entry, *dimensions):
    try:
        array = NpyFile(SourceFile(source, f"{entry}.npy"))
    except BROKEN as error:
        raise InputError(
            f"{source}: expected an .npz with x_train, y_train, x_test and y_test, found: {printable(error)}"
        ) from None
    kinds = "fiubUS" if len(array.shape) == 1 else "fiub"  # a label may be a name
    if len(array.shape) not in (dimensions or (3,)) or array.dtype.kind not in kinds:
        expected = "(clips, classes) or (clips,)" if dimensions else "(clips, frames, columns)"
        raise InputError(
            f"{array.file}: expected numbers of shape {expected}, found {array.dtype} of shape {array.shape}"
        )
    return array


def prepare_ctrgcn(out: Path, source: Path, layout: str = "ntu-rgb+d") -> Dataset:
    """Prepare an archive of CTR-GCN and its relatives (NTU60_CS.npz: x_train, y_train, x_test, y_test).

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: the .npz.
        layout: the joint layout of its rows: a name, or a YAML file.
    """
    return find_clips(source, layout).prepare(out, Path(source).stem, {"from": "ctrgcn"})


def _detect(path: Path) -> str:
    there = [entry for entry in ENTRIES if entry in entries_of(path)]
    return f"{', '.join(there)} in it" if "x_train" in there else ""


def _read(path: Path) -> Iterator[np.ndarray]:
    yield from find_clips(path).raws()


CTRGCN = Format(
    name="ctrgcn",
    summary="Prepare an .npz of CTR-GCN, MAMP and their relatives.",
    example="ikem-fast prepare ctrgcn --source NTU60_CS.npz --out data/ntu60",
    prepare=prepare_ctrgcn,
    detect=_detect,
    read=_read,
)
