"""COCO key points, as COCO's tools, AlphaPose, Detectron2 and MMPose write them: a JSON file a clip.

    [{"image_id": …, "keypoints": [x, y, score, … 17 joints], "track_id": …}, …]

or {"annotations": that list, "images": [{"id": …, "file_name": …}, …]}. The frames are those of image_id, in
the order of the numbers in them. People are told apart by track_id or idx where all have one, and followed
otherwise (`bodies`). Joints of score 0 are zero.
"""

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.arrays import problem_of
from ikem_fast.data.formats.base import Format
from ikem_fast.data.formats.bodies import as_poses, link_bodies, longest_tracks
from ikem_fast.data.formats.mediapipe import seen_in
from ikem_fast.data.formats.openpose import MAX_CLIP_BYTES, SUFFIX
from ikem_fast.data.formats.own import Own
from ikem_fast.data.sources import SourceFile, find_files
from ikem_fast.settings import Allowed

JOINTS = 17
TRACKS = ("track_id", "idx")


def parse_clip(content: bytes, bodies: int | None) -> np.ndarray:
    """Parse a file's bytes into a raw clip (3, F, 17, M) float32: x, y and score. Raises ValueError."""
    try:
        parsed = json.loads(content)
        found = parsed["annotations"] if isinstance(parsed, dict) else parsed
        people = [(_number(one["image_id"]), _pose(one), _track(one)) for one in found]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        expected = f"a list of image_id and keypoints of {JOINTS} joints"
        raise ValueError(f"expected {expected}, found: {type(error).__name__}: {error}") from None
    if not people:
        raise ValueError("expected people, found none")
    frames = sorted({number for number, _, _ in people})
    place = {number: index for index, number in enumerate(frames)}
    if all(track is not None for _, _, track in people):
        tracks: dict[Any, dict[int, np.ndarray]] = {}
        for number, pose, track in people:
            tracks.setdefault(track, {})[place[number]] = pose
        several = bodies or len(tracks)
        return longest_tracks(list(tracks.values()), (len(frames), JOINTS), several, np.dtype("f4"))
    seen: list[list[np.ndarray]] = [[] for _ in frames]
    for number, pose, _ in people:
        seen[place[number]].append(pose)
    return link_bodies([np.array(poses) for poses in seen], bodies)


def _pose(one):
    """(17, 3)."""
    pose = as_poses(one["keypoints"], (JOINTS, 3))
    return np.where(pose[:, 2:] > 0, pose, 0)


def _number(image):
    """An image's number: itself, or the last one in its file's name."""
    if isinstance(image, str):
        return int(re.findall(r"\d{1,18}", image)[-1]) if re.search(r"\d", image) else 0
    return int(image)


def _track(one):
    track = next((one[key] for key in TRACKS if one.get(key) is not None), None)
    return tuple(track) if isinstance(track, list) else track


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
