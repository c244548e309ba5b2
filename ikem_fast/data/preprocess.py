"""From a raw clip to what the encoders see: centred, resampled to a fixed length, shoulders along x.

A clip's **true frame count** f, which scales the temporal derivatives (s = T / f), has one definition: the
number of frames that hold body 0, as `valid_frames` finds them. Those frames, in order, are resampled.
"""

import numpy as np

from ikem_fast.skeleton import get_layout

NUM_FRAMES = 50
MAX_COORDINATE = 1e9  # whatever the unit; keeps every later product finite in float32


def valid_frames(raw):
    """(F,) bool: frames of a raw clip (3, F, V, M) that hold body 0, that is, whose first joint is not zero.

    Where that joint is zero throughout although the body is there (coordinates that were centred on it
    beforehand), a frame is valid if any joint of body 0 is not zero.
    """
    first = raw[:, :, 0, 0].any(axis=0)
    return first if first.any() else raw[:, :, :, 0].any(axis=(0, 2))


def preprocess_clip(raw, *, frames=NUM_FRAMES, layout="ntu-rgb+d"):
    """Preprocess one clip as the published code does before training (CrosSCLR's and IKEM's recipe).

    Subtract the layout's root joint per frame and body; resample the valid frames (`valid_frames`) linearly
    to `frames`, with half-pixel centres, as an image resize; turn every frame of every body about y by
    θ = ∓arccos(x / (‖(x, z)‖ + 1e-4)), (x, y, z) being the vector from the left to the right shoulder, so
    that the shoulders lie along x. The sign is − where z sums to ≥ 0 over the resampled clip, else +.

    raw: (3, F, V, M) array or tensor, M ≥ 1 bodies; empty bodies are zero and stay zero.
    Returns (3, frames, V, M) float32 numpy.
    Raises ValueError if raw has another shape, a coordinate that is NaN, infinite or absurdly large, or no
    frame with body 0.
    """
    layout = get_layout(layout)
    raw = np.asarray(raw.detach().cpu() if hasattr(raw, "detach") else raw)
    raw = raw.astype(np.result_type(raw.dtype, np.float32), copy=False)
    joints = layout.num_joints
    if raw.ndim != 4 or raw.shape[0] != 3 or raw.shape[2] != joints or raw.shape[3] < 1:
        raise ValueError(
            f"raw: expected shape (3, F, {joints}, M) for layout {layout.name}, found {raw.shape}"
        )
    if frames < 1:
        raise ValueError(f"frames: expected at least 1, found {frames}")
    bodies = np.ascontiguousarray(raw.transpose(3, 0, 1, 2))  # (M, 3, F, V): long inner axes from here on
    if bodies.size and not (
        bodies.max() < MAX_COORDINATE and bodies.min() > -MAX_COORDINATE
    ):  # NaN is neither
        usable = np.abs(raw) < MAX_COORDINATE
        raise ValueError(
            f"raw: expected coordinates below {MAX_COORDINATE:g} in magnitude, found NaN, infinity or more "
            f"in frame {int(np.argmin(usable.all(axis=(0, 2, 3))))}"
        )
    valid = valid_frames(raw)
    if not valid.any():
        raise ValueError(f"raw: expected a body, found none in any of {raw.shape[1]} frames")
    if not valid.all():
        bodies = bodies[:, :, valid]
    clip = np.zeros((3, frames, joints, raw.shape[3]), dtype=np.float32)
    present = bodies.any(axis=(1, 2, 3))
    resampled = _resample(bodies[present], frames)
    resampled -= resampled[..., layout.root, None]  # the same before or after a linear resampling
    clip[..., present] = _align(resampled, layout).transpose(1, 2, 3, 0)
    return clip


def _resample(bodies, frames):
    """(M, 3, F, V) → (M, 3, frames, V): linear, half-pixel centres, the edge frames held."""
    length = bodies.shape[2]
    position = (np.arange(frames) + 0.5) * (length / frames) - 0.5
    position = position.clip(0, length - 1)
    before = position.astype(np.intp)  # floor: positions are not negative
    after = np.minimum(before + 1, length - 1)
    weight = (position - before).astype(bodies.dtype)[:, None]
    start = bodies.take(before, axis=2)
    return start + (bodies.take(after, axis=2) - start) * weight


def _align(bodies, layout):
    """Turn each frame of each body (M, 3, T, V) about y until the shoulders lie along x."""
    right, left = layout.shoulders
    across = (bodies[..., right] - bodies[..., left]).astype(np.float64)  # (M, 3, T)
    x, z = across[:, 0], across[:, 2]
    cos = x / (np.hypot(x, z) + 1e-4)
    sin = np.sqrt(1 - cos * cos)  # of the angle whose cosine that is
    sin *= np.where(z.sum(axis=1, keepdims=True) >= 0, -1, 1)
    cos, sin = cos.astype(bodies.dtype)[..., None], sin.astype(bodies.dtype)[..., None]  # (M, T, 1)
    x, y, z = bodies[:, 0], bodies[:, 1], bodies[:, 2]
    return np.stack((cos * x - sin * z, y, sin * x + cos * z), axis=1)
