"""NW-UCLA: one JSON file a clip, `a<action>_s<subject>_e<episode>_v<view>.json`, key `skeletons` (T, 20, 3).

Wang et al., "Cross-view Action Modeling, Learning and Recognition" (CVPR 2014), in the form that CTR-GCN and
its relatives share. Its cross-view protocol trains on views 1 and 2.
"""

import json
import re
from typing import NamedTuple

import numpy as np

LAYOUT = "kinect-v1"
SUFFIX = ".json"
MAX_FILE_BYTES = 1 << 24  # the largest of the dataset has 0.5 MB
TRAIN_VIEWS = frozenset({1, 2})

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


class ClipName(NamedTuple):
    action: int
    subject: int
    episode: int
    view: int

    @property
    def label(self):
        return list(ACTIONS).index(self.action)

    @property
    def split(self):
        return "train" if self.view in TRAIN_VIEWS else "test"


def parse_name(name):
    """The `ClipName` of a file's name without `.json`, or None if it is not one."""
    match = re.fullmatch(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)", name, re.ASCII)
    if not match:
        return None
    clip = ClipName(*map(int, match.groups()))
    return clip if clip.action in ACTIONS else None


def parse_clip(content):
    """The raw clip (3, F, 20, 1) float32 in the bytes of a file. Raises ValueError if it is not one."""
    try:
        skeletons = np.array(json.loads(content)["skeletons"], dtype=np.float32)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise ValueError(
            f"expected JSON with numbers 'skeletons', found: {type(error).__name__}: {error}"
        ) from None
    if skeletons.ndim != 3 or skeletons.shape[1:] != (20, 3):
        raise ValueError(f"expected 'skeletons' of shape (frames, 20, 3), found {skeletons.shape}")
    return np.ascontiguousarray(skeletons.transpose(2, 0, 1)[..., None])
