"""Clips of one joint layout in another."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ikem_fast.data.centering import centered
from ikem_fast.data.dataset import Dataset, Split
from ikem_fast.data.preparation import Preprocessing
from ikem_fast.skeleton import Layout, find_layout
from ikem_fast.skeleton.correspondence import joint_weights


def convert(clips: np.ndarray, source: str | Path | Layout, target: str | Path | Layout) -> np.ndarray:
    """Bring clips, raw or preprocessed, into another layout; coordinates stay where they are.

    Joints are found by their names and by the rules of `skeleton.joint_weights`: the pelvis of a layout that
    has none is between its hips, a missing hand is where the wrist is.

    Args:
        clips: (…, V, M) of any dtype, such as (3,F,V,M) or (N,3,T,V,M), in the layout `source`.
        source, target: layouts, or names or files of them.

    Returns:
        (…, V', M) of the same dtype; floats where joints are between others.

    Raises InputError for a layout that is unknown or has no joint of the other, ValueError for another V.

    Example:
        convert(np.ones((1, 3, 50, 20, 1)), "kinect-v1", "ntu-rgb+d").shape  # (1, 3, 50, 25, 1)
    """
    source, target = find_layout(source), find_layout(target)
    clips = np.asarray(clips)
    if clips.ndim < 2 or clips.shape[-2] != source.num_joints:
        raise ValueError(
            f"clips: expected (…, V={source.num_joints}, M) for layout {source.name!r}, found {clips.shape}"
        )
    weights = joint_weights(source, target)
    converted = clips[..., weights.argmax(1), :]
    between = np.flatnonzero(weights.max(1) < 1)
    if len(between):
        dtype = np.result_type(clips.dtype, np.float16)
        converted = converted.astype(dtype, copy=False)
        converted[..., between, :] = np.einsum(
            "...vm,wv->...wm", clips.astype(np.promote_types(dtype, np.float32)), weights[between]
        )
    return converted


def convert_clips(
    clips: np.ndarray,
    source: str | Path | Layout,
    target: str | Path | Layout,
    bodies: int | None = None,
    choice: Preprocessing | None = None,
) -> np.ndarray:
    """Bring preprocessed clips into another layout, centered as they were by the other one's root.

    Joints are found as `convert` finds them. Bodies beyond `bodies` are left out, missing ones are zero.

    Args:
        clips: (N,3,T,V,M) float32 in the layout `source`.
        source, target: layouts, or names or files of them.
        bodies: M of the result; as it is, if not given.
        choice: how the clips were preprocessed; by the defaults, frame by frame, if not given.

    Returns:
        (N,3,T,V',M') float32.

    Raises InputError for a layout that is unknown or has no joint of the other.

    Example:
        convert_clips(np.ones((1, 3, 50, 20, 1)), "kinect-v1", "ntu-rgb+d").shape  # (1, 3, 50, 25, 1)
    """
    layout = find_layout(target)
    converted = convert(clips, source, layout)
    for place, clip in enumerate(converted):
        converted[place] = centered(clip, layout, choice or Preprocessing())
    missing = (bodies or converted.shape[-1]) - converted.shape[-1]
    if missing > 0:
        return np.pad(converted, [(0, 0)] * 4 + [(0, missing)])
    return converted[..., :bodies]


def convert_dataset(dataset: Dataset, layout: str | Path | Layout, bodies: int | None = None) -> Dataset:
    """Bring a dataset into another layout: its clips in memory, what is known of them as it is.

    Raises InputError as `convert_clips` does.

    Example:
        convert_dataset(open_dataset("data/nw_ucla"), "utd-mhad").layout  # "utd-mhad"
    """
    target = find_layout(layout)
    bodies = bodies or dataset.num_bodies
    if (target, bodies) == (dataset.skeleton, dataset.num_bodies):
        return dataset

    def converted(split: Split) -> Split:
        return replace(
            split, clips=convert_clips(split.clips, dataset.skeleton, target, bodies, dataset.preprocessing)
        )

    splits = {name: converted(split) for name, split in dataset.splits.items()}
    return replace(dataset, skeleton=target, num_bodies=bodies, splits=splits)
