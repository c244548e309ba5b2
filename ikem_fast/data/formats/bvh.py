"""Motion capture in BVH files, a file a clip: where joints are, by forward kinematics.

The joints, their names and parents are those of the hierarchy, and so is the layout, unless one is given
whose joints have names of the hierarchy; ends without a name are left out. A joint is at its parent's place
and what its offset becomes when turned as all above it are; a root's channels of position add to its offset,
another joint's stand in for it. Units are the file's, centimeters as a rule. Meredith, Maddock, "Motion
Capture File Formats Explained" (2001).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.arrays import problem_of
from ikem_fast.data.formats.base import Format
from ikem_fast.data.formats.own import Own
from ikem_fast.data.formats.stream import known_layout
from ikem_fast.data.formats.text import as_numbers, in_order, places_of
from ikem_fast.data.preprocess import RawClip
from ikem_fast.data.sources import SourceFile, find_files
from ikem_fast.errors import InputError, printable
from ikem_fast.skeleton import Layout

SUFFIX = ".bvh"
MAX_FILE_BYTES = 1 << 28
MAX_JOINTS = 512
_CHANNEL = re.compile(r"([XYZ])(position|rotation)")


@dataclass
class Joint:
    """A joint of a hierarchy. parent: its place in it, −1 for a root. channels: (axis, is a rotation)."""

    name: str
    parent: int
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))
    channels: list[tuple[int, bool]] = field(default_factory=list)


@dataclass(frozen=True)
class Motion:
    """What a file holds: joints, the numbers of each frame (F, channels), frames a second."""

    joints: list[Joint]
    numbers: np.ndarray
    frame_rate: float

    def positions(self) -> np.ndarray:
        """Compute where every joint is: (F, V, 3) float64."""
        frames = len(self.numbers)
        places = np.zeros((frames, len(self.joints), 3))
        turns = np.zeros((len(self.joints), frames, 3, 3))
        column = 0
        for v, joint in enumerate(self.joints):
            shift = np.tile(joint.offset, (frames, 1))
            turn = np.tile(np.eye(3), (frames, 1, 1))
            for axis, is_rotation in joint.channels:
                values = self.numbers[:, column]
                column += 1
                if is_rotation:
                    turn = turn @ _rotation(axis, np.radians(values))
                else:
                    shift[:, axis] = values + (joint.offset[axis] if joint.parent < 0 else 0)
            if joint.parent < 0:
                places[:, v], turns[v] = shift, turn
            else:
                above = turns[joint.parent]
                places[:, v] = places[:, joint.parent] + np.einsum("fij,fj->fi", above, shift)
                turns[v] = above @ turn
        return places


def _rotation(axis, angles):
    """(F, 3, 3), about one axis; NaN of angles that are not finite, by which their clip is left out."""
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.zeros((len(angles), 3, 3))
    matrix[:, axis, axis] = 1
    with np.errstate(invalid="ignore"):
        matrix[:, a, a] = matrix[:, b, b] = np.cos(angles)
        matrix[:, b, a] = np.sin(angles)
    matrix[:, a, b] = -matrix[:, b, a]
    return matrix


def parse_motion(content: bytes) -> Motion:
    """Parse a file's bytes. Raises ValueError saying what was expected and what was found."""
    parts = re.split(rb"(?<!\S)MOTION(?!\S)", content.removeprefix(b"\xef\xbb\xbf"), maxsplit=1)
    head, tail = parts[0], parts[-1]
    if len(parts) < 2 or not head.lstrip().startswith(b"HIERARCHY"):
        raise ValueError("expected HIERARCHY and MOTION of a BVH file, found others")
    joints = _hierarchy(head.decode("utf-8", "replace").split()[1:])
    match = re.match(rb"\s*Frames:\s*(\d{1,9})\s+Frame Time:\s*(\S+)", tail, re.IGNORECASE)
    if not match:
        raise ValueError("expected 'Frames:' and 'Frame Time:' behind MOTION, found others")
    numbers, width = as_numbers(tail[match.end() :]), sum(len(joint.channels) for joint in joints)
    if width == 0 or len(numbers) != int(match[1]) * width:
        raise ValueError(f"expected {int(match[1])} frames of {width} numbers, found {len(numbers)} in all")
    seconds = as_numbers(match[2])
    if len(seconds) != 1 or not seconds[0] > 0:
        raise ValueError(f"expected a frame time above 0, found {printable(match[2].decode('latin-1'), 40)}")
    with np.errstate(over="ignore"):
        return Motion(joints, numbers.reshape(-1, width), float(1 / seconds[0]))


def _hierarchy(words: list[str]) -> list[Joint]:
    joints: list[Joint] = []
    open_joints: list[int] = []  # −1 for an end without a name
    at = 0

    def take(count: int) -> list[str]:
        nonlocal at
        taken = words[at : at + count]
        if len(taken) != count:
            raise ValueError("expected the hierarchy to go on, found its end")
        at += count
        return taken

    while at < len(words):
        (word,) = take(1)
        if word in ("ROOT", "JOINT"):
            (name,) = take(1)
            joints.append(Joint(printable(name, 60), open_joints[-1] if open_joints else -1))
            open_joints.append(len(joints) - 1)
            if len(joints) > MAX_JOINTS:
                raise ValueError(f"expected at most {MAX_JOINTS} joints, found more")
        elif word == "End":
            take(1)
            open_joints.append(-1)
        elif word == "OFFSET":
            offset = as_numbers(" ".join(take(3)).encode())
            if open_joints and open_joints[-1] >= 0:
                joints[open_joints[-1]].offset = offset
        elif word == "CHANNELS" and open_joints and open_joints[-1] >= 0:
            (count,) = take(1)
            channels = [_CHANNEL.fullmatch(word) for word in take(int(count) if count.isdigit() else 99)]
            if not all(channels):
                raise ValueError("expected channels such as Xposition and Zrotation, found others")
            joints[open_joints[-1]].channels = [
                ("XYZ".index(match[1]), match[2] == "rotation") for match in channels if match
            ]
        elif word == "}" and open_joints:
            open_joints.pop()
        elif word != "{":
            raise ValueError(f"expected a hierarchy, found {printable(word, 40)!r} in it")
    if not joints or open_joints:
        raise ValueError("expected a whole hierarchy, found its end missing")
    return joints


def layout_of(joints: list[Joint]) -> Layout:
    """Make the layout of a hierarchy; sides and shoulders are found by their names where they have such."""
    names = [joint.name for joint in joints]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"layout: expected joints of different names, found {twice} twice; give --layout")
    bare = [name.lower().rpartition(":")[2] for name in names]  # without a wearer's, as mixamorig:Hips
    places = {name: v for v, name in enumerate(bare)}
    swap = [places.get(_other_side(name), v) for v, name in enumerate(bare)]
    mirrored = all(swap[swap[v]] == v for v in range(len(swap))) and swap != list(range(len(swap)))
    shoulders = next(
        (
            (places[f"right{part}"], places[f"left{part}"])
            for part in ("arm", "upperarm", "shoulder")
            if f"right{part}" in places and f"left{part}" in places
        ),
        None,
    )
    return Layout(
        name="bvh",
        joints=tuple(names),
        parents=tuple(joint.parent for joint in joints),
        shoulders=shoulders,
        swap=tuple(swap) if mirrored else None,
    )


def _other_side(name):
    for one, other in (("left", "right"), ("right", "left")):
        if one in name:
            return name.replace(one, other)
    return ""


def parse_clip(content: bytes, names: tuple[str, ...]) -> RawClip:
    """Parse a file's bytes into a raw clip (3, F, V, 1) of these joints. Raises ValueError."""
    motion = parse_motion(content)
    places = places_of(names, [joint.name for joint in motion.joints], "joints")
    return RawClip(in_order(motion.positions()[:, places]), motion.frame_rate)


def prepare_bvh(
    out: Path,
    source: Path,
    labels: Path | None = None,
    layout: str | None = None,
    workers: int | None = None,
) -> Dataset:
    """Prepare motion capture from .bvh files.

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: folder (searched to its depths) or .zip with the files.
        labels: list with a line a clip: its file's name, its label, who was recorded; or what names are
            made of, such as {label}_{subject}_*; if not given, the folders that clips are in.
        layout: a joint layout, a name or a YAML file, whose joints are called as some of the hierarchy are;
            the first file's hierarchy, if not given.
        workers: processes that read files; as many as there are cores, if not given.
    """
    files = find_files(source, SUFFIX)
    try:
        first = parse_motion(files[0].read(MAX_FILE_BYTES))
    except ValueError as error:
        raise problem_of(files[0], error) from None
    skeleton = layout_of(first.joints) if layout is None else known_layout(layout)
    parse = partial(parse_clip, names=skeleton.joints)
    own = Own(files, parse, MAX_FILE_BYTES, skeleton, 1)
    return own.prepare(out, source, labels, workers, {"from": "bvh"})


def _detect(path: Path) -> str:
    try:
        files = find_files(path, SUFFIX)
    except InputError:
        return ""
    return f"{len(files)} {SUFFIX} files such as {files[0].name}"


def _read(path: Path) -> Iterator[np.ndarray]:
    file = SourceFile(Path(path))
    try:
        yield in_order(parse_motion(file.read(MAX_FILE_BYTES)).positions())
    except ValueError as error:
        raise problem_of(file, error) from None


BVH = Format(
    name="bvh",
    summary="Prepare motion capture from .bvh files, by forward kinematics.",
    example="ikem-fast prepare bvh --source mocap --labels list.csv --out data/mocap",
    prepare=prepare_bvh,
    detect=_detect,
    read=_read,
)
