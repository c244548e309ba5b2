"""MSR-Action3D: one text a clip, `a<action>_s<subject>_e<example>_skeleton3D.txt`.

A line is a joint: x, y, z, confidence; twenty lines are a frame. Files without `3D` in their names have
places on the screen and depths. The cross-subject protocol trains on odd subjects. Li, Zhang, Liu, "Action
Recognition Based on a Bag of 3D Points" (CVPR Workshops 2010).
"""

import re
from pathlib import Path

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.base import ClipFiles, CrossSubjectName, Format
from ikem_fast.data.formats.text import as_rows, in_order

MAX_FILE_BYTES = 1 << 22  # the largest of the dataset has 0.2 MB
JOINTS = 20

ACTIONS = (
    "high arm wave", "horizontal arm wave", "hammer", "hand catch", "forward punch", "high throw", "draw x",
    "draw tick", "draw circle", "hand clap", "two hand wave", "side boxing", "bend", "forward kick",
    "side kick", "jogging", "tennis swing", "tennis serve", "golf swing", "pick up and throw",
)  # fmt: skip


def parse_name(name: str) -> CrossSubjectName | None:
    """Parse a file's name without `.txt`; None if it is not one, or of an action that there is not."""
    match = re.fullmatch(r"a(\d\d)_s(\d\d)_e(\d\d)_skeleton(?:3D)?", name, re.ASCII)
    clip = CrossSubjectName(*map(int, match.groups())) if match else None
    return clip if clip and 1 <= clip.action <= len(ACTIONS) else None


def parse_clip(content: bytes) -> np.ndarray:
    """Parse a file's bytes into a raw clip (3, F, 20, 1) float32. Raises ValueError if it is not one."""
    rows = as_rows(content, columns=4)
    if len(rows) % JOINTS:
        raise ValueError(f"expected {JOINTS} lines a frame, found {len(rows)} lines")
    return in_order(rows[:, :3].reshape(-1, JOINTS, 3))


FILES = ClipFiles(
    suffix=".txt",
    layout="msr-action3d",
    expected=f"a01_s01_e01_skeleton3D.txt, of actions 1 … {len(ACTIONS)}",
    parse_name=parse_name,
    parse_clip=parse_clip,
    limit=MAX_FILE_BYTES,
)


def prepare_msr_action3d(out: Path, source: Path, workers: int | None = None) -> Dataset:
    """Prepare MSR-Action3D, cross-subject, from its skeleton files (a01_s01_e01_skeleton3D.txt …).

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: folder with the files or with a .zip of them (searched to its depths), or the .zip.
        workers: processes that read files; as many as there are cores, if not given.
    """
    return FILES.prepare(out, source, workers, name="msr-action3d", classes=ACTIONS)


MSR_ACTION3D = Format(
    name="msr-action3d",
    summary="Prepare MSR-Action3D from its .txt files.",
    example="ikem-fast prepare msr-action3d --source MSRAction3DSkeletonReal3D --out data/msr",
    prepare=prepare_msr_action3d,
    detect=FILES.detect,
    read=FILES.read,
    layout=FILES.layout,
)
