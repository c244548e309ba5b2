"""NW-UCLA: one JSON file a clip, `a<action>_s<subject>_e<episode>_v<view>.json`, key `skeletons` (T, 20, 3).

Wang et al., "Cross-view Action Modeling, Learning and Recognition" (CVPR 2014), in the form that CTR-GCN and
its relatives share. Its cross-view protocol trains on views 1 and 2.
"""

import json
import re
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.base import ClipFiles, Format
from ikem_fast.data.formats.text import in_order
from ikem_fast.data.native import _skeleton_io

MAX_FILE_BYTES = 1 << 22  # the largest of the dataset has 0.5 MB
JOINTS = 20
TRAIN_VIEWS = frozenset({1, 2})
VIEWS = frozenset({1, 2, 3})

# By their numbers in the file names, which leave some out; labels count those that are there.
ACTIONS = {
    1: "pick up with one hand",
    2: "pick up with two hands",
    3: "drop trash",
    4: "walk around",
    5: "sit down",
    6: "stand up",
    8: "donning",
    9: "doffing",
    11: "throw",
    12: "carry",
}
_KEY = re.compile(rb'"skeletons"\s*:\s*')
_EXPECTED = f"expected 'skeletons' to be numbers (frames, {JOINTS}, 3)"


class ClipName(NamedTuple):
    """The parts of a name such as a12_s10_e05_v03."""

    action: int
    subject: int
    episode: int
    view: int

    @property
    def label(self) -> int:
        """The clip's class."""
        return list(ACTIONS).index(self.action)

    @property
    def split(self) -> str:
        """Where the clip goes."""
        return "train" if self.view in TRAIN_VIEWS else "test"


def parse_name(name: str) -> ClipName | None:
    """Parse a file's name without `.json`; None if it is not one, or of an action or view there is not."""
    match = re.fullmatch(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)", name, re.ASCII)
    if not match:
        return None
    clip = ClipName(*map(int, match.groups()))
    return clip if clip.action in ACTIONS and clip.view in VIEWS else None


def parse_clip(content: bytes) -> np.ndarray:
    """Parse a file's bytes into a raw clip (3, F, 20, 1) float32. Raises ValueError if it is not one."""
    if (numbers := _parsed(content)) is not None:
        return in_order(numbers.reshape(-1, JOINTS, 3))
    try:
        skeletons = json.loads(content, parse_int=float)["skeletons"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"expected JSON with 'skeletons', found: {type(error).__name__}: {error}") from None
    try:
        joints = list(chain.from_iterable(skeletons))
        numbers = list(chain.from_iterable(joints))
        sizes = {*map(len, skeletons)}, {*map(len, joints)}
    except TypeError:
        raise ValueError(f"{_EXPECTED}, found something else") from None
    if sizes != ({JOINTS}, {3}) or set(map(type, numbers)) != {float}:
        kinds = " and ".join(sorted({type(number).__name__ for number in numbers})) or "nothing"
        of_joints, of_numbers = (" or ".join(map(str, sorted(size)[:3])) or "no" for size in sizes)
        raise ValueError(f"{_EXPECTED}, found {kinds}, {of_joints} joints a frame, {of_numbers} numbers each")
    # Of a flat list far faster than of nested ones.
    return in_order(np.fromiter(numbers, np.float64, len(numbers)).reshape(-1, JOINTS, 3))


def _parsed(content):
    """The numbers as C++ reads them, far faster than `json` does; None where either refuses its part."""
    key = _KEY.search(content) if _skeleton_io else None
    found = _skeleton_io.parse_nested(content, key.end(), JOINTS, 3) if key else None
    if found is None or content.count(b"skeletons") != 1:
        return None
    numbers, end = found
    try:
        rest = json.loads(content[: key.end()] + b"null" + content[end:])
    except (ValueError, RecursionError):
        return None
    return numbers if isinstance(rest, dict) and rest.get("skeletons", 0) is None else None


FILES = ClipFiles(
    suffix=".json",
    layout="kinect-v1",
    expected=f"a01_s01_e00_v01.json, of actions {', '.join(map(str, ACTIONS))} and views 1 … {len(VIEWS)}",
    parse_name=parse_name,
    parse_clip=parse_clip,
    limit=MAX_FILE_BYTES,
)


def prepare_nw_ucla(out: Path, source: Path, workers: int | None = None) -> Dataset:
    """Prepare NW-UCLA, cross-view, from one .json a clip (a01_s01_e00_v01.json …).

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: folder with the files or with a .zip of them (searched to its depths), or the .zip.
        workers: processes that read files; as many as there are cores, if not given.
    """
    return FILES.prepare(out, source, workers, name="nw-ucla", classes=tuple(ACTIONS.values()))


NW_UCLA = Format(
    name="nw-ucla",
    summary="Prepare NW-UCLA from one .json a clip.",
    example="ikem-fast prepare nw-ucla --source all_sqe --center clip --align clip --out data/nw_ucla",
    prepare=prepare_nw_ucla,
    detect=FILES.detect,
    read=FILES.read,
    former={"skeletons": "source"},
    layout=FILES.layout,
)
