"""Markers in C3D files, a file a clip, read by ezc3d (the extra `c3d`).

A layout says which markers are its joints: they have their labels as names. Markers that the cameras lost are
NaN, and clips with such are left out, or interpolated where that is said.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.arrays import problem_of
from ikem_fast.data.formats.base import Damaged, Format
from ikem_fast.data.formats.own import Own
from ikem_fast.data.formats.stream import known_layout
from ikem_fast.data.formats.text import in_order
from ikem_fast.data.preprocess import RawClip
from ikem_fast.data.sources import SourceFile, find_files
from ikem_fast.errors import InputError

SUFFIX = ".c3d"
MAX_FILE_BYTES = 1 << 28


def _library():
    try:
        import ezc3d
    except ImportError:
        raise InputError("C3D files: expected ezc3d, found none; pip install 'ikem-fast[c3d]'") from None
    return ezc3d


def parse_markers(content: bytes) -> tuple[np.ndarray, list[str], float]:
    """Parse a file's bytes into (F, V, 3) float64 the markers' labels, frames a second. Raises ValueError."""
    ezc3d = _library()
    if len(content) < 512 or content[1] != 0x50:
        raise ValueError("expected a C3D file, found something else")
    with tempfile.NamedTemporaryFile(suffix=SUFFIX) as file:
        file.write(content)
        file.flush()
        try:
            parsed = ezc3d.c3d(file.name)
            points = np.asarray(parsed["data"]["points"])[:3].transpose(2, 1, 0)
            rate = float(parsed["parameters"]["POINT"]["RATE"]["value"][0])
            labels = [label.strip() for label in parsed["parameters"]["POINT"]["LABELS"]["value"]]
        except (ValueError, RuntimeError, OSError, KeyError, IndexError) as error:
            raise ValueError(f"expected a C3D file with points, found: {error}") from None
    return points, labels[: points.shape[1]], rate


def parse_clip(content: bytes, names: tuple[str, ...]) -> RawClip:
    """Parse a file's bytes into a raw clip (3, F, V, 1) of the markers of these names. Raises ValueError."""
    points, labels, rate = parse_markers(content)
    missing = [name for name in names if name not in labels]
    if missing:
        raise ValueError(f"expected markers {', '.join(missing[:5])}, found {', '.join(labels[:50])}")
    return RawClip(in_order(points[:, [labels.index(name) for name in names]]), rate)


def prepare_c3d(
    out: Path,
    source: Path,
    layout: str,
    labels: Path | None = None,
    workers: int | None = None,
    damaged: Damaged = "leave-out",
) -> Dataset:
    """Prepare markers of motion capture from .c3d files.

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: folder (searched to its depths) or .zip with the files.
        layout: a joint layout, as a rule a YAML file, whose joints are called as the markers.
        labels: list with a line a clip: its file's name, its label, who was recorded; or what names are
            made of, such as {label}_{subject}_*; if not given, the folders that clips are in.
        workers: processes that read files; as many as there are cores, if not given.
        damaged: what becomes of a clip with coordinates such as NaN: left out, or interpolated over time.
    """
    _library()
    skeleton = known_layout(layout)
    parse = partial(parse_clip, names=skeleton.joints)
    own = Own(find_files(source, SUFFIX), parse, MAX_FILE_BYTES, skeleton, 1)
    return own.prepare(out, source, labels, workers, damaged, {"from": "c3d"})


def _detect(path: Path) -> str:
    try:
        files = find_files(path, SUFFIX)
    except InputError:
        return ""
    return f"{len(files)} {SUFFIX} files such as {files[0].name}"


def _read(path: Path) -> Iterator[np.ndarray]:
    file = SourceFile(Path(path))
    try:
        yield in_order(parse_markers(file.read(MAX_FILE_BYTES))[0])
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
