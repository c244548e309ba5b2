"""Streams in plain torch: x (sequences, frames, width), parents a column for each column, −1 for a root."""

import torch
import torch.nn.functional as F


def bone(x, parents):
    """Subtract from each column its parent's; a root's is 0, whatever it is."""
    table = torch.tensor(parents, device=x.device)
    roots = table < 0
    parent = x[..., torch.where(roots, torch.arange(len(parents), device=x.device), table)]
    return torch.where(roots, 0, x - parent)


def motion(x):
    """Subtract from each next frame the frame; the last, which has none, is 0."""
    return F.pad(x[:, 1:] - x[:, :-1], (0, 0, 0, 1))


def streams(x, parents, bones, motions):
    """→ (bone or None, motion or None)."""
    return bone(x, parents) if bones else None, motion(x) if motions else None
