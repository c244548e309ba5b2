"""Augmentations of given parameters: nothing is drawn, and all are differentiable."""

import functools
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ikem_fast.augment.bones import carried
from ikem_fast.skeleton import Layout, get_layout
from ikem_fast.tables import index_table

BLUR_TAPS = 15
FEW = 8  # clips, of which a call costs more than what it copies


def on_clips(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Have a function check that its first argument is clips before anything is drawn or computed."""

    @functools.wraps(function)
    def checked(x, *arguments, **options):
        if x.dim() != 5 or x.shape[1] != 3:
            hint = "; for a single clip, give x[None]" if x.dim() == 4 else ""
            raise ValueError(f"x: expected clips (N,3,T,V,M), found shape {tuple(x.shape)}{hint}")
        return function(x, *arguments, **options)

    return checked


def _check(name, value, *shapes, kind=None):
    """Raise ValueError unless a parameter has one of these shapes, and a dtype where one is named."""
    if value.shape not in shapes:
        expected = " or ".join(str(tuple(shape)) for shape in shapes)
        raise ValueError(f"{name}: expected shape {expected}, found {tuple(value.shape)}")
    if kind is not None and value.dtype != kind:
        raise ValueError(f"{name}: expected {kind}, found {value.dtype}")


# Space


@on_clips
def shear(x: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the coordinates of each clip by a matrix of its own: x' = M x.

    Written as products and sums, not as a matrix product, so that neither autocast nor TF32 touches it.

    Args:
        x: (N,3,T,V,M).
        matrix: (N,3,3).

    Returns:
        (N,3,T,V,M) in the dtype of x.

    Example:
        shear(x, draw_shear(len(x), amplitude=0.5))
    """
    _check("matrix", matrix, (len(x), 3, 3))
    matrix = matrix.to(x.dtype).view(len(x), 3, 3, 1, 1, 1)
    product = matrix[:, :, 0] * x[:, None, 0]
    for c in (1, 2):
        product = product + matrix[:, :, c] * x[:, None, c]  # two roundings, as kernels have it
    return product


@on_clips
def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn clips about the x axis, then y, then z, by angles (N,3) in radians; AimCLR turns by −angles."""
    _check("angles", angles, (len(x), 3))
    return shear(x, rotation_matrix(angles))


def rotation_matrix(angles: Tensor) -> Tensor:
    """Make the matrices (N,3,3) that turn by angles (N,3), in radians, about x, then y, then z.

    They are what `shear` and `derive_modalities` take.
    """
    if angles.dim() != 2 or angles.shape[1] != 3:
        raise ValueError(f"angles: expected shape (N, 3), found {tuple(angles.shape)}")
    angles = torch.nn.functional.pad(angles, (0, 1))  # of which the sine is 0, the cosine 1
    sine = angles.sin()
    factors = torch.cat([sine, angles.cos(), -sine], 1).index_select(1, index_table(_FACTORS, angles))
    a, b, c, d, e = factors.view(-1, 5, 3, 3).unbind(1)
    return a * b * c + d * e


# Of the entries a·b·c + d·e of a turn: 0 … are sines of x, y, z and 0, 4 … cosines, 8 … sines' negatives.
_FACTORS = (
    *(7, 0, 4, 7, 0, 4, 3, 7, 7),
    *(5, 1, 1, 5, 1, 1, 3, 0, 4),
    *(6, 6, 6, 2, 2, 2, 3, 5, 5),
    *(3, 4, 0, 3, 4, 8, 9, 3, 3),
    *(3, 10, 2, 3, 6, 6, 7, 3, 3),
)


@on_clips
def scale(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply each clip by a factor: (N,), or (N,3) with one for each coordinate."""
    _check("factor", factor, (len(x),), (len(x), 3))
    return x * factor.to(x.dtype).view(*factor.shape, *(1,) * (5 - factor.dim()))


@on_clips
def flip(x: Tensor, flipped: Tensor, layout: str | Layout = "ntu-rgb+d", *, negate: bool = True) -> Tensor:
    """Mirror clips left to right: the first coordinate changes its sign, and paired joints their places.

    Args:
        x: (N,3,T,V,M).
        flipped: (N,) bool, which clips to mirror.
        layout: name of a joint layout, or a `skeleton.Layout`, that says which joints are pairs.
        negate: with False coordinates keep their signs, and joints change places alone, as in AimCLR.

    Raises:
        ValueError: the layout has no left and right, or another number of joints.
    """
    layout = get_layout(layout)
    if layout.swap is None:
        raise ValueError(f"layout: {layout.name!r} does not say which joints are left and right")
    if x.shape[3] != layout.num_joints:
        raise ValueError(f"x: expected {layout.num_joints} joints for {layout.name!r}, found {x.shape[3]}")
    _check("flipped", flipped, (len(x),), kind=torch.bool)
    if len(x) < FEW:
        mirrored = x.index_select(3, index_table(layout.swap, x))
    else:
        mirrored = torch.cat([x[:, :, :, first:end] for first, end in _runs(layout.swap)], 3)
    if negate:
        mirrored[:, 0].neg_()
    return choose(flipped, mirrored, x)


@on_clips
def add_noise(x: Tensor, noise: Tensor, *, empty: bool = False) -> Tensor:
    """Add noise (N,3,T,V,M) to the bodies that are there; empty bodies (all 0) stay empty.

    With empty=True they are filled with noise too, as in AimCLR.
    """
    _check("noise", noise, x.shape)
    if empty or not x.numel():
        return x + noise
    return torch.addcmul(x, noise, joints_there(x).any(3, keepdim=True).to(noise.dtype))


def joints_there(x: Tensor) -> Tensor:
    """Tell which joints are there, of bodies that are: (N,1,1,V,M) bool, not 0 in every frame."""
    N, _, _, V, M = x.shape
    # With frames first and the joints side by side: a reduction over V is slow.
    largest = x.detach().flatten(3).flatten(1, 2).abs().amax(1)
    return (largest != 0).view(N, 1, 1, V, M)


@on_clips
def mask_axes(x: Tensor, masked: Tensor) -> Tensor:
    """Multiply coordinates by 0: masked (N,3) bool."""
    _check("masked", masked, (len(x), 3), kind=torch.bool)
    return x * _kept(masked, x).view(len(x), 3, 1, 1, 1)


@on_clips
def mask_joints(x: Tensor, masked: Tensor) -> Tensor:
    """Multiply joints by 0: masked (N,V) bool, in every frame; or (N,T,V), frame by frame, as in HiCLR."""
    N, _, T, V, M = x.shape
    _check("masked", masked, (N, V), (N, T, V), kind=torch.bool)
    kept = (
        _kept(masked, x)[..., None]
        .expand(*masked.shape, M)
        .reshape(N, 1, T if masked.dim() == 3 else 1, V * M)
    )
    return (x.flatten(3) * kept).view(x.shape)


@on_clips
def stretch_bones(x: Tensor, factor: Tensor, layout: str | Layout = "ntu-rgb+d") -> Tensor:
    """Make each bone longer or shorter, as of another person: what hangs on it moves along.

    Args:
        x: (N,3,T,V,M).
        factor: (N,V) by which the bone from a joint's parent to the joint is multiplied; roots have none.
        layout: name of a joint layout, or a `skeleton.Layout`, that says which joint hangs on which.

    Returns:
        (N,3,T,V,M) in the dtype of x. Joints that are 0 in every frame stay 0.

    Raises:
        ValueError: the layout has another number of joints, or factor another shape.

    Example:
        stretch_bones(x, draw_uniform((len(x), 25), 0.7, 1.3))
    """
    layout = get_layout(layout)
    N, _, _, V, _ = x.shape
    if layout.num_joints != V:
        raise ValueError(f"x: expected {layout.num_joints} joints for {layout.name!r}, found {V}")
    _check("factor", factor, (N, V))
    # A joint moves by what every bone above it grows: x_v + Σ_a carried[v,a] (f_a − 1) (x_a − x_parent(a)).
    grown = carried(layout, x.device).to(factor.dtype) * (factor - 1)[:, None]  # (N,V,V)
    parents = index_table(layout.parents, x)
    moved = grown - torch.zeros_like(grown).index_add_(2, parents, grown)
    return torch.addcmul(x, _mix_joints(x, moved), joints_there(x).to(x.dtype))


@on_clips
def offset_joints(x: Tensor, offset: Tensor) -> Tensor:
    """Move each joint by a constant of its own, as a camera errs that sees one side of a body.

    Args:
        x: (N,3,T,V,M).
        offset: (N,3,V) in units of the clip's size, the root mean square of the coordinates that are there:
            the same numbers serve meters and millimeters.

    Returns:
        (N,3,T,V,M) in the dtype of x. Joints that are 0 in every frame stay 0.
    """
    N, _, T, V, _ = x.shape
    _check("offset", offset, (N, 3, V))
    there = joints_there(x).to(x.dtype)
    count = (3 * T * there.flatten(1).sum(1)).clamp(min=1)
    size = (x.detach().flatten(1).square().sum(1) / count).sqrt()
    return torch.addcmul(x, (offset * size[:, None, None]).to(x.dtype).view(N, 3, 1, V, 1), there)


# Time


@on_clips
def temporal_crop(x: Tensor, start: Tensor, padding: int) -> Tensor:
    """Take a window of T frames out of each clip padded on both sides by mirrored frames.

    The mirror repeats the edge: the padded clip is frames padding−1 … 0, 0 … T−1, T−1 … T−padding.

    Args:
        x: (N,3,T,V,M).
        start: (N,) integer, first frame of the window in the padded clip, in 0 … 2·padding.
        padding: frames added on each side, 0 … T.

    Returns:
        (N,3,T,V,M).
    """
    T = x.shape[2]
    _check("start", start, (len(x),))
    if not 0 <= padding <= T:
        raise ValueError(f"padding: expected 0 … {T}, the frames of a clip, found {padding}")
    return _take_frames(
        x, _mirrored(start[:, None] + torch.arange(-padding, T - padding, device=x.device), T)
    )


@on_clips
def crop_resize(x: Tensor, start: Tensor, length: Tensor, frames: int | None = None) -> Tensor:
    """Stretch a window of each clip by linear interpolation (half-pixel centers).

    Args:
        x: (N,3,T,V,M).
        start: (N,) first frame of the window, whole or not.
        length: (N,) frames in the window, ≥ 1. Where the window goes past an end of the clip, the frame at
            that end is held.
        frames: how many there shall be, T where left out; CMD and its kin make 64 of 300.

    Returns:
        (N,3,frames,V,M).
    """
    N, _, T, _, _ = x.shape
    frames = T if frames is None else frames
    if frames < 1 and T > 0:
        raise ValueError(f"frames: expected at least 1, found {frames}")
    _check("start", start, (N,))
    _check("length", length, (N,))
    start, length = start.to(torch.float32)[:, None], length.to(torch.float32)[:, None]
    center = (torch.arange(frames, device=x.device) + 0.5) * length / frames - 0.5
    at = (start + torch.minimum(center.clamp(min=0), length - 1)).clamp(0, max(T - 1, 0))
    return _between_frames(x, at)


@on_clips
def warp_time(x: Tensor, curve: Tensor) -> Tensor:
    """Play clips faster here and slower there; the first and the last frame stay where they are.

    Args:
        x: (N,3,T,V,M).
        curve: (N,2) a, b: where the clip stood at t in 0 … 1, it stands at
            t + a sin(πt)/π + b sin(2πt)/2π, held within 0 … 1. It never runs backwards while |a| + |b| ≤ 1.

    Returns:
        (N,3,T,V,M) in the dtype of x, by linear interpolation.
    """
    N, _, T, _, _ = x.shape
    _check("curve", curve, (N, 2))
    t = torch.linspace(0, 1, T, device=x.device)
    waves = torch.stack([torch.sin(math.pi * t) / math.pi, torch.sin(2 * math.pi * t) / (2 * math.pi)])
    shift = (curve.to(torch.float32)[:, :, None] * waves).sum(1)
    at = (t + shift).clamp(0, 1) * (T - 1)
    return _between_frames(x, at)


@on_clips
def reverse_time(x: Tensor, reversed_: Tensor) -> Tensor:
    """Play clips backwards: reversed_ (N,) bool."""
    _check("reversed_", reversed_, (len(x),), kind=torch.bool)
    frame = torch.arange(x.shape[2], device=x.device)
    return _take_frames(x, torch.where(reversed_[:, None], frame.flip(0), frame))


@on_clips
def blur(
    x: Tensor,
    sigma: Tensor,
    *,
    normalize: bool = True,
    ends: Literal["mirrored", "zero"] = "mirrored",
) -> Tensor:
    """Blur over time: Gaussian, 15 taps, standard deviation sigma (N,) in frames.

    Args:
        x: (N,3,T,V,M).
        sigma: (N,).
        normalize: weights add up to 1; with False the middle one is 1, as in AimCLR.
        ends: what is beyond the ends of a clip: its mirror image, or zeros, as in AimCLR.
    """
    T = x.shape[2]
    _check("sigma", sigma, (len(x),))
    if ends not in ("mirrored", "zero"):
        raise ValueError(f"ends: expected 'mirrored' or 'zero', found {ends!r}")
    tap = torch.arange(BLUR_TAPS, device=x.device) - BLUR_TAPS // 2
    exponent = -0.5 * (tap / sigma[:, None].clamp(min=1e-3)) ** 2
    weight = torch.softmax(exponent, 1) if normalize else exponent.exp()
    frame = tap[:, None] + torch.arange(T, device=x.device)
    inside = (frame >= 0) & (frame < T)
    # (taps,T,T): tap k at t reads frame j
    reaches = torch.nn.functional.one_hot(_mirrored(frame, T), T).to(weight.dtype)
    if ends == "zero":
        reaches = reaches * inside[:, :, None]
    return _mix_frames(x, torch.tensordot(weight, reaches, 1))


@on_clips
def mask_frames(x: Tensor, masked: Tensor) -> Tensor:
    """Multiply whole frames by 0: masked (N,T) bool."""
    _check("masked", masked, (len(x), x.shape[2]), kind=torch.bool)
    return x * _kept(masked, x).view(len(x), 1, x.shape[2], 1, 1)


@functools.lru_cache(maxsize=16)
def _runs(joints):
    """(first, end) of the runs of joints that stand side by side: each is copied at once."""
    starts = [v for v, joint in enumerate(joints) if v == 0 or joints[v - 1] + 1 != joint]
    ends = [*starts[1:], len(joints)]
    return [(joints[start], joints[end - 1] + 1) for start, end in zip(starts, ends, strict=True)]


def choose(chosen: Tensor, changed: Tensor, x: Tensor) -> Tensor:
    """Take clips of `changed` where chosen (N,) is true, of `x` elsewhere; a weight of 0 or 1 is exact."""
    return torch.lerp(x, changed, chosen.to(x.dtype).view(len(x), 1, 1, 1, 1))


def _kept(masked, x):
    return masked.logical_not().to(x.dtype)


def _take_frames(x, frame):
    """The frames (N,T) of each clip, as rows of V·M values, which copy far faster than single values."""
    N, C, T, V, M = x.shape
    if N == 1:
        return x.index_select(2, frame[0])
    row = torch.arange(0, N * C * T, T, device=x.device).view(N, C, 1) + frame[:, None]
    return x.reshape(N * C * T, V * M).index_select(0, row.flatten()).view(N, C, frame.shape[1], V, M)


def _between_frames(x, at):
    """Clips at times (N,·) in frames, 0 … T−1, by linear interpolation."""
    N, _, T, _, _ = x.shape
    before = at.long()
    dtype = torch.promote_types(torch.float32, x.dtype)
    weight = (at - before).to(dtype).view(N, 1, at.shape[1], 1, 1)
    frames = (_take_frames(x, frame).to(dtype) for frame in (before, (before + 1).clamp(max=max(T - 1, 0))))
    return torch.lerp(*frames, weight).to(x.dtype)


def _mix_joints(x, weight):
    """Joint v of clip n becomes Σ_u weight[n,v,u] x_u: weight (N,V,V)."""
    N, C, T, V, M = x.shape
    dtype = torch.promote_types(weight.dtype, x.dtype)
    with torch.autocast(x.device.type, enabled=False):
        rows = x.to(dtype).movedim(4, 1).reshape(N, M * C * T, V)
        mixed = rows @ weight.to(dtype).mT
    return mixed.view(N, M, C, T, V).movedim(1, 4).to(x.dtype)


def _mix_frames(x, weight):
    """Frame t of clip n becomes Σ_j weight[n,t,j] x_j: weight (N,T,T)."""
    dtype = torch.promote_types(weight.dtype, x.dtype)
    with torch.autocast(x.device.type, enabled=False):
        return (weight.to(dtype)[:, None] @ x.to(dtype).flatten(3)).view(x.shape).to(x.dtype)


def _mirrored(frame, T):
    """Frames of an endlessly mirrored clip (…, 1, 0, 0, 1, …, T−1, T−1, T−2, …) as frames of the clip."""
    frame = frame % (2 * T)
    return torch.minimum(frame, 2 * T - 1 - frame).long()
