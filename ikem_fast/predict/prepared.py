"""What a preparation chose to do with raw clips, in operations that other runtimes have.

The same in NumPy is `data.steps`, a clip at a time; tests hold the two together.
"""

import torch
from torch import Tensor

from ikem_fast.data.preparation import Preprocessing
from ikem_fast.ops.preprocessing.reference import resample_frames, turn_bodies
from ikem_fast.skeleton import Layout


def preprocess_joints(joints: Tensor, choice: Preprocessing, layout: Layout) -> tuple[Tensor, Tensor]:
    """Preprocess raw clips (N,3,F,V,M) as chosen, in a graph for any number of clips and frames.

    choice: with its frames; sampling linear or none.

    Returns (N,3,T,V,M) float32, and the true frame counts (N,) int64: 0 where nobody is there, −1 where a
    coordinate is no number.

    Raises ValueError where the choice does not say how many frames.
    """
    if choice.frames is None:
        raise ValueError("choice: expected a preparation that says its frames, found none")
    N, C, F, V, M = joints.shape
    # A copy, not a reshape, which would ask for strides: the program would not be for one clip or frame.
    packed = joints.transpose(0, 1).clone(memory_format=torch.contiguous_format).view(C, N * F, V, M)
    clip = torch.arange(N * F, device=joints.device) // F
    zeros = torch.zeros(N, dtype=torch.int64, device=joints.device)
    stretch = choice.sampling == "linear"
    x, found = resample_frames(_upright(packed, choice), clip, zeros, choice.frames, stretch)
    x = _scaled(_posed(x, layout, choice), layout, choice).transpose(0, 1)
    frames = found if stretch else torch.where(found > 0, x.shape[2], found)
    return torch.where((found > 0).view(-1, 1, 1, 1, 1), x, 0).float(), frames


def _upright(raw, choice):
    if choice.up == "z":
        return torch.stack((raw[0], raw[2], -raw[1]))
    if choice.up == "y-down":
        return torch.stack((raw[0], -raw[1], raw[2] if choice.planar else -raw[2]))
    return raw


def _posed(x, layout, choice):
    """Center and turn (3,N,T,V,M)."""
    there = (x != 0).any(0).any(-2)  # (N,T,M)
    pair = there[..., :2].all(-1) if x.shape[-1] > 1 else torch.zeros_like(there[..., 0])  # (N,T)
    posed = x
    if choice.center == "frame":
        posed = x - x[..., layout.root, None, :]
    elif choice.center != "none":
        origin = x[:, :, 0, layout.root, 0]  # (3,N)
        if choice.center == "pair":
            middle = x[..., layout.root, :2].mean(-1)  # (3,N,T)
            origin = torch.where(pair.any(1), (middle * _first(pair)).sum(2), origin)
        posed = torch.where(there[:, :, None], x - origin[:, :, None, None, None], 0)
    if choice.planar:
        posed = torch.cat((posed[:2], x[2:]))
    if choice.align == "frame":
        return turn_bodies(posed, layout)
    if choice.align == "none":
        return posed
    right, left = layout.shoulders
    along = (posed[..., right, 0] - posed[..., left, 0]).double()  # (3,N,T)
    if choice.align == "pair" and x.shape[-1] > 1:
        roots = posed[..., layout.root, :].double()
        between = torch.where(pair, roots[..., 1] - roots[..., 0], 0.0)
        along = torch.where((between[::2] != 0).any(0).any(1)[:, None], between, along)
    return _turned_once(posed, along)


def _first(known):
    """The first frame that is, of each row of (N,T), alone."""
    return known & (known.long().cumsum(1) == 1)


def _turned_once(x, along):
    """Turn whole clips (3,N,T,V,M) until `along` (3,N,T) is along x in the first frame where it leads on."""
    width = (along[0] ** 2 + along[2] ** 2).sqrt()
    known = width > 0
    share = torch.where(_first(known), 1 / torch.where(known, width, 1.0), 0.0)
    cos = torch.where(known.any(1), (along[0] * share).sum(1), 1.0).to(x.dtype)[:, None, None, None]
    sin = -(along[2] * share).sum(1).to(x.dtype)[:, None, None, None]
    return torch.stack((cos * x[0] - sin * x[2], x[1], sin * x[0] + cos * x[2]))


def _scaled(x, layout, choice):
    if choice.reach is not None:
        body = x[: 2 if choice.planar else 3, ..., 0]  # (3,N,T,V)
        reaches = (body - body[..., layout.root, None]).square().sum(0).sqrt().amax(-1)  # (N,T)
        factor = (choice.reach / _median(reaches))[:, None, None, None]
    elif choice.scale != 1:
        factor = torch.full((1, 1, 1, 1), choice.scale, dtype=x.dtype, device=x.device)
    else:
        return x
    return torch.stack((x[0] * factor, x[1] * factor, x[2] if choice.planar else x[2] * factor))


def _median(values):
    """Of the positive ones in each row of (N,T); 1 where there is none."""
    count = (values > 0).long().sum(1, keepdim=True)
    ordered = torch.where(values > 0, values, torch.inf).sort(1).values
    last = values.shape[1] - 1
    middle = [ordered.gather(1, place.clamp(0, last)) for place in ((count - 1) // 2, count // 2)]
    return torch.where(count > 0, (middle[0] + middle[1]) / 2, 1.0)[:, 0]
