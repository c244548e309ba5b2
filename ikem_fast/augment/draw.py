"""Parameters of augmentations, drawn from a generator: on its device, then moved to where they are wanted."""

import functools
import math

import torch
from torch import Tensor

from ikem_fast.augment.bones import carried
from ikem_fast.skeleton import Layout, get_layout

Generator = torch.Generator | None  # None: torch's own
Device = torch.device | str


def draw_shear(
    n: int, amplitude: float = 0.5, *, generator: Generator = None, device: Device = "cpu"
) -> Tensor:
    """Draw matrices (n,3,3) with ones on the diagonal and the rest uniform in [−amplitude, amplitude].

    Source: the shear of CrosSCLR and AimCLR. `generator` may live on the CPU or on `device`.

    Example:
        shear(x, draw_shear(len(x), 0.5, generator=torch.Generator().manual_seed(0)))
    """
    matrix = draw_uniform((n, 3, 3), -amplitude, amplitude, generator=generator, device=device)
    matrix.diagonal(dim1=1, dim2=2).fill_(1)
    return matrix


def draw_crop_start(n: int, frames: int, *, generator: Generator = None, device: Device = "cpu") -> Tensor:
    """Draw starts (n,) int64 for `temporal_crop` with padding = frames // 6, uniform in 0 … 2·padding.

    frames: T, the number of frames in a clip. `generator` may live on the CPU or on `device`.

    Example:
        temporal_crop(x, draw_crop_start(len(x), 50), padding=50 // 6)
    """
    return draw_integers(n, 2 * (frames // 6) + 1, generator=generator, device=device)


def draw_rotation(
    n: int, limit: float = math.pi / 6, *, generator: Generator = None, device: Device = "cpu"
) -> Tensor:
    """Draw angles (n,3) in radians: one axis at random turns by up to ±limit, the others stay.

    Source: the rotation of AimCLR, less its tilt of one degree about the other axes.

    Example:
        rotate(x, draw_rotation(len(x), limit=0.3))
    """
    axis = draw_integers(n, 3, generator=generator, device=device)
    angle = draw_uniform((n, 1), -limit, limit, generator=generator, device=device)
    return angle.new_zeros(n, 3).scatter_(1, axis[:, None], angle)


def draw_chosen(
    n: int, size: int, count: int, *, generator: Generator = None, device: Device = "cpu"
) -> Tensor:
    """Draw which joints or frames to mask: (n,size) bool with `count` True in each row, anywhere.

    Raises ValueError if count is not in 0 … size.

    Example:
        mask_joints(x, draw_chosen(len(x), 25, 5))  # five joints of each clip
    """
    if not 0 <= count <= size:
        raise ValueError(f"count: expected 0 … {size}, found {count}")
    order = draw_uniform((n, size), 0, 1, generator=generator, device=device)
    order = order.argmin(1, keepdim=True) if count == 1 else order.argsort(1)[:, :count]
    return torch.zeros((n, size), dtype=torch.bool, device=device).scatter_(1, order, True)


def draw_limb(
    n: int,
    layout: str | Layout = "ntu-rgb+d",
    *,
    generator: Generator = None,
    device: Device = "cpu",
) -> Tensor:
    """Draw limbs to mask: (n,V) bool, a joint at random, other than a root, with all that hangs on it.

    Raises ValueError if every joint of the layout is a root.

    Example:
        mask_joints(x, draw_limb(len(x), "ntu-rgb+d"))
    """
    limbs = _limbs(get_layout(layout), torch.device(device))
    return limbs[draw_integers(n, len(limbs), generator=generator, device=device)]


@functools.lru_cache(maxsize=16)
def _limbs(layout, device):
    """(limbs,V) bool: what hangs on each joint that is no root."""
    limbs = [v for v in range(layout.num_joints) if v not in layout.roots]
    if not limbs:
        raise ValueError(f"layout: {layout.name!r} has no limbs, only roots")
    return carried(layout, device).T[limbs]


def draw_integers(n: int, high: int, *, generator: Generator = None, device: Device = "cpu") -> Tensor:
    """Draw integers (n,) int64, uniform in 0 … high−1.

    Example:
        draw_integers(4, 10)  # four of 0 … 9
    """
    source = generator.device if generator is not None else device
    return torch.randint(high, (n,), generator=generator, device=source).to(device, non_blocking=True)


def draw_uniform(
    size: tuple[int, ...],
    low: float,
    high: float,
    *,
    generator: Generator = None,
    device: Device = "cpu",
) -> Tensor:
    """Draw float32 numbers of a size, uniform in [low, high), where the generator lives; move them.

    Example:
        scale(x, draw_uniform((len(x),), 0.8, 1.2))
    """
    source = generator.device if generator is not None else device
    drawn = torch.rand(size, generator=generator, device=source)
    if (low, high) != (0, 1):
        drawn = drawn.mul_(high - low).add_(low)
    return drawn.to(device, non_blocking=True)


def draw_normal(size: tuple[int, ...], *, generator: Generator = None, device: Device = "cpu") -> Tensor:
    """Draw float32 numbers of a size, standard normal.

    Example:
        add_noise(x, 0.01 * draw_normal(x.shape))
    """
    source = generator.device if generator is not None else device
    return torch.randn(size, generator=generator, device=source).to(device, non_blocking=True)
