"""The input side of the published step, in our words: what `derive_modalities` replaces.

Each clip is augmented by NumPy, one at a time, as a loader's worker does, and collated; then torch derives
the modalities of the batch, joint by joint, every modality from the coordinates anew.
"""

import numpy as np
import torch
import torch.nn.functional as F

from ikem_fast.skeleton import get_layout


def two_views(clips, frames, matrices, starts, layout="ntu-rgb+d"):
    """clips (N,3,T,V,M) numpy, matrices (2,N,3,3), starts (2,N) → two views, each (6,N,3,T,V,M)."""
    layout = get_layout(layout)
    return [derive(augment(clips, *drawn), frames, layout) for drawn in zip(matrices, starts, strict=True)]


def augment(clips, matrices, starts):
    """Crop and shear clip by clip, then stack the batch."""
    return torch.stack([
        torch.from_numpy(shear(temporal_crop(clip, start), matrix)).float()
        for clip, matrix, start in zip(clips, matrices, starts, strict=True)
    ])  # fmt: skip


def temporal_crop(clip, start):
    T = clip.shape[1]
    padding = T // 6
    padded = np.concatenate((clip[:, :padding][:, ::-1], clip, clip[:, -padding:][:, ::-1]), axis=1)
    return padded[:, start : start + T]


def shear(clip, matrix):
    return np.dot(clip.transpose(1, 2, 3, 0), matrix.T).transpose(3, 0, 1, 2)


def derive(x, frames, layout):
    speed = (x.shape[2] / frames).view(-1, 1, 1, 1, 1)
    views = (
        x,
        motion(x, speed),
        bone(x, layout),
        motion(motion(x, speed), speed, missing=2),
        rotation_axis(x, layout),
        angular_velocity(x, speed, layout),
    )
    return torch.stack(views)


def motion(x, speed, missing=1):
    out = torch.zeros_like(x)
    out[:, :, :-missing] = (x[:, :, 1:] - x[:, :, :-1])[:, :, : x.shape[2] - missing]
    return out * speed


def bone(x, layout):
    out = torch.zeros_like(x)
    for v, parent in enumerate(layout.parents):
        out[:, :, :, v] = x[:, :, :, v] - x[:, :, :, parent]
    a, b, c = layout.torso
    normal = torch.cross(x[:, :, :, a] - x[:, :, :, c], x[:, :, :, b] - x[:, :, :, c], dim=1)
    out[:, :, :, layout.root] = F.normalize(normal, dim=1)
    return out


def rotation_axis(x, layout):
    bones, out = bone(x, layout), torch.zeros_like(x)
    for v, axis in enumerate(layout.axis_parents):
        out[:, :, :, v] = torch.cross(bones[:, :, :, v], bones[:, :, :, axis], dim=1)
    return out


def angular_velocity(x, speed, layout):
    bones, angle, out = bone(x, layout), torch.zeros_like(x[:, 0]), torch.zeros_like(x)
    for v, axis in enumerate(layout.axis_parents):
        u, w = F.normalize(bones[:, :, :, v], dim=1), F.normalize(bones[:, :, :, axis], dim=1)
        angle[:, :, v] = torch.atan2(torch.cross(u, w, dim=1).norm(dim=1), (u * w).sum(dim=1))
    turn = F.normalize(rotation_axis(x, layout), dim=1)
    for v in range(len(layout.parents)):
        change = (angle[:, 1:, v] - angle[:, :-1, v])[:, None]
        out[:, :, :-1, v] = change * turn[:, :, :-1, v]
    return out * speed
