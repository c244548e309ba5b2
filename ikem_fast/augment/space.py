"""Augmentations in space, of given parameters: nothing is drawn, and all are differentiable."""

import functools

import torch
from torch import Tensor

from ikem_fast.augment.bones import carried
from ikem_fast.augment.clips import check, choose, kept, on_clips
from ikem_fast.skeleton import Layout, get_layout
from ikem_fast.tables import index_table

FEW = 8  # clips, of which a call costs more than what it copies


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
    check("matrix", matrix, (len(x), 3, 3))
    matrix = matrix.to(x.dtype).view(len(x), 3, 3, 1, 1, 1)
    product = matrix[:, :, 0] * x[:, None, 0]
    for c in (1, 2):
        product = product + matrix[:, :, c] * x[:, None, c]  # two roundings, as kernels have it
    return product


@on_clips
def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn clips about the x axis, then y, then z, by angles (N,3) in radians; AimCLR turns by −angles.

    Example:
        rotate(x, draw_rotation(len(x)))
    """
    check("angles", angles, (len(x), 3))
    return shear(x, rotation_matrix(angles))


def rotation_matrix(angles: Tensor) -> Tensor:
    """Make the matrices (N,3,3) that turn by angles (N,3), in radians, about x, then y, then z.

    They are what `shear` and `derive_modalities` take.

    Example:
        rotation_matrix(torch.tensor([[0.0, 0.0, torch.pi / 2]]))  # x becomes y, y becomes −x
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
    """Multiply each clip by a factor: (N,), or (N,3) with one for each coordinate.

    Example:
        scale(x, draw_uniform((len(x),), 0.8, 1.2))
    """
    check("factor", factor, (len(x),), (len(x), 3))
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

    Example:
        flip(x, torch.rand(len(x)) < 0.5, "ntu-rgb+d")
    """
    layout = get_layout(layout)
    if layout.swap is None:
        raise ValueError(f"layout: {layout.name!r} does not say which joints are left and right")
    if x.shape[3] != layout.num_joints:
        raise ValueError(f"x: expected {layout.num_joints} joints for {layout.name!r}, found {x.shape[3]}")
    check("flipped", flipped, (len(x),), kind=torch.bool)
    if len(x) < FEW:
        mirrored = x.index_select(3, index_table(layout.swap, x))
    else:
        mirrored = torch.cat([x[:, :, :, first:end] for first, end in _runs(layout.swap)], 3)
    if negate:
        mirrored[:, 0].neg_()
    return choose(flipped, mirrored, x)


@on_clips
def swap_bodies(x: Tensor, turn: Tensor, layout: str | Layout = "ntu-rgb+d") -> Tensor:
    """Exchange the first two bodies of clips, and have each take the other's place.

    What is between their roots in the first frame that has both is turned about, as the clip is seen by who
    stands opposite; where the roots coincide, as in bodies centered one by one, the order alone changes.

    Args:
        x: (N,3,T,V,M); those with fewer than two bodies stay as they are.
        turn: (N,3) factors of the coordinates in that turn: half a turn about the upright, which is y, has
            (−1, 1, −1).
        layout: name of a joint layout, or a `skeleton.Layout`, that says which joint is the root.

    Raises:
        ValueError: the layout has another number of joints.

    Example:
        swap_bodies(x, torch.tensor([-1.0, 1.0, -1.0]).expand(len(x), 3))
    """
    layout = get_layout(layout)
    if x.shape[3] != layout.num_joints:
        raise ValueError(f"x: expected {layout.num_joints} joints for {layout.name!r}, found {x.shape[3]}")
    check("turn", turn, (len(x), 3))
    if x.shape[4] < 2:
        return x
    there = (x != 0).any(1).any(2)  # (N,T,M)
    both = there[..., :2].all(2)
    first = both.to(torch.uint8).argmax(1).view(-1, 1, 1, 1).expand(-1, 3, 1, 2)
    roots = x[:, :, :, layout.root, :2].gather(2, first)[:, :, 0]  # (N,3,2)
    apart = (roots[..., 0] != roots[..., 1]).any(1)
    factor = torch.where(apart[:, None], turn.to(x.dtype), 1)[..., None, None, None]
    middle = roots.mean(2)[..., None, None, None]
    seen = there[:, None, :, None] & joints_there(x)
    turned = torch.where(seen, middle + factor * (x - middle), 0)
    swapped = torch.cat([turned[..., :2].flip(4), turned[..., 2:]], 4)
    return choose(both.any(1), swapped, x)


@on_clips
def add_noise(x: Tensor, noise: Tensor, *, empty: bool = False) -> Tensor:
    """Add noise (N,3,T,V,M) to the bodies that are there; empty bodies (all 0) stay empty.

    With empty=True they are filled with noise too, as in AimCLR.

    Example:
        add_noise(x, 0.01 * torch.randn_like(x))
    """
    check("noise", noise, x.shape)
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
    """Multiply coordinates by 0: masked (N,3) bool.

    Example:
        mask_axes(x, draw_chosen(len(x), 3, 1))  # one coordinate of each clip
    """
    check("masked", masked, (len(x), 3), kind=torch.bool)
    return x * kept(masked, x).view(len(x), 3, 1, 1, 1)


@on_clips
def mask_joints(x: Tensor, masked: Tensor) -> Tensor:
    """Multiply joints by 0: masked (N,V) bool, in every frame; or (N,T,V), frame by frame, as in HiCLR.

    Example:
        mask_joints(x, draw_limb(len(x), "ntu-rgb+d"))
    """
    N, _, T, V, M = x.shape
    check("masked", masked, (N, V), (N, T, V), kind=torch.bool)
    weight = kept(masked, x)[..., None].expand(*masked.shape, M)
    weight = weight.reshape(N, 1, T if masked.dim() == 3 else 1, V * M)
    return (x.flatten(3) * weight).view(x.shape)


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
    check("factor", factor, (N, V))
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

    Example:
        offset_joints(x, 0.05 * torch.randn(len(x), 3, 25))
    """
    N, _, T, V, _ = x.shape
    check("offset", offset, (N, 3, V))
    there = joints_there(x).to(x.dtype)
    count = (3 * T * there.flatten(1).sum(1)).clamp(min=1)
    size = (x.detach().flatten(1).square().sum(1) / count).sqrt()
    return torch.addcmul(x, (offset * size[:, None, None]).to(x.dtype).view(N, 3, 1, V, 1), there)


@functools.lru_cache(maxsize=16)
def _runs(joints):
    """(first, end) of the runs of joints that stand side by side: each is copied at once."""
    starts = [v for v, joint in enumerate(joints) if v == 0 or joints[v - 1] + 1 != joint]
    ends = [*starts[1:], len(joints)]
    return [(joints[start], joints[end - 1] + 1) for start, end in zip(starts, ends, strict=True)]


def _mix_joints(x, weight):
    """Joint v of clip n becomes Σ_u weight[n,v,u] x_u: weight (N,V,V)."""
    N, C, T, V, M = x.shape
    dtype = torch.promote_types(weight.dtype, x.dtype)
    with torch.autocast(x.device.type, enabled=False):
        rows = x.to(dtype).movedim(4, 1).reshape(N, M * C * T, V)
        mixed = rows @ weight.to(dtype).mT
    return mixed.view(N, M, C, T, V).movedim(1, 4).to(x.dtype)
