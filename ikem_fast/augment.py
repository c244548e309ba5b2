"""Batched augmentations of clips: plain functions of explicit parameters, on the clips' own device.

Clips are (N,3,T,V,M): coordinates, frames, joints, bodies. Random parameters come from the `draw_*`
functions, which take a `torch.Generator`, so that a run can be repeated and resumed.
"""

import torch


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
    frame = start[:, None] + torch.arange(-padding, T - padding, device=x.device)
    frame = torch.where(frame < 0, -1 - frame, frame)
    frame = torch.where(frame >= T, 2 * T - 1 - frame, frame).long()
    return x.gather(2, frame[:, None, :, None, None].expand(-1, x.shape[1], -1, x.shape[3], x.shape[4]))


def draw_shear(n, amplitude=0.5, *, generator=None, device="cpu"):
    """(n,3,3) matrices with ones on the diagonal and the rest uniform in [−amplitude, amplitude].

    Source: the shear of CrosSCLR and AimCLR. `generator` may live on the CPU or on `device`.
    """
    matrix = _uniform((n, 3, 3), -amplitude, amplitude, generator, device)
    matrix.diagonal(dim1=1, dim2=2).fill_(1)
    return matrix


def draw_crop_start(n, frames, *, generator=None, device="cpu"):
    """(n,) int64 starts for `temporal_crop` with padding = frames // 6, uniform in 0 … 2·padding.

    frames: T, the number of frames in a clip. `generator` may live on the CPU or on `device`.
    """
    source = generator.device if generator is not None else device
    start = torch.randint(2 * (frames // 6) + 1, (n,), generator=generator, device=source)
    return start.to(device, non_blocking=True)


def _uniform(size, low, high, generator, device):
    """Uniform numbers drawn where the generator lives (its device cannot be chosen later), then moved."""
    source = generator.device if generator is not None else device
    drawn = torch.rand(size, generator=generator, device=source) * (high - low) + low
    return drawn.to(device, non_blocking=True)
