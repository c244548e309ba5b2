"""From raw clips to what the encoders see: centered, resampled to a fixed length, shoulders along x.

A clip's **true frame count** f, which scales the temporal derivatives (s = T / f), has one definition: the
number of frames that hold body 0. Those frames, in order, are resampled.

By default what is computed is `ikem_fast.ops.preprocess_clips`; here it takes and gives arrays, without
importing torch where the extension is built, so that the processes that prepare a dataset stay small. Other
choices (`data.preparation`) are computed by `data.steps`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ikem_fast.data import steps
from ikem_fast.data.native import _skeleton_io
from ikem_fast.data.preparation import NUM_FRAMES, Preprocessing
from ikem_fast.errors import printable
from ikem_fast.skeleton import MAX_COORDINATE, Layout, get_layout


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


class RawClip(NamedTuple):
    """A raw clip and what is known of it beside its coordinates.

    coordinates: (3, F, V, M).
    frame_rate: frames a second; None where the file does not say.
    layout: name of its joint layout; None where the format does not say.
    """

    coordinates: np.ndarray
    frame_rate: float | None = None
    layout: str | None = None


def preprocess_clip(
    raw: np.ndarray | RawClip,
    *,
    frames: int = NUM_FRAMES,
    layout: str | Layout = "ntu-rgb+d",
    preprocessing: Preprocessing | None = None,
) -> np.ndarray:
    """Preprocess one clip; by default as the published code does before training (CrosSCLR's and IKEM's).

    By default: subtract the layout's root joint per frame and body; resample the frames that hold body 0
    linearly to `frames`, with half-pixel centers, as an image resize; turn every frame of every body about y
    so that the shoulders lie along x. `ikem_fast.ops.preprocess_clips` has the formulas.

    Args:
        raw: (3, F, V, M) array or tensor, M ≥ 1 bodies; empty bodies are zero and stay zero.
        frames: how many to resample to, where `preprocessing` does not say.
        layout: name of the joint layout, or a `skeleton.Layout`.
        preprocessing: other choices than the default.

    Returns:
        (3, frames, V, M) float32 numpy.

    Raises:
        ValueError: raw has another shape, a coordinate that is NaN, infinite or absurdly large, or no frame
            with body 0; or frames or layout are wrong.

    Example:
        preprocess_clip(read_skeleton("S001C001P001R001A001.skeleton").clip())  # (3, 50, 25, 2)
    """
    (result,) = preprocess_clips([raw], frames=frames, layout=layout, preprocessing=preprocessing)
    if isinstance(result, Skipped):
        raise ValueError(f"raw: {result.reason}")
    return result.coordinates


def preprocess_clips(
    raws: Iterable[np.ndarray | RawClip],
    *,
    frames: int = NUM_FRAMES,
    layout: str | Layout = "ntu-rgb+d",
    preprocessing: Preprocessing | None = None,
) -> list[Clip | Skipped]:
    """Preprocess any number of raw clips at once, each of a length and with bodies of its own.

    Args:
        raws: raw clips as `preprocess_clip` takes them.
        frames, layout, preprocessing: as there.

    Returns:
        For each raw clip the `Clip`, or `Skipped` with the reason why there is none.

    Raises:
        ValueError: frames, layout or preprocessing are wrong.

    Example:
        for result in preprocess_clips(raws, layout="kinect-v1"):
            print(result.reason if isinstance(result, Skipped) else result.frames)
    """
    layout = get_layout(layout)
    if frames < 1:
        raise ValueError(f"frames: expected at least 1, found {frames}")
    choice = preprocessing or Preprocessing()
    choice = choice if choice.frames else replace(choice, frames=frames)
    target = choice.layout(layout)
    results: dict[int, Clip | Skipped] = {}
    arrays = {}
    for row, raw in enumerate(raws):
        rate = raw.frame_rate if isinstance(raw, RawClip) else None
        array = _as_array(raw.coordinates if isinstance(raw, RawClip) else raw)
        problem = _problem_with_shape(array, layout)
        try:
            arrays[row] = array if problem else steps.before(array, rate, layout, choice)
        except ValueError as error:
            problem = Skipped.of(error)
        if problem:
            results[row] = problem
    usable = [row for row in arrays if row not in results]
    compute = _compute if _is_published(choice) else _compute_chosen
    for kind in {(arrays[row].dtype, arrays[row].shape[3]) for row in usable}:
        rows = [row for row in usable if (arrays[row].dtype, arrays[row].shape[3]) == kind]
        clips, true_frames = compute([arrays[row] for row in rows], choice, target)
        for row, clip, count in zip(rows, clips, true_frames, strict=True):
            results[row] = (
                Clip(steps.scaled(clip, target, choice), count)
                if count > 0
                else _problem_with_values(arrays[row], count)
            )
    return [results[row] for row in range(len(results))]


def _as_array(raw):
    """raw as a float64 array if it holds numbers as wide as that, else as float32."""
    raw = np.asarray(raw.detach().cpu() if hasattr(raw, "detach") else raw)
    wide = np.result_type(raw.dtype, np.float32).itemsize >= 8
    return raw.astype(np.float64 if wide else np.float32, copy=False)


def is_bounded(coordinates: np.ndarray) -> bool:
    """Say whether all coordinates are below MAX_COORDINATE in magnitude; NaN is not."""
    if _skeleton_io and coordinates.dtype == np.float32 and coordinates.flags.c_contiguous:
        return _skeleton_io.all_within(coordinates, MAX_COORDINATE)
    return bool((np.abs(coordinates) < MAX_COORDINATE).all())


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


def _is_published(choice):
    """Whether what `ops.preprocess_clips` computes is what is asked for."""
    return (choice.sampling, choice.center, choice.align, choice.planar) == (
        "linear",
        "frame",
        "frame",
        False,
    )


def _compute(raws, choice, layout):
    """(N,3,T,V,M) float32 and N true frame counts of arrays of one dtype and number of bodies."""
    frames = choice.frames
    if _skeleton_io:
        clips, true_frames = _skeleton_io.preprocess(raws, frames, layout.root, *layout.shoulders)
        return clips, true_frames.tolist()
    import torch

    from ikem_fast import ops

    lengths = torch.tensor([raw.shape[1] for raw in raws])
    packed = torch.from_numpy(np.concatenate(raws, axis=1))
    clips, true_frames = ops.preprocess_clips(packed, lengths, frames=frames, layout=layout)
    return clips.numpy(), true_frames.tolist()


def _compute_chosen(raws, choice, layout):
    """The same for other choices, a clip at a time."""
    clips, true_frames = [], []
    for raw in raws:
        valid = steps.frames_of_body(raw)
        usable = is_bounded(raw)
        x, count = raw[:, :1], len(valid)
        if usable and count:
            x, count = steps.sample(raw[:, valid], choice)
            x = steps.pose(x, layout, choice)
        clips.append(x.astype(np.float32))
        true_frames.append(count if usable else -1)
    return clips, true_frames
