"""Preprocessing in plain torch: the definition in readable form, and the truth that kernels are held to."""

import torch

from ikem_fast.skeleton import MAX_COORDINATE


def preprocess_clips(raw, starts, lengths, frames, layout):
    """raw (3,ΣF,V,M), starts and lengths (N,) → (N,3,frames,V,M) float32, true frame counts (N,) int64."""
    N, total, device = len(lengths), raw.shape[1], raw.device
    if not total:
        return raw.new_zeros((N, 3, frames, *raw.shape[2:]), dtype=torch.float32), torch.zeros_like(lengths)
    clip = torch.repeat_interleave(torch.arange(N, device=device), lengths, output_size=total)
    return preprocess_frames(raw, clip, torch.zeros_like(lengths), frames, layout)


def preprocess_frames(raw, clip, zeros, frames, layout):
    """The same of frames (3,ΣF,V,M) whose clips (ΣF,) are known, from 0 in order; zeros (N,) int64.

    Sizes are taken from shapes alone: exported, it stays a graph for any number of clips and frames.
    """
    x, true_frames = resample_frames(raw, clip, zeros, frames)
    x = turn_bodies(x - x[..., layout.root, None, :], layout).transpose(0, 1)
    there = (true_frames > 0).view(-1, 1, 1, 1, 1)
    return torch.where(there, x, 0).float(), true_frames


def resample_frames(raw, clip, zeros, frames, stretch=True):
    """The frames that hold body 0, resampled: (3,N,T,V,M), and how many they are (N,), −1 with NaN in them.

    stretch: whether they are spread over the T frames, or as they are, the last one held.
    """
    total, device = raw.shape[1], raw.device
    count = lambda flags: zeros.index_add(0, clip, flags.long())  # noqa: E731
    is_first = (raw[:, :, 0, 0] != 0).any(0)
    is_any = (raw[..., 0] != 0).any(0).any(-1)
    valid = is_first | (is_any & (count(is_first) == 0)[clip])
    usable = (raw.abs() < MAX_COORDINATE).all(0).flatten(1).all(1)  # NaN is not
    true_frames = torch.where(count(~usable) > 0, -1, count(valid))

    # The frames of the result lie between frames `before` and `after` of the valid ones.
    # The valid frames in order; all others, if there are any, share the last place, which nobody reads.
    place = torch.where(valid, valid.cumsum(0) - 1, total - 1)
    source = torch.zeros_like(place).scatter(0, place, torch.arange(total, device=device))
    length = count(valid)[:, None]
    t = torch.arange(frames, device=device, dtype=torch.float64)
    position = (t + 0.5) * (length.double() / frames) - 0.5 if stretch else t + 0 * length.double()
    position = position.clamp(min=0).minimum(length - 1).clamp(min=0)
    before = position.long()
    weight = (position - before).to(raw.dtype)[..., None, None]
    first = length.cumsum(0) - length
    frame = lambda index: raw[:, source[(first + index).clamp(max=total - 1)]]  # noqa: E731
    start = frame(before)  # (3,N,T,V,M)
    return start + (frame((before + 1).minimum(length - 1).clamp(min=0)) - start) * weight, true_frames


def turn_bodies(x, layout):
    """Turn each body of each frame of (3,N,T,V,M) about y, so that its shoulders lie along x."""
    right, left = layout.shoulders
    across = (x[..., right, :] - x[..., left, :]).double()  # (3,N,T,M)
    cos = across[0] / ((across[0] ** 2 + across[2] ** 2).sqrt() + 1e-4)
    sin = (1 - cos * cos).sqrt() * torch.where(across[2].sum(1, keepdim=True) >= 0, -1, 1)
    cos, sin = (turn.to(x.dtype)[:, :, None] for turn in (cos, sin))
    return torch.stack((cos * x[0] - sin * x[2], x[1], sin * x[0] + cos * x[2]))
