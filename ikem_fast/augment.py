"""Batched augmentations of clips: plain functions of explicit parameters, on the clips' own device.

Clips are (N,3,T,V,M): coordinates, frames, joints, bodies; every clip of a batch has parameters of its own.

- `shear`, `rotate`, `flip`, … apply parameters that are given. They draw nothing and are differentiable.
- `draw_*` draw parameters from a `torch.Generator`, so that a run can be repeated and resumed. A generator
  on the CPU serves clips on any device and gives them the same parameters there.
- `random_*` do both, and `Compose` chains them into a recipe.

Shear, rotation, scaling (a matrix for each clip) and `temporal_crop` cost nothing extra when they are given
to `ikem_fast.ops.derive_modalities` instead.
"""

import math

import torch

from ikem_fast.skeleton import get_layout

BLUR_TAPS = 15


# Space


def shear(x, matrix):
    """Multiply the coordinates of each clip by a matrix of its own: x' = M x.

    Written as products and sums, not as a matrix product, so that neither autocast nor TF32 touches it.

    Args:
        x: (N,3,T,V,M).
        matrix: (N,3,3).

    Returns:
        (N,3,T,V,M) in the dtype of x.
    """
    matrix = matrix.to(x.dtype)[..., None, None, None]
    return sum(matrix[:, :, c] * x[:, None, c] for c in range(3))


def rotate(x, angles):
    """Turn each clip about the x axis, then y, then z, by angles (N,3) in radians."""
    return shear(x, rotation_matrix(angles))


def rotation_matrix(angles):
    """(N,3) angles in radians about x, then y, then z → (N,3,3), for `shear` or `derive_modalities`."""
    (sx, sy, sz), (cx, cy, cz) = angles.sin().unbind(1), angles.cos().unbind(1)
    rows = (
        (cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz),
        (cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz),
        (-sy, sx * cy, cx * cy),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], 1)


def scale(x, factor):
    """Multiply each clip by a factor: (N,), or (N,3) with one for each coordinate."""
    return x * factor.to(x.dtype)[(..., *(None,) * (5 - factor.dim()))]


def flip(x, flipped, layout="ntu-rgb+d"):
    """Mirror clips left to right: the first coordinate changes its sign, and paired joints their places.

    Args:
        x: (N,3,T,V,M).
        flipped: (N,) bool, which clips to mirror.
        layout: name of a joint layout, or a `skeleton.Layout`, that says which joints are pairs.

    Raises:
        ValueError: the layout has no left and right.
    """
    layout = get_layout(layout)
    if layout.swap is None:
        raise ValueError(f"layout: {layout.name!r} does not say which joints are left and right")
    swap = torch.tensor(layout.swap, device=x.device)
    mirrored = x.index_select(3, swap) * x.new_tensor((-1, 1, 1)).view(3, 1, 1, 1)
    return torch.where(_per_clip(flipped), mirrored, x)


def add_noise(x, noise):
    """Add noise (N,3,T,V,M) to the bodies that are there; empty bodies (all 0) stay empty."""
    there = (x != 0).any(3, keepdim=True).any(2, keepdim=True).any(1, keepdim=True)
    return x + noise * there


def mask_axes(x, masked):
    """Set coordinates to 0: masked (N,3) bool."""
    return x.masked_fill(masked[:, :, None, None, None], 0)


def mask_joints(x, masked):
    """Set joints to 0 in every frame: masked (N,V) bool."""
    return x.masked_fill(masked[:, None, None, :, None], 0)


# Time


def temporal_crop(x, start, padding):
    """A window of T frames out of each clip padded on both sides by mirrored frames.

    The mirror repeats the edge: the padded clip is frames padding−1 … 0, 0 … T−1, T−1 … T−padding.

    Args:
        x: (N,3,T,V,M).
        start: (N,) integer, first frame of the window in the padded clip, in 0 … 2·padding.
        padding: frames added on each side, 0 … T.

    Returns:
        (N,3,T,V,M).
    """
    T = x.shape[2]
    frame = _mirrored(start[:, None] + torch.arange(-padding, T - padding, device=x.device), T)
    return x.gather(2, _over_frames(frame, x))


def crop_resize(x, start, length):
    """A window of each clip, stretched to T frames by linear interpolation (half-pixel centres).

    Args:
        x: (N,3,T,V,M).
        start: (N,) first frame of the window, ≥ 0, whole or not.
        length: (N,) frames in the window, ≥ 1, with start + length ≤ T.

    Returns:
        (N,3,T,V,M).
    """
    frame = torch.arange(x.shape[2], device=x.device)
    start, length = (v.to(torch.float32)[:, None] for v in (start, length))
    centre = (frame + 0.5) * length / x.shape[2] - 0.5
    at = start + torch.minimum(centre.clamp(min=0), length - 1)
    return _mix_frames(x, (1 - (at[:, :, None] - frame).abs()).clamp(min=0))


def reverse_time(x, reversed_):
    """Play clips backwards: reversed_ (N,) bool."""
    return torch.where(_per_clip(reversed_), x.flip(2), x)


def blur(x, sigma):
    """Gaussian blur over time, 15 taps, of standard deviation sigma (N,) in frames; the ends are mirrored."""
    T = x.shape[2]
    tap = torch.arange(BLUR_TAPS, device=x.device) - BLUR_TAPS // 2
    weight = torch.softmax(-0.5 * (tap / sigma[:, None].clamp(min=1e-3)) ** 2, 1)
    frame = _mirrored(tap[:, None] + torch.arange(T, device=x.device), T)
    reaches = torch.nn.functional.one_hot(frame, T).to(weight.dtype)  # (taps,T,T): tap k at t reads frame j
    return _mix_frames(x, torch.tensordot(weight, reaches, 1))


def mask_frames(x, masked):
    """Set whole frames to 0: masked (N,T) bool."""
    return x.masked_fill(masked[:, None, :, None, None], 0)


# Parameters


def draw_shear(n, amplitude=0.5, *, generator=None, device="cpu"):
    """(n,3,3) matrices with ones on the diagonal and the rest uniform in [−amplitude, amplitude].

    Source: the shear of CrosSCLR and AimCLR. `generator` may live on the CPU or on `device`.
    """
    matrix = draw_uniform((n, 3, 3), -amplitude, amplitude, generator=generator, device=device)
    matrix.diagonal(dim1=1, dim2=2).fill_(1)
    return matrix


def draw_crop_start(n, frames, *, generator=None, device="cpu"):
    """(n,) int64 starts for `temporal_crop` with padding = frames // 6, uniform in 0 … 2·padding.

    frames: T, the number of frames in a clip. `generator` may live on the CPU or on `device`.
    """
    return draw_integers(n, 2 * (frames // 6) + 1, generator=generator, device=device)


def draw_rotation(n, limit=math.pi / 6, *, generator=None, device="cpu"):
    """(n,3) angles in radians: one axis at random turns by up to ±limit, the others stay.

    Source: the rotation of AimCLR, less its tilt of one degree about the other axes.
    """
    axis = draw_integers(n, 3, generator=generator, device=device)
    angle = draw_uniform((n, 1), -limit, limit, generator=generator, device=device)
    return torch.nn.functional.one_hot(axis, 3) * angle


def draw_chosen(n, size, count, *, generator=None, device="cpu"):
    """(n,size) bool with `count` True in each row, anywhere: which joints or frames to mask."""
    order = draw_uniform((n, size), 0, 1, generator=generator, device=device).argsort(1)
    return torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, :count], True)


def draw_limb(n, layout="ntu-rgb+d", *, generator=None, device="cpu"):
    """Draw limbs to mask: (n,V) bool, a joint at random, other than a root, with all that hangs on it.

    Raises ValueError if every joint of the layout is a root.
    """
    layout = get_layout(layout)
    hangs_on = torch.eye(layout.num_joints, dtype=torch.bool)
    for v in range(layout.num_joints):
        joint = v
        while joint not in layout.roots:
            hangs_on[joint, v] = True
            joint = layout.parents[joint]
    limbs = hangs_on[[v for v in range(layout.num_joints) if v not in layout.roots]].to(device)
    if not len(limbs):
        raise ValueError(f"layout: {layout.name!r} has no limbs, only roots")
    return limbs[draw_integers(n, len(limbs), generator=generator, device=device)]


def draw_integers(n, high, *, generator=None, device="cpu"):
    """(n,) int64, uniform in 0 … high−1."""
    source = generator.device if generator is not None else device
    return torch.randint(high, (n,), generator=generator, device=source).to(device, non_blocking=True)


def draw_uniform(size, low, high, *, generator=None, device="cpu"):
    """float32 of a size, uniform in [low, high). Drawn where the generator lives, then moved to `device`."""
    source = generator.device if generator is not None else device
    drawn = torch.rand(size, generator=generator, device=source) * (high - low) + low
    return drawn.to(device, non_blocking=True)


def draw_normal(size, *, generator=None, device="cpu"):
    """float32 of a size, standard normal."""
    source = generator.device if generator is not None else device
    return torch.randn(size, generator=generator, device=source).to(device, non_blocking=True)


# Draw and apply: steps of `Compose`. Each takes clips and a generator, and options with a default.


def random_shear(x, generator=None, *, amplitude=0.5):
    """Shear with off-diagonals in [−amplitude, amplitude]."""
    return shear(x, draw_shear(len(x), amplitude, generator=generator, device=x.device))


def random_rotation(x, generator=None, *, limit=math.pi / 6):
    """Turn about one axis at random by up to ±limit, in radians."""
    return rotate(x, draw_rotation(len(x), limit, generator=generator, device=x.device))


def random_scale(x, generator=None, *, low=0.8, high=1.2):
    """Scale by a factor in [low, high)."""
    return scale(x, draw_uniform((len(x),), low, high, generator=generator, device=x.device))


def random_flip(x, generator=None, *, layout="ntu-rgb+d"):
    """Mirror left to right, or not, with even chances."""
    return flip(x, _draw_bool(x, 0.5, generator), layout)


def random_noise(x, generator=None, *, std=0.01):
    """Gaussian noise of standard deviation `std`, in the unit of the coordinates."""
    return add_noise(x, std * draw_normal(x.shape, generator=generator, device=x.device).to(x.dtype))


def random_axis_mask(x, generator=None):
    """One coordinate of each clip becomes 0."""
    return mask_axes(x, draw_chosen(len(x), 3, 1, generator=generator, device=x.device))


def random_joint_mask(x, generator=None, *, count=5):
    """`count` joints of each clip become 0."""
    return mask_joints(x, draw_chosen(len(x), x.shape[3], count, generator=generator, device=x.device))


def random_limb_mask(x, generator=None, *, layout="ntu-rgb+d"):
    """A joint of each clip and all that hangs on it become 0."""
    return mask_joints(x, draw_limb(len(x), layout, generator=generator, device=x.device))


def random_temporal_crop(x, generator=None):
    """With the padding of CrosSCLR and AimCLR, a sixth of the clip."""
    start = draw_crop_start(len(x), x.shape[2], generator=generator, device=x.device)
    return temporal_crop(x, start, padding=x.shape[2] // 6)


def random_crop_resize(x, generator=None, *, shortest=0.5):
    """A window of between `shortest` and all of the clip's frames, anywhere in it."""
    T = x.shape[2]
    uniform = draw_uniform((2, len(x)), 0, 1, generator=generator, device=x.device)
    length = (T * (shortest + (1 - shortest) * uniform[0])).clamp(1, T)
    return crop_resize(x, (T - length) * uniform[1], length)


def random_time_reversal(x, generator=None):
    """Play backwards, or not, with even chances."""
    return reverse_time(x, _draw_bool(x, 0.5, generator))


def random_blur(x, generator=None, *, low=0.1, high=2.0):
    """Blur over time with a standard deviation in [low, high) frames. Source: AimCLR."""
    return blur(x, draw_uniform((len(x),), low, high, generator=generator, device=x.device))


def random_frame_mask(x, generator=None, *, count=5):
    """`count` frames of each clip become 0."""
    return mask_frames(x, draw_chosen(len(x), x.shape[2], count, generator=generator, device=x.device))


class Compose:
    """A recipe: steps applied one after the other, each to a clip at random with its own probability.

    steps: functions of (clips, generator), as the `random_*` above, or pairs (function, probability).

    >>> recipe = Compose(random_shear, (functools.partial(random_noise, std=0.02), 0.5))
    >>> view = recipe(x, generator=torch.Generator().manual_seed(0))
    """

    def __init__(self, *steps):
        self.steps = [step if isinstance(step, tuple) else (step, 1.0) for step in steps]
        for step, probability in self.steps:
            if not callable(step) or not 0 <= probability <= 1:
                raise ValueError(
                    "steps: expected functions, or pairs (function, probability in 0 … 1), "
                    f"found {(step, probability)}"
                )

    def __call__(self, x, generator=None):
        for step, probability in self.steps:
            changed = step(x, generator)
            if probability < 1:
                changed = torch.where(_per_clip(_draw_bool(x, probability, generator)), changed, x)
            x = changed
        return x


def _draw_bool(x, probability, generator):
    return draw_uniform((len(x),), 0, 1, generator=generator, device=x.device) < probability


def _per_clip(values):
    """(N,) → (N,1,1,1,1)."""
    return values.view(-1, 1, 1, 1, 1)


def _over_frames(frame, x):
    """Frame indices (N,T) as `gather` along the frames of x wants them: one for every value."""
    return frame[:, None, :, None, None].expand(-1, x.shape[1], -1, x.shape[3], x.shape[4])


def _mix_frames(x, weight):
    """Frame t of clip n becomes Σ_j weight[n,t,j] x_j: weight (N,T,T)."""
    dtype = torch.promote_types(weight.dtype, x.dtype)
    with torch.autocast(x.device.type, enabled=False):
        return (weight.to(dtype)[:, None] @ x.to(dtype).flatten(3)).view(x.shape).to(x.dtype)


def _mirrored(frame, T):
    """Frames of an endlessly mirrored clip (…, 1, 0, 0, 1, …, T−1, T−1, T−2, …) as frames of the clip."""
    frame = frame % (2 * T)
    return torch.where(frame < T, frame, 2 * T - 1 - frame).long()
