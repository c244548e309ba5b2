"""Prepared clips of one joint layout in another."""

from dataclasses import replace

import numpy as np

from ikem_fast.data.dataset import Dataset, Split
from ikem_fast.errors import InputError
from ikem_fast.skeleton import get_layout, joint_sources


def convert_clips(clips: np.ndarray, source: str, target: str, bodies: int | None = None) -> np.ndarray:
    """Bring preprocessed clips into another layout.

    Joints are found by their names (`skeleton.joint_sources`); coordinates are taken from the target's root
    again. Bodies beyond `bodies` are left out, missing ones are zero.

    Args:
        clips: (N,3,T,V,M) float32 in the layout `source`.
        source, target: names of layouts.
        bodies: M of the result; as it is, if not given.

    Returns:
        (N,3,T,V',M') float32.

    Raises InputError for a layout that is unknown or has no joint of the other.

    Example:
        convert_clips(np.ones((1, 3, 50, 20, 1)), "kinect-v1", "ntu-rgb+d").shape  # (1, 3, 50, 25, 1)
    """
    try:
        joints, root = list(joint_sources(source, target)), get_layout(target).root
    except ValueError as error:
        raise InputError(str(error)) from None
    converted = np.asarray(clips)[..., joints, :]
    converted = converted - converted[..., root : root + 1, :]
    missing = (bodies or converted.shape[-1]) - converted.shape[-1]
    if missing > 0:
        return np.pad(converted, [(0, 0)] * 4 + [(0, missing)])
    return converted[..., :bodies]


def convert_dataset(dataset: Dataset, layout: str, bodies: int | None = None) -> Dataset:
    """Bring a dataset into another layout: its clips in memory, what is known of them as it is.

    Raises InputError as `convert_clips` does.

    Example:
        convert_dataset(open_dataset("data/nw_ucla"), "utd-mhad").layout  # "utd-mhad"
    """
    bodies = bodies or dataset.num_bodies
    if (layout, bodies) == (dataset.layout, dataset.num_bodies):
        return dataset

    def converted(split: Split) -> Split:
        return replace(split, clips=convert_clips(split.clips, dataset.layout, layout, bodies))

    splits = {name: converted(split) for name, split in dataset.splits.items()}
    return replace(dataset, layout=layout, num_bodies=bodies, splits=splits)
