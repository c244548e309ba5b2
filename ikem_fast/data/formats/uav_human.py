"""UAV-Human: one text a clip, `P000S00G10B10H10UC022000LC021000A000R0_08241716.txt`, COCO's 17 joints.

A text says how many frames there are; of each how many bodies; of each body a line about it, how many joints,
and a line a joint, of which the first three numbers are its coordinates. Li et al., "UAV-Human: A Large
Benchmark for Human Behavior Understanding with Unmanned Aerial Vehicles" (CVPR 2021).
"""

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.base import ClipFiles, Format
from ikem_fast.data.formats.bodies import by_frame, link_bodies, to_float32
from ikem_fast.data.formats.text import as_numbers, as_rows

MAX_FILE_BYTES = 1 << 25
MAX_FRAMES, MAX_BODIES = 100_000, 16
JOINTS, BODIES = 17, 2
NUM_ACTIONS, NUM_SUBJECTS = 155, 119

ProtocolName = Literal["v1", "v2"]
TRAIN_SUBJECTS: dict[str, frozenset[int]] = {
    "v1": frozenset((
        0, 2, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 25, 26, 27, 28, 29, 30,
        32, 33, 34, 35, 36, 37, 38, 39, 40, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 55, 56,
        57, 59, 61, 62, 63, 64, 65, 67, 68, 69, 70, 71, 73, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85,
        86, 87, 88, 89, 90, 98, 100, 102, 103, 105, 106, 110, 111, 112, 114, 115, 116, 117, 118,
    )),
    "v2": frozenset((
        0, 3, 4, 5, 6, 8, 10, 11, 12, 14, 16, 18, 19, 20, 21, 22, 24, 26, 29, 30, 31, 32, 35, 36,
        37, 38, 39, 40, 43, 44, 45, 46, 47, 49, 52, 54, 56, 57, 59, 60, 61, 62, 63, 64, 66, 67, 69,
        70, 71, 72, 73, 74, 75, 77, 78, 79, 80, 81, 83, 84, 86, 87, 88, 89, 91, 92, 93, 94, 95, 96,
        97, 99, 100, 101, 102, 103, 104, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 117, 118,
    )),
}  # fmt: skip


class ClipName(NamedTuple):
    """What a name says, each from 0."""

    subject: int
    label: int
    split: str


def parse_name(name: str, protocol: str = "v1") -> ClipName | None:
    """Parse a file's name without `.txt`; None if it is not one, or of an action that there is not."""
    match = re.fullmatch(r"P(\d{3})S\d\dG\d+B\d+H\d+UC\d+LC\d+A(\d{3})R\d+_\d+", name, re.ASCII)
    if not match:
        return None
    subject, action = map(int, match.groups())
    if action >= NUM_ACTIONS or subject >= NUM_SUBJECTS:
        return None
    return ClipName(subject, action, "train" if subject in TRAIN_SUBJECTS[protocol] else "test")


def parse_clip(content: bytes) -> np.ndarray:
    """Parse a file's bytes into a raw clip (3, F, 17, 2) float32. Raises ValueError if it is not one."""
    lines = iter(content.removeprefix(b"\xef\xbb\xbf").splitlines())
    frames: list[list[int]] = []
    joints: list[bytes] = []
    for _ in range(_count(lines, "frames", MAX_FRAMES)):
        people = range(_count(lines, "bodies", MAX_BODIES))
        for _ in people:
            _line(lines, "a body")
            if (count := _count(lines, "joints", 100)) != JOINTS:
                raise ValueError(f"expected {JOINTS} joints, found {count}")
            joints += (_line(lines, "a joint") for _ in range(JOINTS))
        frames.append(list(people))
    if any(line.strip() for line in lines):
        raise ValueError(f"expected the end of the file behind {len(frames)} frames, found more")
    poses = to_float32(_coordinates(joints)).reshape(-1, JOINTS, 3)
    return link_bodies(by_frame(poses, frames), BODIES)


def _coordinates(lines):
    """The first three numbers of each line: of all lines at once, where all have as many."""
    with contextlib.suppress(ValueError):
        rows = as_rows(b"\n".join(lines))
        if len(rows) == len(lines) and rows.shape[1] >= 3:
            return rows[:, :3]
    rows = [as_numbers(line)[:3] for line in lines]
    if any(len(row) != 3 for row in rows):
        raise ValueError("expected at least three numbers a joint, found fewer")
    return rows


def _line(lines: Iterator[bytes], what: str) -> bytes:
    line = next(lines, None)
    if line is None:
        raise ValueError(f"expected a line of {what}, found the end of the file")
    return line


def _count(lines, what, most):
    line = _line(lines, f"the number of {what}").strip()
    numbers = [int(line)] if line.isdigit() and len(line) < 9 else as_numbers(line)
    if len(numbers) != 1 or not 0 <= numbers[0] <= most or numbers[0] != int(numbers[0]):
        raise ValueError(f"expected the number of {what}, 0 … {most}, found something else")
    return int(numbers[0])


FILES = ClipFiles(
    suffix=".txt",
    layout="coco",
    expected=f"P000S00G10B10H10UC022000LC021000A000R0_08241716.txt, of actions 0 … {NUM_ACTIONS - 1}",
    parse_name=parse_name,
    parse_clip=parse_clip,
    limit=MAX_FILE_BYTES,
    bodies=BODIES,
)


def prepare_uav_human(
    out: Path,
    source: Path,
    protocol: ProtocolName = "v1",
    workers: int | None = None,
) -> Dataset:
    """Prepare the skeletons of UAV-Human, cross-subject.

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: folder with the files or with a .zip of them (searched to its depths), or the .zip.
        protocol: which of the two lists of training subjects.
        workers: processes that read files; as many as there are cores, if not given.
    """
    files = FILES._replace(parse_name=partial(parse_name, protocol=protocol))
    classes = tuple(f"A{action:03d}" for action in range(NUM_ACTIONS))
    return files.prepare(out, source, workers, name=f"uav-human-{protocol}", classes=classes)


UAV_HUMAN = Format(
    name="uav-human",
    summary="Prepare the skeletons of UAV-Human from its .txt files.",
    example="ikem-fast prepare uav-human --source Skeleton.zip --protocol v2 --out data/uav",
    prepare=prepare_uav_human,
    detect=FILES.detect,
    read=FILES.read,
    layout=FILES.layout,
)
