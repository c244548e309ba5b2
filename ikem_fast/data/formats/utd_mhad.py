"""UTD-MHAD: one MATLAB file a clip, `a<action>_s<subject>_t<trial>_skeleton.mat`, d_skel (20, 3, T), metres.

Chen, Jafari, Kehtarnavaz, "UTD-MHAD: A Multimodal Dataset for Human Action Recognition" (ICIP 2015). Its
cross-subject protocol trains on the subjects with odd numbers.
"""

import re
from pathlib import Path

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.base import ClipFiles, CrossSubjectName, Format
from ikem_fast.data.formats.bodies import to_float32
from ikem_fast.data.formats.matlab import read_variable

MAX_FILE_BYTES = 1 << 20  # the largest of the dataset has 60 kB

ACTIONS = (
    "swipe left", "swipe right", "wave", "clap", "throw", "cross arms", "basketball shoot", "draw x",
    "draw circle clockwise", "draw circle counter-clockwise", "draw triangle", "bowling", "boxing",
    "baseball swing", "tennis swing", "arm curl", "tennis serve", "push", "knock", "catch",
    "pick up and throw", "jog", "walk", "sit to stand", "stand to sit", "lunge", "squat",
)  # fmt: skip

NUM_SUBJECTS = 8


def parse_name(name: str) -> CrossSubjectName | None:
    """Parse a file's name without `.mat`; None if it is not one, or of a subject or action there is not."""
    match = re.fullmatch(r"a(\d{1,2})_s(\d)_t(\d)_skeleton", name, re.ASCII)
    if not match:
        return None
    clip = CrossSubjectName(*map(int, match.groups()))
    return clip if 1 <= clip.action <= len(ACTIONS) and 1 <= clip.subject <= NUM_SUBJECTS else None


def parse_clip(content: bytes) -> np.ndarray:
    """Parse a file's bytes into a raw clip (3, F, 20, 1) float32. Raises ValueError if it is not one."""
    joints = read_variable(content, "d_skel")
    if joints.ndim != 3 or joints.shape[:2] != (20, 3):
        raise ValueError(f"expected 'd_skel' of shape (20, 3, frames), found {joints.shape}")
    return to_float32(joints.transpose(1, 2, 0)[..., None])


FILES = ClipFiles(
    suffix="_skeleton.mat",
    layout="utd-mhad",
    expected=f"a1_s1_t1_skeleton.mat, of actions 1 … {len(ACTIONS)} and subjects 1 … {NUM_SUBJECTS}",
    parse_name=parse_name,
    parse_clip=parse_clip,
    limit=MAX_FILE_BYTES,
)


def prepare_utd_mhad(out: Path, source: Path, workers: int | None = None) -> Dataset:
    """Prepare UTD-MHAD, cross-subject, from its skeleton files (a1_s1_t1_skeleton.mat …).

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: folder with the files or with a .zip of them (searched to its depths), or the .zip.
        workers: processes that read files; as many as there are cores, if not given.
    """
    return FILES.prepare(out, source, workers, name="utd-mhad", classes=ACTIONS)


UTD_MHAD = Format(
    name="utd-mhad",
    summary="Prepare UTD-MHAD from its .mat files.",
    example="ikem-fast prepare utd-mhad --source Skeleton.zip --center clip --align clip --out data/utd_mhad",
    prepare=prepare_utd_mhad,
    detect=FILES.detect,
    read=FILES.read,
    former={"skeletons": "source"},
    layout=FILES.layout,
)
