"""UTD-MHAD: one MATLAB file a clip, `a<action>_s<subject>_t<trial>_skeleton.mat`, d_skel (20, 3, T), metres.

Chen, Jafari, Kehtarnavaz, "UTD-MHAD: A Multimodal Dataset for Human Action Recognition" (ICIP 2015). Its
cross-subject protocol trains on the subjects with odd numbers.
"""

import io
import re
from typing import NamedTuple

import numpy as np

LAYOUT = "utd-mhad"
SUFFIX = "_skeleton.mat"
MAX_FILE_BYTES = 1 << 20  # the largest of the dataset has 60 kB
TRAIN_SUBJECTS = frozenset({1, 3, 5, 7})


class ClipName(NamedTuple):
    action: int
    subject: int
    trial: int

    @property
    def label(self):
        return self.action - 1

    @property
    def split(self):
        return "train" if self.subject in TRAIN_SUBJECTS else "test"


def parse_name(name):
    """The `ClipName` of a file's name without `.mat`, or None if it is not one."""
    match = re.fullmatch(r"a(\d{1,2})_s(\d)_t(\d)_skeleton", name, re.ASCII)
    if not match:
        return None
    clip = ClipName(*map(int, match.groups()))
    return clip if 1 <= clip.action <= len(ACTIONS) else None


def parse_clip(content):
    """The raw clip (3, F, 20, 1) float32 in the bytes of a file. Raises ValueError if it is not one."""
    from scipy.io import loadmat  # imported here: only those who prepare this dataset need scipy

    try:
        entries = loadmat(io.BytesIO(content), variable_names=["d_skel"])
    except Exception as error:  # scipy raises whatever its parser trips over
        raise ValueError(f"expected a MATLAB file, found: {error}") from None
    joints = entries.get("d_skel")
    if joints is None or joints.ndim != 3 or joints.shape[:2] != (20, 3) or joints.dtype.kind not in "fiu":
        found = "no such variable" if joints is None else f"{joints.dtype} of shape {joints.shape}"
        raise ValueError(f"expected numbers 'd_skel' of shape (20, 3, frames), found {found}")
    return np.ascontiguousarray(joints.transpose(1, 2, 0)[..., None], dtype=np.float32)


ACTIONS = (
    "swipe left", "swipe right", "wave", "clap", "throw", "cross arms", "basketball shoot", "draw x",
    "draw circle clockwise", "draw circle counter-clockwise", "draw triangle", "bowling", "boxing",
    "baseball swing", "tennis swing", "arm curl", "tennis serve", "push", "knock", "catch",
    "pick up and throw", "jog", "walk", "sit to stand", "stand to sit", "lunge", "squat",
)  # fmt: skip
