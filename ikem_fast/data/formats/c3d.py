"""Markers in C3D files, a file a clip; `markers` reads them.

A layout says which markers are its joints: they have their labels as names, with or without the prefix that
says whose they are (Anna:LSHO), where there are markers of one person. Markers that the cameras lost are
NaN, and clips with such are left out, or interpolated where that is said.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.arrays import problem_of
from ikem_fast.data.formats.base import Format
from ikem_fast.data.formats.markers import read_points
from ikem_fast.data.formats.own import Own
from ikem_fast.data.formats.stream import known_layout
from ikem_fast.data.formats.text import in_order, places_of
from ikem_fast.data.preprocess import RawClip
from ikem_fast.data.sources import SourceFile, find_files
from ikem_fast.errors import InputError, printable

SUFFIX = ".c3d"
MAX_FILE_BYTES = 1 << 28


def parse_clip(content: bytes, names: tuple[str, ...]) -> RawClip:
    """Parse a file's bytes into a raw clip (3, F, V, 1) of the markers of these names. Raises ValueError."""
    points, labels, rate = read_points(content)
    bare = [label.rpartition(":")[2] for label in labels]
    if len(set(bare)) == len(bare) and not set(names) <= set(labels):
        labels = bare
    return RawClip(in_order(points[:, places_of(names, labels, "markers")]), rate)


def prepare_c3d(
    out: Path,
    source: Path,
    layout: str,
    labels: Path | None = None,
    workers: int | None = None,
) -> Dataset:
    """Prepare markers of motion capture from .c3d files.

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: folder (searched to its depths) or .zip with the files.
        layout: a joint layout, as a rule a YAML file, whose joints are called as the markers.
        labels: list with a line a clip: its file's name, its label, who was recorded; or what names are
            made of, such as {label}_{subject}_*; if not given, the folders that clips are in.
        workers: processes that read files; as many as there are cores, if not given.
    """
    skeleton = known_layout(layout)
    parse = partial(parse_clip, names=skeleton.joints)
    own = Own(find_files(source, SUFFIX), parse, MAX_FILE_BYTES, skeleton, 1)
    return own.prepare(out, source, labels, workers, {"from": "c3d"})


def _detect(path: Path) -> str:
    try:
        files = find_files(path, SUFFIX)
    except InputError:
        return ""
    return f"{len(files)} {SUFFIX} files such as {printable(files[0].name)}"


def _read(path: Path) -> Iterator[np.ndarray]:
    file = SourceFile(Path(path))
    try:
        yield in_order(read_points(file.read(MAX_FILE_BYTES)).positions)
    except ValueError as error:
        raise problem_of(file, error) from None


C3D = Format(
    name="c3d",
    summary="Prepare markers of motion capture from .c3d files.",
    example="ikem-fast prepare c3d --source mocap --layout markers.yaml --labels list.csv --out data/mocap",
    prepare=prepare_c3d,
    detect=_detect,
    read=_read,
)
