r"""SBU Kinect Interaction: `s01s02/03/001/skeleton_pos.txt`, a line a frame: its number, two bodies.

Folders are the pair of people, the action, the recording. Coordinates are as the files have them, normalized
to the picture and the depth; y points down, which `--up y-down` says. What two people do to each other is in
where they stand: `--center pair --align pair` keeps that and sees them from between the two. Yun et al.,
"Two-person Interaction Detection Using Body-Pose Features and Multiple Instance Learning" (CVPR Workshops
2012).

Packed into one `.npz`, as `prepare npz` reads it, with pairs such as s01s02 as `subject` and actions counted
from 0, it is taken too.

The protocol is five folds by pairs of people; the figure to report is their mean:

    for n in 1 2 3 4 5; do
        ikem-fast prepare sbu --source sbu.npz --fold $n --up y-down --center pair --align pair \
            --out data/sbu$n
        ikem-fast pretrain --data data/sbu$n --out runs/sbu$n
        ikem-fast evaluate linear --data data/sbu$n --checkpoint runs/sbu$n --out runs/sbu$n/linear
    done
    ikem-fast compare runs/sbu1 runs/sbu2 runs/sbu3 runs/sbu4 runs/sbu5 --folds
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.base import Format
from ikem_fast.data.formats.bodies import to_float32
from ikem_fast.data.formats.npz import PackedClips, prepare_packed, subjects_of
from ikem_fast.data.formats.text import as_rows
from ikem_fast.data.pipeline import PlannedClip, prepare_files
from ikem_fast.data.preprocess import Skipped
from ikem_fast.data.sources import SourceFile, find_files
from ikem_fast.errors import InputError, printable
from ikem_fast.settings import Allowed

MAX_FILE_BYTES = 1 << 20  # the largest of the dataset has 60 kB
SUFFIX = "skeleton_pos.txt"
JOINTS, BODIES = 15, 2
ACTIONS = ("approach", "depart", "kick", "push", "shake hands", "hug", "exchange object", "punch")
FOLDS = (  # of test pairs
    ("s01s02", "s03s04", "s05s02", "s06s04"),
    ("s02s03", "s02s07", "s03s05", "s05s03"),
    ("s01s03", "s01s07", "s07s01", "s07s03"),
    ("s02s01", "s02s06", "s03s02", "s03s06"),
    ("s04s02", "s04s03", "s04s06", "s06s02", "s06s03"),
)


class ClipName(NamedTuple):
    """What a file's folders say. action: from 1."""

    pair: str
    action: int
    recording: str


def parse_name(path: str) -> ClipName | None:
    """Parse the path of a file; None if its folders are none of the dataset's, or of another action."""
    match = re.search(r"(s\d\ds\d\d)[/\\](\d\d)[/\\](\d{3})[/\\](?i:skeleton_pos\.txt)$", path, re.ASCII)
    if not match or not 1 <= int(match[2]) <= len(ACTIONS):
        return None
    return ClipName(match[1], int(match[2]), match[3])


def parse_clip(content: bytes) -> np.ndarray:
    """Parse a file's bytes into a raw clip (3, F, 15, 2) float32. Raises ValueError if it is not one."""
    rows = as_rows(content, columns=1 + BODIES * JOINTS * 3)[:, 1:]
    clip = rows.reshape(-1, BODIES, JOINTS, 3).transpose(3, 0, 2, 1)
    return to_float32(clip)


def prepare_sbu(
    out: Path,
    source: Path,
    fold: Annotated[int, Allowed(least=1, most=len(FOLDS))] = 1,
    workers: int | None = None,
) -> Dataset:
    """Prepare SBU Kinect Interaction from its skeleton_pos.txt files, a folder for each of five folds.

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: folder with the folders of pairs (s01s02 …) or with .zip archives of them, or one .zip; or an
            .npz of all clips, with the pairs as `subject`.
        fold: which of the five folds of pairs is for the test.
        workers: processes that read files; as many as there are cores, if not given.
    """
    if _is_npz(source):
        packed = PackedClips(source)
        if problem := _unlike_sbu(packed):
            raise InputError(f"{source}: {problem}")
        splits = ["test" if pair in FOLDS[fold - 1] else "train" for pair in subjects_of(packed)]
        return prepare_packed(packed, splits, out, "sbu", "sbu", ACTIONS, {"from": "sbu"}, {"fold": fold})

    def plan(file: SourceFile) -> PlannedClip:
        clip = parse_name(str(file))
        if clip is None:
            expected = f"folders such as s01s02/01/001, of actions 1 … {len(ACTIONS)}"
            return PlannedClip(str(file), skip=Skipped(f"expected {expected}"))
        split = "test" if clip.pair in FOLDS[fold - 1] else "train"
        name = f"{clip.pair}_a{clip.action:02d}_e{clip.recording}"
        return PlannedClip(name, split, clip.action - 1, subject=clip.pair)

    return prepare_files(
        find_files(source, SUFFIX),
        plan,
        parse_clip,
        limit=MAX_FILE_BYTES,
        workers=workers,
        out=out,
        name="sbu",
        layout="sbu",
        classes=ACTIONS,
        num_bodies=BODIES,
        prepared={"from": "sbu", "fold": fold},
    )


def _is_npz(path):
    return Path(path).suffix.lower() == ".npz"


def _unlike_sbu(packed):
    """What of a packed file says that it is not SBU; "" where nothing does."""
    pairs = set(subjects_of(packed))
    known = {pair for fold in FOLDS for pair in fold}
    if not pairs <= known:
        shown = ", ".join(sorted(map(printable, pairs - known))[:3])
        return f"expected pairs such as s01s02 as 'subject' of each clip, found {shown}"
    if (packed.num_joints, packed.num_bodies) != (JOINTS, BODIES) or packed.labels.max() >= len(ACTIONS):
        found = f"{packed.num_joints} joints, {packed.num_bodies} bodies, actions up to {packed.labels.max()}"
        return f"expected {JOINTS} joints, {BODIES} bodies and actions 0 … {len(ACTIONS) - 1}, found {found}"
    return ""


def _detect(path: Path) -> str:
    if _is_npz(path):
        try:
            packed = PackedClips(path)
            return "" if _unlike_sbu(packed) else f"{len(packed.labels)} packed clips of its pairs of people"
        except InputError:
            return ""
    try:
        files = [file for file in find_files(path, SUFFIX) if parse_name(str(file))]
    except InputError:
        return ""
    return f"{len(files)} files such as {files[0]}" if files else ""


def _read(path: Path) -> Iterator[np.ndarray]:
    if _is_npz(path):
        yield from PackedClips(path).clips()
        return
    try:
        yield parse_clip(SourceFile(Path(path)).read(MAX_FILE_BYTES))
    except ValueError as error:
        raise InputError(f"{path}: {Skipped.of(error).reason}") from None


SBU = Format(
    name="sbu",
    summary="Prepare SBU Kinect Interaction from its skeleton_pos.txt files.",
    example="ikem-fast prepare sbu --source SBU --fold 1 --up y-down --center pair --align pair "
    "--out data/sbu1",
    prepare=prepare_sbu,
    detect=_detect,
    read=_read,
    layout="sbu",
)
