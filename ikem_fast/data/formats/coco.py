"""COCO key points, as COCO's tools, AlphaPose, Detectron2 and MMPose write them: a JSON file a clip.

    [{"image_id": …, "keypoints": [x, y, score, … 17 joints], "track_id": …}, …]

or {"annotations": that list, "images": [{"id": …, "file_name": …}, …]}; or, from MMPose's demos,
[{"frame_id": …, "instances": [{"keypoints": [[x, y], …], "keypoint_scores": […]}, …]}, …], alone or as
"instance_info". The frames are the images with people, in the order of their numbers: those in their files'
names, one of which has to tell all of them apart, or else their ids. People are told apart by track_id or idx
where all have one, which nobody else has in the image, and followed otherwise (`bodies`). Joints of score 0
are zero.
"""

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NamedTuple

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.arrays import problem_of
from ikem_fast.data.formats.base import Format
from ikem_fast.data.formats.bodies import as_poses, link_bodies, longest_tracks, stacked, to_float32
from ikem_fast.data.formats.json_numbers import load_json
from ikem_fast.data.formats.mediapipe import seen_in
from ikem_fast.data.formats.openpose import MAX_CLIP_BYTES, SUFFIX
from ikem_fast.data.formats.own import Own
from ikem_fast.data.sources import SourceFile, find_files
from ikem_fast.errors import printable
from ikem_fast.settings import Allowed

JOINTS = 17
TRACKS = ("track_id", "idx")
_WRONG = (ValueError, TypeError, KeyError, IndexError, OverflowError)


def parse_clip(content: bytes, bodies: int | None) -> np.ndarray:
    """Parse a file's bytes into a raw clip (3, F, 17, M) float32: x, y and score. Raises ValueError."""
    try:
        parsed = load_json(content)
        found = _annotations(parsed)
        poses = _poses([one for _, one in found])
        people = [_Person(image, pose, _track(one)) for (image, one), pose in zip(found, poses, strict=True)]
        frames = _in_order({image for image, _ in found}, _file_names(parsed))
    except _SeveralClips:
        raise
    except (*_WRONG, RecursionError) as error:
        expected = f"a list of image_id and keypoints of {JOINTS} joints"
        raise ValueError(f"expected {expected}, found: {type(error).__name__}: {error}") from None
    people = [person for person in people if person.pose.any()]
    place = {image: index for index, image in enumerate(frames)}
    known = {(person.image, person.track) for person in people if person.track is not None}
    if people and len(known) == len(people):
        tracks: dict[str | None, dict[int, np.ndarray]] = {}
        for person in people:
            tracks.setdefault(person.track, {})[place[person.image]] = person.pose
        several = bodies or len(tracks)
        return longest_tracks(list(tracks.values()), (len(frames), JOINTS), several, np.dtype("f4"))
    seen: list[list[np.ndarray]] = [[] for _ in frames]
    for person in people:
        seen[place[person.image]].append(person.pose)
    return link_bodies([np.array(poses, np.float32) for poses in seen], bodies)


class _Person(NamedTuple):
    image: Any
    pose: np.ndarray
    track: str | None


class _SeveralClips(ValueError):
    """Images that are no frames of one clip."""


def _annotations(parsed):
    """Of each person the image and what is known; what has no key points, such as a ball, is none."""
    found = parsed
    if isinstance(parsed, dict):
        found = parsed["instance_info"] if "instance_info" in parsed else parsed["annotations"]
    if found and "instances" in found[0]:
        return [(frame["frame_id"], one) for frame in found for one in frame["instances"]]
    return [(one["image_id"], one) for one in [one for one in found if "keypoints" in one] or found]


def _poses(people):
    """Of each (17, 3): of all at once, where each has its scores among its points."""
    with contextlib.suppress(*_WRONG):
        if not any("keypoint_scores" in one for one in people):
            poses = stacked([[one["keypoints"] for one in people]], (3 * JOINTS,)).reshape(-1, JOINTS, 3)
            return np.where(poses[..., 2:] > 0, poses, 0)
    return map(_pose, people)


def _pose(one):
    """(17, 3)."""
    points = one["keypoints"]
    if "keypoint_scores" in one:
        points = np.column_stack((as_poses(points, (-1, 2)), to_float32(one["keypoint_scores"])))
    pose = as_poses(points, (-1, 3))
    if len(pose) != JOINTS:
        raise ValueError(f"{len(pose)} joints")
    return np.where(pose[:, 2:] > 0, pose, 0)


def _track(one):
    track = next((one[key] for key in TRACKS if one.get(key) is not None), None)
    return None if track is None else repr(track)


def _file_names(parsed):
    """An image's id → its file's name, where the file has such."""
    images = parsed.get("images", []) if isinstance(parsed, dict) else []
    return {image["id"]: str(image["file_name"]) for image in images if "file_name" in image}


def _in_order(images, names):
    """Images by their numbers. Raises _SeveralClips where folders differ, or no number tells them apart."""
    named = {image: str(names.get(image, image)).replace("\\", "/") for image in images}
    known = all(isinstance(image, str) or image in names for image in images)
    if len({PurePosixPath(folder) for folder in {name.rpartition("/")[0] for name in named.values()}}) > 1:
        raise _SeveralClips(f"expected images of one clip, found several folders: {_shown(named)}")
    numbers = _numbers(named) if known else None
    if numbers is not None:
        return sorted(images, key=numbers.__getitem__)
    if any(isinstance(image, str) for image in images):
        raise _SeveralClips(f"expected names with a number that tells images apart, found {_shown(named)}")
    return sorted(images)


def _numbers(named):
    """Of each image the last number of its name that all have and no two share; None where there is none."""
    parts = {image: re.split(r"(\d{1,18})", name.rpartition(".")[0] or name) for image, name in named.items()}
    if len({tuple(part[::2]) for part in parts.values()}) > 1:
        return None
    for column in range(-2, -len(next(iter(parts.values()), [])), -2):
        numbers = {image: int(part[column]) for image, part in parts.items()}
        if len(set(numbers.values())) == len(parts):
            return numbers
    return None


def _shown(named):
    return printable(", ".join(sorted(named.values())[:3]))


def prepare_coco(
    out: Path,
    source: Path,
    labels: Path | None = None,
    persons: Annotated[int, Allowed(least=1, most=16)] = 1,
    workers: int | None = None,
) -> Dataset:
    """Prepare COCO key points, a JSON file a clip.

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: folder (searched to its depths) or .zip with the files.
        labels: list with a line a clip: its file's name, its label, who was recorded; or what names are
            made of, such as {label}_{subject}_*; if not given, the folders that clips are in.
        persons: how many people of a clip are taken, those who are seen longest.
        workers: processes that read files; as many as there are cores, if not given.
    """
    parse = partial(parse_clip, bodies=persons)
    own = Own(find_files(source, SUFFIX), parse, MAX_CLIP_BYTES, "coco", persons, planar=True)
    return own.prepare(out, source, labels, workers, {"from": "coco", "persons": persons})


def _detect(path: Path) -> str:
    return seen_in(path, (b'"keypoints"',))


def _read(path: Path) -> Iterator[np.ndarray]:
    file = SourceFile(Path(path))
    try:
        yield parse_clip(file.read(MAX_CLIP_BYTES), None)
    except ValueError as error:
        raise problem_of(file, error) from None


COCO = Format(
    name="coco",
    summary="Prepare COCO key points, a JSON file a clip.",
    example="ikem-fast prepare coco --source keypoints --labels list.csv --out data/own",
    prepare=prepare_coco,
    detect=_detect,
    read=_read,
    layout="coco",
)
