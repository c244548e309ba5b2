"""MediaPipe's landmarks in JSON files: one file a clip, or a folder of files `NAME_000001.json`, one a frame.

A clip is a list of frames, or {"frames": [...]}; a frame {"pose_world_landmarks": …} or pose_landmarks or
landmarks, named so or as in JavaScript (poseWorldLandmarks), or these alone: 33 of {"x": …, "y": …, "z": …,
"visibility": …}, or a list of such lists, a person each; null or [] where nobody was found. World landmarks,
in meters, are taken where a clip has both.
"""

import json
import re
from collections.abc import Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Annotated

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.arrays import problem_of
from ikem_fast.data.formats.base import Format
from ikem_fast.data.formats.bodies import as_poses, by_frame, link_bodies, stacked
from ikem_fast.data.formats.json_numbers import load_json
from ikem_fast.data.formats.openpose import MAX_CLIP_BYTES, SUFFIX, find_clips, tell_of_gaps
from ikem_fast.data.formats.own import Own
from ikem_fast.data.formats.text import described
from ikem_fast.data.sources import SourceFile, find_files
from ikem_fast.errors import InputError
from ikem_fast.settings import Allowed

JOINTS = 33
KEYS = (  # the first that a clip has anything in: meters and parts of a picture are not mixed
    "pose_world_landmarks",
    "poseWorldLandmarks",
    "worldLandmarks",
    "pose_landmarks",
    "poseLandmarks",
    "landmarks",
)
LOOKED_AT, LOOKED_INTO = 16, 1 << 20  # files, and bytes of each, by which a format is told
MARKS = (b"landmark", b"Landmark", b'"visibility"')  # by which files are known
_WRONG = (ValueError, TypeError, KeyError, AttributeError, OverflowError)
_COORDINATES = ("x", "y", "z")
_coordinates_of = itemgetter(*_COORDINATES)
_FRAME = re.compile(r"(?:(.*?)_?)?(\d+)")


def find_landmarks(source: Path) -> list[SourceFile]:
    """Find the clips below a folder: files of a clip each, or folders of frames. Raises InputError."""
    files = find_files(source, SUFFIX)
    are_frames = next((is_one for file in files if (is_one := _is_frame(file)) is not None), False)
    return list(find_clips(source, _FRAME, "frame_000001.json")) if are_frames else files


def _is_frame(file):
    """Whether a file holds one frame rather than a clip; None where that cannot be told."""
    try:
        content = json.loads(file.read(MAX_CLIP_BYTES))
    except (ValueError, RecursionError):
        return None
    if not content:
        return None
    if isinstance(content, dict):
        return "frames" not in content
    named = _FRAME.fullmatch(file.stem) is not None
    return named and isinstance(content, list) and (_is_pose(content) or len(content) == 1)


def _is_pose(frame):
    """Whether a list is of the landmarks of one person."""
    return isinstance(frame[0], dict) and "x" in frame[0]


def parse_clip(content: bytes, bodies: int | None) -> np.ndarray:
    """Parse a clip, or its frames with nulls between them, into a raw clip (3, F, 33, M) float32.

    Raises ValueError naming the frame that is none.
    """
    try:
        parsed = [load_json(part, _COORDINATES) for part in content.split(b"\0")]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON, found: {type(error).__name__}: {error}") from None
    frames = parsed
    if len(parsed) == 1:
        frames = parsed[0]
        if isinstance(frames, dict):
            frames = frames.get("frames", [frames])
    described(lambda value: isinstance(value, list), frames, "a list of frames")
    key = next((key for key in KEYS if any(_has(one, key) for one in frames)), None)
    try:
        given = [_persons(frame, key) for frame in frames]
        people = by_frame(stacked([list(map(_marks, frame)) for frame in given], (JOINTS, 3)), given)
    except _WRONG:  # which frame is
        people = [_people(number, frame, key) for number, frame in enumerate(frames)]
    return link_bodies(people, bodies)


def _has(frame, key):
    found = frame.get(key) if isinstance(frame, dict) else None
    return isinstance(found, np.ndarray) or bool(found)


def _marks(person):
    """(33, 3) of a person's landmarks, as numbers."""
    return person if isinstance(person, np.ndarray) else list(map(_coordinates_of, person))


def _people(number, frame, key):
    """(P, 33, 3) of a frame. Raises ValueError naming it."""
    try:
        marks = list(map(_marks, _persons(frame, key)))
        return as_poses(marks, (len(marks), JOINTS, 3))
    except _WRONG as error:
        expected, found = f"{JOINTS} landmarks of x, y, z", f"{type(error).__name__}: {error}"
        raise ValueError(f"frame {number}: expected {expected}, found: {found}") from None


def _persons(frame, key):
    """Of each person in a frame the landmarks."""
    if isinstance(frame, dict):
        frame = frame.get(key)
    if isinstance(frame, dict) and frame:  # as protocol buffers are written
        frame = frame["landmark"]
    if isinstance(frame, np.ndarray):
        return [frame]
    return [frame] if frame and _is_pose(frame) else frame or []


def prepare_mediapipe(
    out: Path,
    source: Path,
    labels: Path | None = None,
    persons: Annotated[int, Allowed(least=1, most=16)] = 1,
    workers: int | None = None,
) -> Dataset:
    """Prepare JSON files of MediaPipe's landmarks, a file a clip or a folder of frames.

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: folder (searched to its depths) or .zip with the files.
        labels: list with a line a clip: its name, its label, who was recorded; or what names are made of,
            such as {label}_{subject}_*; if not given, the folders that clips are in.
        persons: how many people of a clip are taken, those who are seen longest.
        workers: processes that read files; as many as there are cores, if not given.
    """
    clips = find_landmarks(source)
    tell_of_gaps(clips, source)
    own = Own(clips, partial(parse_clip, bodies=persons), MAX_CLIP_BYTES, "mediapipe-33", persons)
    return own.prepare(out, source, labels, workers, {"from": "mediapipe", "persons": persons})


def seen_in(path: Path, marks: tuple[bytes, ...]) -> str:
    """Say how many .json files there are at a path, where one of the first has a mark of the kind in it."""
    try:
        files = find_files(path, SUFFIX)
        for file in files[:LOOKED_AT]:
            with file.open() as stream:
                begin = stream.read(LOOKED_INTO)
            if mark := next((mark for mark in marks if mark in begin), None):
                return f"{len(files)} files with {mark.decode()} in them, such as {file.name}"
    except (InputError, OSError, ValueError):
        pass
    return ""


def _detect(path: Path) -> str:
    return seen_in(path, MARKS)


def _read(path: Path | SourceFile) -> Iterator[np.ndarray]:
    if not isinstance(path, SourceFile) and path.is_file() and path.suffix.lower() == SUFFIX:
        path = SourceFile(path)
    for clip in [path] if isinstance(path, SourceFile) else find_landmarks(path):
        try:
            yield parse_clip(clip.read(MAX_CLIP_BYTES), None)
        except ValueError as error:
            raise problem_of(clip, error) from None


MEDIAPIPE = Format(
    name="mediapipe",
    summary="Prepare MediaPipe's landmarks from JSON files.",
    example="ikem-fast prepare mediapipe --source landmarks --labels list.csv --out data/own",
    prepare=prepare_mediapipe,
    detect=_detect,
    read=_read,
    find=find_landmarks,
    layout="mediapipe-33",
)
