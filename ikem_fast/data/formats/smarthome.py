"""Toyota Smarthome: one JSON file a clip, `Cook.Cut_p02_r00_v02_c03_pose3d.json`, LCR-Net's 13 joints.

    {"njts": 13, "frames": [[{"pose3d": [13 x, 13 y, 13 z]}, …], …]}: of each frame the people found in it

Das et al., "Toyota Smarthome: Real-World Activities of Daily Living" (ICCV 2019). Its cross-subject protocol
trains on eleven subjects, its first cross-view protocol on camera 1, the second on five cameras; both test on
camera 2.
"""

import re
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.base import ClipFiles, Format, named_like
from ikem_fast.data.formats.bodies import as_poses, by_frame, link_bodies, stacked, to_float32
from ikem_fast.data.formats.json_numbers import load_json
from ikem_fast.data.formats.text import described
from ikem_fast.data.sources import find_files

MAX_FILE_BYTES = 1 << 26
JOINTS = 13
SUFFIX = ".json"

ProtocolName = Literal["cs", "cv1", "cv2"]
TRAIN_SUBJECTS = frozenset({3, 4, 6, 7, 9, 12, 13, 15, 17, 19, 25})
TRAIN_CAMERAS = {"cv1": frozenset({1}), "cv2": frozenset({1, 3, 4, 6, 7})}
TEST_CAMERA = 2


class FileName(NamedTuple):
    """The parts of a name such as Cook.Cut_p02_r00_v02_c03_pose3d."""

    action: str
    subject: int
    camera: int


class ClipName(NamedTuple):
    """What becomes of a file."""

    label: int
    split: str
    subject: int


def parse_name(name: str) -> FileName | None:
    """Parse a file's name without `.json`; None if it is not one."""
    match = re.fullmatch(r"([A-Za-z.]+)_p(\d\d)_r\d+_v\d+_c(\d\d)(?:_pose3d)?", name, re.ASCII)
    return FileName(match[1], int(match[2]), int(match[3])) if match else None


def parse_clip(content: bytes) -> np.ndarray:
    """Parse a file's bytes into a raw clip (3, F, 13, 1) float32. Raises ValueError if it is not one."""
    try:
        frames = load_json(content)["frames"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"expected JSON with 'frames', found: {type(error).__name__}: {error}") from None
    described(lambda value: isinstance(value, list), frames, "a list of 'frames'")
    try:
        given = [[person["pose3d"] for person in frame] for frame in frames]
        poses = stacked(given, (3 * JOINTS,)).reshape(-1, 3, JOINTS).transpose(0, 2, 1)
    except _WRONG:  # whose are
        return link_bodies([_people(frame) for frame in frames], bodies=1)
    return link_bodies(by_frame(poses, given), bodies=1)


_WRONG = (ValueError, TypeError, KeyError, IndexError, OverflowError)
_EXPECTED = f"'pose3d' of {3 * JOINTS} numbers of each person, all x, all y, all z"


def _people(frame):
    try:
        poses = [to_float32(person["pose3d"]) for person in frame]
    except _WRONG as error:
        raise ValueError(f"expected {_EXPECTED}, found: {type(error).__name__}: {error}") from None
    for pose in poses:
        described(lambda shape: shape == (3 * JOINTS,), pose.shape, _EXPECTED)
    return as_poses(poses, (len(poses), 3, JOINTS)).transpose(0, 2, 1)


FILES = ClipFiles(
    suffix=SUFFIX,
    layout="smarthome-13",
    expected="Cook.Cut_p02_r00_v02_c03_pose3d.json",
    parse_name=lambda name: None,  # by protocol
    parse_clip=parse_clip,
    limit=MAX_FILE_BYTES,
)


def prepare_smarthome(
    out: Path,
    source: Path,
    protocol: ProtocolName = "cs",
    workers: int | None = None,
) -> Dataset:
    """Prepare the skeletons of Toyota Smarthome; classes are the activities that file names have.

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: folder with the files or with a .zip of them (searched to its depths), or the .zip.
        protocol: cs, across subjects; cv1 and cv2, across cameras.
        workers: processes that read files; as many as there are cores, if not given.
    """
    names = [name for file in find_files(source, SUFFIX) if (name := parse_name(file.stem))]
    actions = sorted({name.action for name in names if _split(name, protocol)})
    label = {action: number for number, action in enumerate(actions)}

    def as_clip(stem: str) -> ClipName | None:
        name = parse_name(stem)
        split = _split(name, protocol) if name else ""
        return ClipName(label[name.action], split, name.subject) if name and split else None

    def wanted(stem: str) -> bool:  # files of cameras that the protocol has no use for are not
        name = parse_name(stem)
        return name is None or bool(_split(name, protocol))

    return FILES._replace(parse_name=as_clip).prepare(
        out, source, workers, name=f"smarthome-{protocol}", classes=tuple(actions), wanted=wanted
    )


def _split(name, protocol):
    """Where a file goes, "" for nowhere."""
    if protocol == "cs":
        return "train" if name.subject in TRAIN_SUBJECTS else "test"
    if name.camera in TRAIN_CAMERAS[protocol]:
        return "train"
    return "test" if name.camera == TEST_CAMERA else ""


def _detect(path: Path) -> str:
    return named_like(path, SUFFIX, parse_name)


SMARTHOME = Format(
    name="smarthome",
    summary="Prepare the skeletons of Toyota Smarthome from its .json files.",
    example="ikem-fast prepare smarthome --source skeletons.zip --protocol cv2 --out data/smarthome",
    prepare=prepare_smarthome,
    detect=_detect,
    read=FILES.read,
    layout=FILES.layout,
)
