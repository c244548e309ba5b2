"""OpenPose's JSON files, one a frame: `NAME_000000000000_keypoints.json`, a folder of them or many.

    {"people": [{"pose_keypoints_2d": [x, y, score, …]}, …]}: 18 joints (COCO) or 25 (BODY_25)

`pose_keypoints_3d` [x, y, z, score, …] are taken, of all clips, where the first clip with people has any;
`pose_keypoints` is what versions before 1.3 call the flat ones. Joints that were not found are zero. People
have no names: they are followed from frame to frame (`bodies`). Numbers of frames that are left out are told
of; the frames that are there count as consecutive.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.arrays import problem_of
from ikem_fast.data.formats.base import Format, named_like
from ikem_fast.data.formats.bodies import as_poses, by_frame, link_bodies, stacked
from ikem_fast.data.formats.json_numbers import load_json
from ikem_fast.data.formats.own import Own
from ikem_fast.data.formats.stream import examples
from ikem_fast.data.formats.text import described
from ikem_fast.data.sources import SourceFile, find_files
from ikem_fast.errors import InputError, printable
from ikem_fast.settings import Allowed

SUFFIX = ".json"
FLAT = ("pose_keypoints_2d", "pose_keypoints")
LAYOUTS = {17: "coco", 18: "openpose", 25: "openpose-25"}
MAX_FILE_BYTES = 1 << 20  # of a frame
MAX_CLIP_BYTES = 1 << 28
_MAX_NUMBER = 1 << 53  # of a frame
_NAME = re.compile(r"(?:(.*)_)?(\d+)_keypoints")


class Kind(NamedTuple):
    """What poses are: of how many joints, and whether in space or in a plane."""

    joints: int
    deep: bool


@dataclass(frozen=True)
class Frames(SourceFile):
    """The frames of a clip, a file each.

    name_of_clip: what their names have in common.
    missing: how many numbers are left out between them.
    """

    frames: tuple[SourceFile, ...] = ()
    name_of_clip: str = ""
    missing: int = 0

    @property
    def stem(self) -> str:
        """The clip's name."""
        return self.name_of_clip

    @property
    def size(self) -> int:
        """Bytes of all frames."""
        return sum(frame.size for frame in self.frames)

    def read(self, limit: int) -> bytes:
        """Read all frames, with a null between each two. Raises ValueError where one cannot be read."""
        if self.size > limit:
            raise ValueError(f"expected at most {limit} bytes of frames, found {self.size}")
        return b"\0".join(frame.read(MAX_FILE_BYTES) for frame in self.frames)


def find_clips(
    source: Path, names: re.Pattern = _NAME, example: str = "clip_000000000000_keypoints.json"
) -> list[Frames]:
    """Find the clips below a folder: the files of a folder with the same name ahead of their numbers.

    Files without such a name, or with their folder's, make the folder a clip; its class is the folder above.

    names: of files, with the clip's name and the frame's number as groups; `example` is one, for the error.

    Raises InputError where there is none.
    """
    clips: dict[tuple[str, str], list[tuple[int, SourceFile]]] = {}
    for file in find_files(source, SUFFIX):
        match = names.fullmatch(file.stem)
        if match:
            clips.setdefault((file.folder, match[1] or ""), []).append((int(match[2]), file))
    if not clips:
        raise InputError(f"{source}: expected files such as {example}, found none")
    found = []
    for (folder, name), frames in clips.items():
        numbers, files = zip(*sorted(frames, key=lambda frame: frame[0]), strict=True)
        missing, first, last = _missing(numbers), files[0], Path(folder).name
        if name in ("", last) and Path(folder) != Path(source):
            inside = str(PurePosixPath(first.member).parent) if first.member else None
            found.append(Frames(first.path if inside else Path(folder), inside, files, last, missing))
        else:
            found.append(Frames(first.path, first.member, files, name or last, missing))
    return sorted(found, key=lambda clip: (clip.stem, str(clip)))


def _missing(numbers):
    """How many numbers are left out; where only every tenth frame was kept, say, none is."""
    steps = np.diff([min(number, _MAX_NUMBER) for number in numbers])
    usual = np.median(steps) if len(steps) else 1
    return int(np.maximum(steps / max(usual, 1) - 1, 0).sum())


def tell_of_gaps(clips: Sequence[SourceFile], source: Path) -> None:
    """Say on stderr where numbers of frames are left out: what is there is taken one after another."""
    gaps = [clip for clip in clips if isinstance(clip, Frames) and clip.missing]
    if gaps:
        count = sum(clip.missing for clip in gaps)
        print(
            f"note: {source}: {count} frames are missing by their numbers, in {len(gaps)} of {len(clips)} "
            f"clips ({examples([clip.stem for clip in gaps])}); those there are taken one after another",
            file=sys.stderr,
        )


def parse_clip(content: bytes, kind: Kind, bodies: int | None) -> np.ndarray:
    """Parse the frames of a clip, with nulls between them, into a raw clip (3, F, V, M) float32.

    Raises ValueError naming the frame that is none, or of another number of joints.
    """
    return _as_clip(_frames(content), kind, bodies)


def _frames(content):
    """The people of each frame."""
    frames, parts = [], content.split(b"\0")
    for number, frame in enumerate(_parsed(parts) or parts):
        try:
            frames.append(_people(frame))
        except ValueError as error:
            raise ValueError(f"frame {number}: {error}") from None
    return frames


def _parsed(parts):
    """The JSON of all frames, parsed as one, which takes half the time; None where one is none."""
    try:
        parsed = load_json(b"[%s]" % b",".join(parts))
    except (ValueError, RecursionError):
        return None
    return parsed if len(parsed) == len(parts) else None


def _as_clip(frames, kind, bodies):
    size = 4 if kind.deep else 3
    try:
        given = [[found for one in people if _any(found := _values(one, kind.deep))] for people in frames]
        poses = _where_found(stacked(given, (kind.joints * size,)).reshape(-1, kind.joints, size))
    except (ValueError, TypeError, OverflowError):  # in which frame
        return link_bodies([_poses(number, people, kind) for number, people in enumerate(frames)], bodies)
    return link_bodies(by_frame(poses, given), bodies)


def _poses(number, people, kind):
    """(P, V, 3) of a frame. Raises ValueError naming it."""
    try:
        poses = [_pose(values, kind) for one in people if _any(values := _values(one, kind.deep))]
        return as_poses(poses, (len(poses), kind.joints, 3))
    except ValueError as error:
        raise ValueError(f"frame {number}: {error}") from None


def _people(frame):
    """The people of a frame, which may be parsed already, each as its object has it."""
    try:
        people = (load_json(frame) if isinstance(frame, bytes) else frame)["people"]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise ValueError(f"expected JSON with 'people', found: {type(error).__name__}: {error}") from None
    described(lambda value: isinstance(value, list), people, "a list of 'people'")
    return [
        described(lambda value: isinstance(value, dict), person, "an object of each person")
        for person in people
    ]


def _any(values):
    return len(values) > 0 if isinstance(values, np.ndarray) else bool(values)


def _values(person, deep):
    """A person's numbers; an empty list where no body was found of them, but hands or a face."""
    if deep:
        return person.get("pose_keypoints_3d", [])
    named = [key for key in FLAT if key in person]
    if not named:
        raise ValueError(f"expected {FLAT[0]!r} of each person, found {printable(list(person)[:5], 100)}")
    return person[named[0]]


def _pose(values, kind):
    """(V, 3): x, y and score, or x, y and z."""
    size = 4 if kind.deep else 3
    try:
        pose = as_poses(values, (-1, size))
    except (ValueError, TypeError, OverflowError):
        found = f"{len(values)} of them" if isinstance(values, list | np.ndarray) else "something else"
        raise ValueError(f"expected {size} numbers a joint, found {found}") from None
    if kind.joints and len(pose) != kind.joints:
        raise ValueError(f"expected {kind.joints} joints a person, found {len(pose)}")
    return _where_found(pose)


def _where_found(poses):
    """The coordinates of joints that have a score; zero of others."""
    return np.where(poses[..., -1:] > 0, poses[..., :3], 0)


def prepare_openpose(
    out: Path,
    source: Path,
    labels: Path | None = None,
    layout: str | None = None,
    persons: Annotated[int, Allowed(least=1, most=16)] = 1,
    workers: int | None = None,
) -> Dataset:
    """Prepare folders of OpenPose's JSON files, one a frame.

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: folder (searched to its depths) or .zip with the files: a folder for each clip, or clips told
            apart by what their files are called ahead of _000000000000_keypoints.json.
        labels: list with a line a clip: its name, its label, who was recorded; or what names are made of,
            such as {label}_{subject}_*; if not given, the folders that clips are in.
        layout: the joint layout, a name or a YAML file; that of 18 or 25 joints, if not given.
        persons: how many people of a clip are taken, those who are seen longest.
        workers: processes that read files; as many as there are cores, if not given.
    """
    clips = find_clips(source)
    kind = _kind(clips)
    if layout is None and kind.joints not in LAYOUTS:
        raise InputError(f"{source}: expected --layout for people of {kind.joints} joints, found none")
    parse = partial(parse_clip, kind=kind, bodies=persons)
    tell_of_gaps(clips, source)
    own = Own(clips, parse, MAX_CLIP_BYTES, layout or LAYOUTS[kind.joints], persons, planar=not kind.deep)
    return own.prepare(out, source, labels, workers, {"from": "openpose", "persons": persons})


def _kind(clips):
    """What the poses of the first clip are that has people and can be read."""
    problem = InputError(f"{clips[0]}: expected people in the frames of {len(clips)} clips, found none")
    for clip in clips:
        try:
            if kind := _kind_of(_frames(clip.read(MAX_CLIP_BYTES))):
                return kind
        except ValueError as error:
            problem = problem_of(clip, error)
    raise problem


def _kind_of(frames):
    """What the poses of a clip are; None where nobody is there."""
    for deep in (True, False):
        poses = (_values(person, deep) for people in frames for person in people)
        if _any(found := next(filter(_any, poses), None)):
            return Kind(len(_pose(found, Kind(0, deep))), deep)
    return None


def _detect(path: Path) -> str:
    return named_like(path, SUFFIX, _NAME.fullmatch)


def _read(path: Path | SourceFile) -> Iterator[np.ndarray]:
    for clip in [path] if isinstance(path, SourceFile) else find_clips(path):
        try:
            frames = _frames(clip.read(MAX_CLIP_BYTES))
            yield _as_clip(frames, _kind_of(frames) or Kind(0, False), None)
        except ValueError as error:
            raise problem_of(clip, error) from None


OPENPOSE = Format(
    name="openpose",
    summary="Prepare folders of OpenPose's JSON files, one a frame.",
    example="ikem-fast prepare openpose --source poses --labels list.csv --out data/own",
    prepare=prepare_openpose,
    detect=_detect,
    read=_read,
    find=find_clips,
)
