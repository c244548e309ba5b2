"""The steps from a raw clip to a preprocessed one in numpy, each as a setting chooses it.

What the defaults do is computed by `ops.preprocess_clips`, in one pass and C++; the same steps are here for
the other choices, and tests hold the two together.
"""

import numpy as np

from ikem_fast.data.centering import bodies_there, centered, has_pair
from ikem_fast.data.conversion import convert
from ikem_fast.data.preparation import Preprocessing
from ikem_fast.skeleton import MAX_COORDINATE, Layout, find_layout

MAX_FRAMES = 1 << 20  # that a clip is brought to
PYSKL_SEED = 255  # of its frames for tests


def before(raw: np.ndarray, rate: float | None, layout: Layout, choice: Preprocessing) -> np.ndarray:
    """Bring a raw clip (3,F,V,M) of so many frames a second into the form that is then preprocessed.

    Raises ValueError where a frame rate is asked for and not known.
    """
    if choice.damaged == "interpolate":
        raw = interpolated(raw)
    if choice.to_layout is not None:
        raw = convert(raw, layout, find_layout(choice.to_layout))
    if choice.up == "z":
        raw = np.stack((raw[0], raw[2], -raw[1]))
    elif choice.up == "y-down":  # an image's: x to the right, y down
        ahead = 1 if choice.planar else -1  # half a turn about x: what is left stays left
        raw = raw * np.array([1, -1, ahead], raw.dtype)[:, None, None, None]
    if choice.frame_rate is not None:
        known = rate is not None and 0 < rate < np.inf  # files of markers have 0 where they do not say
        rate = rate if known else choice.source_rate
        if rate is None:
            raise ValueError("expected a frame rate in the file, found none; give --source-rate")
        raw = at_rate(raw, rate, choice.frame_rate)
    if choice.num_bodies is not None:
        raw = with_bodies(raw, choice)
    return raw


def interpolated(raw: np.ndarray) -> np.ndarray:
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


def at_rate(raw: np.ndarray, rate: float, wanted: float) -> np.ndarray:
    """Resample a clip to `wanted` frames a second, linearly; a body is there or not, never half."""
    length = raw.shape[1]
    if not length or rate == wanted:
        return raw
    if length * wanted > rate * MAX_FRAMES:
        raise ValueError(f"expected at most {MAX_FRAMES} frames at {wanted:g} a second, found more")
    position = np.minimum(np.arange(max(1, round(length * wanted / rate))) * (rate / wanted), length - 1)
    first = position.astype(int)
    second = np.minimum(first + 1, length - 1)
    there = (raw != 0).any(axis=(0, 2))  # (F, M)
    weight = (position - first)[:, None] * np.ones(raw.shape[3])
    weight = np.where(there[first] & there[second], weight, weight > 0.5)
    return raw[:, first] + (raw[:, second] - raw[:, first]) * weight[:, None].astype(raw.dtype)


def with_bodies(raw: np.ndarray, choice: Preprocessing) -> np.ndarray:
    """Keep as many bodies as are asked for; empty ones are added where there are fewer."""
    missing = choice.num_bodies - raw.shape[3]
    if missing >= 0:
        return np.pad(raw, [(0, 0)] * 3 + [(0, missing)]) if missing else raw
    order = np.arange(raw.shape[3])
    if choice.bodies_by == "motion":
        order = np.argsort([-_motion_energy(raw[..., m]) for m in order], kind="stable")
    return raw[..., order[: choice.num_bodies]]


def _motion_energy(body: np.ndarray) -> float:
    """Of one body (3,F,V): squared distances of its joints from their means, over the frames that hold it."""
    there = body[:, (body != 0).any(axis=(0, 2))]
    if not there.shape[1]:
        return -1.0
    return float(np.square(there - there.mean(axis=1, keepdims=True), dtype=np.float64).sum())


def frames_of_body(raw: np.ndarray) -> np.ndarray:
    """Find the frames that hold body 0: by its first joint, or where that is at zero throughout by any."""
    first = (raw[:, :, 0, 0] != 0).any(axis=0)
    return np.flatnonzero(first if first.any() else (raw[..., 0] != 0).any(axis=(0, 2)))


def sample(raw: np.ndarray, choice: Preprocessing) -> tuple[np.ndarray, int]:
    """Resample a clip whose frames all hold body 0 to T frames.

    Returns the clip and its true frame count f: T / f is how much slower it runs than the raw one.
    """
    length, frames = raw.shape[1], choice.frames
    if choice.sampling == "none":
        return raw[:, np.minimum(np.arange(frames), length - 1)], frames
    if choice.sampling == "uniform":
        return raw[:, uniform_frames(length, frames)], max(length, frames)
    position = ((np.arange(frames) + 0.5) * (length / frames) - 0.5).clip(0, length - 1)
    first = position.astype(int)
    weight = (position - first).astype(raw.dtype)[:, None, None]
    start = raw[:, first]
    return start + (raw[:, np.minimum(first + 1, length - 1)] - start) * weight, length


def uniform_frames(length: int, frames: int) -> np.ndarray:
    """Draw one frame out of each of T equal parts: (T,) int, the same for every clip of that length.

    A clip of fewer frames begins anew; one of less than 2 T leaves some out. Source: PYSKL's, for tests.
    """
    draw = np.random.RandomState(PYSKL_SEED)
    if length < frames:
        return np.arange(frames) % length
    if length < 2 * frames:
        left_out = np.zeros(frames + 1, dtype=int)
        left_out[draw.choice(frames + 1, length - frames, replace=False)] = 1
        return np.arange(frames) + np.cumsum(left_out)[:-1]
    edges = np.array([i * length // frames for i in range(frames + 1)])
    return edges[:-1] + draw.randint(np.diff(edges))


def pose(x: np.ndarray, layout: Layout, choice: Preprocessing) -> np.ndarray:
    """Center and turn a resampled clip (3,T,V,M) as chosen; a score in the third place stays."""
    there = bodies_there(x)
    posed = centered(x, layout, choice)
    if choice.align != "none":
        cos, sin = _turns(posed, there, layout, choice)
        posed = np.stack((cos * posed[0] - sin * posed[2], posed[1], sin * posed[0] + cos * posed[2]))
    return posed


def _turns(x, there, layout, choice):
    """Cosine and sine of how each body of each frame is turned about y: (T, 1, M), or one for the clip."""
    right, left = layout.shoulders
    across = (x[:, :, right] - x[:, :, left]).astype(np.float64)  # (3, T, M)
    if choice.align == "frame":
        cos = across[0] / (np.sqrt(across[0] ** 2 + across[2] ** 2) + 1e-4)
        sin = np.sqrt(1 - cos * cos) * np.where(across[2].sum(axis=0) >= 0, -1, 1)
        return cos.astype(x.dtype)[:, None], sin.astype(x.dtype)[:, None]
    candidates = [across[..., 0]]  # (3, T) each
    if choice.align == "pair" and x.shape[3] > 1:
        roots = x[:, :, layout.root].astype(np.float64)  # (3, T, M)
        candidates.insert(0, np.where(has_pair(there), roots[..., 1] - roots[..., 0], 0))
    for along in candidates:
        width = np.hypot(along[0], along[2])
        if (known := np.flatnonzero(width > 0)).size:
            first = known[0]
            return tuple(x.dtype.type(part / width[first]) for part in (along[0, first], -along[2, first]))
    return x.dtype.type(1), x.dtype.type(0)


def scaled(x: np.ndarray, layout: Layout, choice: Preprocessing) -> np.ndarray:
    """Scale a clip (3,T,V,M) as chosen."""
    factor = choice.scale
    if choice.reach is not None:
        body = x[: 2 if choice.planar else 3, :, :, 0]
        reaches = np.sqrt(np.square(body - body[:, :, layout.root, None]).sum(0)).max(1)  # (T,)
        found = float(np.median(reaches[reaches > 0])) if (reaches > 0).any() else 1.0
        factor = choice.reach / found
    if factor == 1:
        return x
    axes = np.array([factor, factor, 1 if choice.planar else factor], x.dtype)
    return x * axes[:, None, None, None]
