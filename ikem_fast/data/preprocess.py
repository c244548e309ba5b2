"""From raw clips to what the encoders see: centered, resampled to a fixed length, shoulders along x.

A clip's **true frame count** f, which scales the temporal derivatives (s = T / f), has one definition: the
number of frames that hold body 0. Those frames, in order, are resampled.

What is computed is `ikem_fast.ops.preprocess_clips`; here it takes and gives arrays, without importing torch
where the extension is built, so that the processes that prepare a dataset stay small.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ikem_fast.errors import printable
from ikem_fast.skeleton import MAX_COORDINATE, Layout, get_layout

try:
    from ikem_fast import _skeleton_io
except ImportError:  # installed without a compiler
    _skeleton_io = None

NUM_FRAMES = 50


class Clip(NamedTuple):
    """A preprocessed clip.

    coordinates: (3, T, V, M) float32.
    frames: its true frame count.
    """

    coordinates: np.ndarray
    frames: int


@dataclass(frozen=True)
class Skipped:
    """Why there is no clip; `of` makes it of an error."""

    reason: str

    @classmethod
    def of(cls, error: Exception) -> "Skipped":
        """Take an error's message, cut and escaped, since it may quote what stands in a file."""
        return cls(printable(error))


def preprocess_clip(
    raw: np.ndarray, *, frames: int = NUM_FRAMES, layout: str | Layout = "ntu-rgb+d"
) -> np.ndarray:
    """Preprocess one clip as the published code does before training (CrosSCLR's and IKEM's recipe).

    Subtract the layout's root joint per frame and body; resample the frames that hold body 0 linearly to
    `frames`, with half-pixel centers, as an image resize; turn every frame of every body about y so that the
    shoulders lie along x. `ikem_fast.ops.preprocess_clips` has the formulas.

    Args:
        raw: (3, F, V, M) array or tensor, M ≥ 1 bodies; empty bodies are zero and stay zero.
        frames: how many to resample to.
        layout: name of the joint layout, or a `skeleton.Layout`.

    Returns:
        (3, frames, V, M) float32 numpy.

    Raises:
        ValueError: raw has another shape, a coordinate that is NaN, infinite or absurdly large, or no frame
            with body 0; or frames or layout are wrong.

    Example:
        preprocess_clip(read_skeleton("S001C001P001R001A001.skeleton").clip())  # (3, 50, 25, 2)
    """
    (result,) = preprocess_clips([raw], frames=frames, layout=layout)
    if isinstance(result, Skipped):
        raise ValueError(f"raw: {result.reason}")
    return result.coordinates


def preprocess_clips(
    raws: Iterable[np.ndarray], *, frames: int = NUM_FRAMES, layout: str | Layout = "ntu-rgb+d"
) -> list[Clip | Skipped]:
    """Preprocess any number of raw clips at once, each of a length and with bodies of its own.

    Args:
        raws: raw clips as `preprocess_clip` takes them.
        frames, layout: as there.

    Returns:
        For each raw clip the `Clip`, or `Skipped` with the reason why there is none.

    Raises:
        ValueError: frames or layout are wrong.

    Example:
        for result in preprocess_clips(raws, layout="kinect-v1"):
            print(result.reason if isinstance(result, Skipped) else result.frames)
    """
    layout = get_layout(layout)
    if frames < 1:
        raise ValueError(f"frames: expected at least 1, found {frames}")
    arrays = [_as_array(raw) for raw in raws]
    problems = [_problem_with_shape(array, layout) for array in arrays]
    results: dict[int, Clip | Skipped] = {row: found for row, found in enumerate(problems) if found}
    usable = [row for row in range(len(arrays)) if row not in results]
    for kind in {(arrays[row].dtype, arrays[row].shape[3]) for row in usable}:
        rows = [row for row in usable if (arrays[row].dtype, arrays[row].shape[3]) == kind]
        clips, true_frames = _compute([arrays[row] for row in rows], frames, layout)
        for row, clip, count in zip(rows, clips, true_frames.tolist(), strict=True):
            results[row] = Clip(clip, count) if count > 0 else _problem_with_values(arrays[row], count)
    return [results[row] for row in range(len(arrays))]


def interpolate_damaged(raw: np.ndarray) -> np.ndarray:
    """Replace unusable coordinates (NaN, infinite, absurdly large) by what lies between their neighbors.

    Each is interpolated linearly over the frames in which the body is there and the coordinate usable; beyond
    the first or last of those it is held. A joint that is never usable stays as it is.

    Args:
        raw: (3, F, V, M); it is not changed.

    Returns:
        The same shape and dtype.
    """
    usable = np.abs(raw) < MAX_COORDINATE
    if usable.all():
        return raw
    raw = raw.copy()
    there = (raw != 0).any(axis=(0, 2))  # (F, M)
    for c, v, m in np.argwhere(~usable.all(axis=1)):
        track, known = raw[c, :, v, m], usable[c, :, v, m]
        support = np.flatnonzero(known & there[:, m])
        if len(support):
            track[~known] = np.interp(np.flatnonzero(~known), support, track[support])
    return raw


def _as_array(raw):
    """raw as a float64 array if it holds numbers as wide as that, else as float32."""
    raw = np.asarray(raw.detach().cpu() if hasattr(raw, "detach") else raw)
    wide = np.result_type(raw.dtype, np.float32).itemsize >= 8
    return raw.astype(np.float64 if wide else np.float32, copy=False)


def _problem_with_shape(raw, layout):
    joints = layout.num_joints
    if raw.ndim == 4 and raw.shape[0] == 3 and raw.shape[2] == joints and raw.shape[3] >= 1:
        return None
    return Skipped(f"expected shape (3, F, {joints}, M) for layout {layout.name}, found {raw.shape}")


def _problem_with_values(raw, count):
    if count == 0:
        return Skipped(f"expected a body, found none in any of {raw.shape[1]} frames")
    usable = np.abs(raw) < MAX_COORDINATE
    return Skipped(
        f"expected coordinates below {MAX_COORDINATE:g} in magnitude, found NaN, infinity or more "
        f"in frame {int(np.argmin(usable.all(axis=(0, 2, 3))))}"
    )


def _compute(raws, frames, layout):
    """(N,3,T,V,M) float32 and (N,) of arrays of one dtype and number of bodies."""
    if _skeleton_io:
        return _skeleton_io.preprocess(raws, frames, layout.root, *layout.shoulders)
    import torch

    from ikem_fast import ops

    lengths = torch.tensor([raw.shape[1] for raw in raws])
    packed = torch.from_numpy(np.concatenate(raws, axis=1))
    clips, true_frames = ops.preprocess_clips(packed, lengths, frames=frames, layout=layout)
    return clips.numpy(), true_frames.numpy()
