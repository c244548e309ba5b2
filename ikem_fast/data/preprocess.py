"""From raw clips to what the encoders see: centred, resampled to a fixed length, shoulders along x.

A clip's **true frame count** f, which scales the temporal derivatives (s = T / f), has one definition: the
number of frames that hold body 0. Those frames, in order, are resampled.

What is computed is `ikem_fast.ops.preprocess_clips`; here it takes and gives arrays, without importing torch
where the extension is built, so that the processes that prepare a dataset stay small.
"""

import numpy as np

from ikem_fast.skeleton import get_layout

try:
    from ikem_fast import _skeleton_io
except ImportError:  # installed without a compiler
    _skeleton_io = None

NUM_FRAMES = 50
MAX_COORDINATE = 1e9  # as in ikem_fast.ops


def preprocess_clip(raw, *, frames=NUM_FRAMES, layout="ntu-rgb+d"):
    """Preprocess one clip as the published code does before training (CrosSCLR's and IKEM's recipe).

    Subtract the layout's root joint per frame and body; resample the frames that hold body 0 linearly to
    `frames`, with half-pixel centres, as an image resize; turn every frame of every body about y so that the
    shoulders lie along x. `ikem_fast.ops.preprocess_clips` has the formulas.

    raw: (3, F, V, M) array or tensor, M ≥ 1 bodies; empty bodies are zero and stay zero.
    Returns (3, frames, V, M) float32 numpy.
    Raises ValueError if raw has another shape, a coordinate that is NaN, infinite or absurdly large, or no
    frame with body 0.
    """
    (result,) = preprocess_clips([raw], frames=frames, layout=layout)
    if isinstance(result, ValueError):
        raise result
    return result[0]


def preprocess_clips(raws, *, frames=NUM_FRAMES, layout="ntu-rgb+d"):
    """The same for any number of clips at once, each of a length of its own, all with the same bodies.

    raws: an iterable of raw clips as `preprocess_clip` takes them.
    Returns a list: for each raw clip (clip (3, frames, V, M) float32 numpy, true frame count), or the
    ValueError that says why there is none.
    Raises ValueError if frames or layout are wrong.
    """
    layout = get_layout(layout)
    if frames < 1:
        raise ValueError(f"frames: expected at least 1, found {frames}")
    results = [_checked(raw, layout) for raw in raws]
    kinds = {(raw.dtype, raw.shape[3]) for raw in results if not isinstance(raw, ValueError)}
    for kind in kinds:
        rows = [
            row
            for row, raw in enumerate(results)
            if isinstance(raw, np.ndarray) and (raw.dtype, raw.shape[3]) == kind
        ]
        clips, true_frames = _preprocess([results[row] for row in rows], frames, layout)
        for row, clip, count in zip(rows, clips, true_frames.tolist(), strict=True):
            results[row] = (clip, count) if count > 0 else _why_not(results[row], count)
    return results


def _checked(raw, layout):
    """raw as a float32 or float64 array of the right shape, or a ValueError."""
    raw = np.asarray(raw.detach().cpu() if hasattr(raw, "detach") else raw)
    joints = layout.num_joints
    if raw.ndim != 4 or raw.shape[0] != 3 or raw.shape[2] != joints or raw.shape[3] < 1:
        return ValueError(
            f"raw: expected shape (3, F, {joints}, M) for layout {layout.name}, found {raw.shape}"
        )
    wide = np.result_type(raw.dtype, np.float32).itemsize >= 8
    return raw.astype(np.float64 if wide else np.float32, copy=False)


def _preprocess(raws, frames, layout):
    """(N,3,T,V,M) float32 and (N,) of arrays of one dtype and number of bodies."""
    if _skeleton_io:
        return _skeleton_io.preprocess(raws, frames, layout.root, *layout.shoulders)
    import torch

    from ikem_fast import ops

    lengths = torch.tensor([raw.shape[1] for raw in raws])
    packed = torch.from_numpy(np.concatenate(raws, axis=1))
    clips, true_frames = ops.preprocess_clips(packed, lengths, frames=frames, layout=layout)
    return clips.numpy(), true_frames.numpy()


def _why_not(raw, count):
    if count == 0:
        return ValueError(f"raw: expected a body, found none in any of {raw.shape[1]} frames")
    usable = np.abs(raw) < MAX_COORDINATE
    return ValueError(
        f"raw: expected coordinates below {MAX_COORDINATE:g} in magnitude, found NaN, infinity or more "
        f"in frame {int(np.argmin(usable.all(axis=(0, 2, 3))))}"
    )
