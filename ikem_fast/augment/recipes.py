"""Recipes: `Recipe`, of augmentations that settings name, and `Compose`, of functions that draw and apply.

Such functions, the `random_*`, take clips and a generator, and options with a default.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from ikem_fast.augment.clips import (
    choose,
    on_clips,
)
from ikem_fast.augment.draw import (
    Generator,
    draw_chosen,
    draw_crop_start,
    draw_limb,
    draw_normal,
    draw_rotation,
    draw_shear,
    draw_uniform,
)
from ikem_fast.augment.named import NAMES, Augmentation, Crop, Linear, Shape
from ikem_fast.augment.space import (
    add_noise,
    flip,
    mask_axes,
    mask_joints,
    rotate,
    scale,
    shear,
)
from ikem_fast.augment.time import (
    blur,
    crop_resize,
    mask_frames,
    reverse_time,
    temporal_crop,
)
from ikem_fast.errors import InputError
from ikem_fast.skeleton import Layout

Step = Callable[[Tensor, Generator], Tensor]  # of a recipe
Drawn = list[tuple[Tensor | None, tuple[Tensor, ...]]]  # of each augmentation: which clips, and parameters


@on_clips
def random_shear(x: Tensor, generator: Generator = None, *, amplitude: float = 0.5) -> Tensor:
    """Shear with off-diagonals in [−amplitude, amplitude].

    Example:
        random_shear(x, torch.Generator().manual_seed(0), amplitude=1.0)
    """
    return shear(x, draw_shear(len(x), amplitude, generator=generator, device=x.device))


@on_clips
def random_rotation(x: Tensor, generator: Generator = None, *, limit: float = math.pi / 6) -> Tensor:
    """Turn about one axis at random by up to ±limit, in radians.

    Example:
        random_rotation(x, limit=0.3)
    """
    return rotate(x, draw_rotation(len(x), limit, generator=generator, device=x.device))


@on_clips
def random_scale(x: Tensor, generator: Generator = None, *, low: float = 0.8, high: float = 1.2) -> Tensor:
    """Scale by a factor in [low, high).

    Example:
        random_scale(x, low=0.9, high=1.1)
    """
    return scale(x, draw_uniform((len(x),), low, high, generator=generator, device=x.device))


@on_clips
def random_flip(
    x: Tensor, generator: Generator = None, *, layout: str | Layout = "ntu-rgb+d", negate: bool = True
) -> Tensor:
    """Mirror left to right, or not, with even chances; negate as in `flip`.

    Example:
        random_flip(x, layout="ntu-rgb+d")
    """
    return flip(x, _draw_bool(x, 0.5, generator), layout, negate=negate)


@on_clips
def random_noise(x: Tensor, generator: Generator = None, *, std: float = 0.01, empty: bool = False) -> Tensor:
    """Add Gaussian noise of standard deviation `std`, in the coordinates' unit; empty as in `add_noise`.

    Example:
        random_noise(x, std=0.02)
    """
    noise = draw_normal(x.shape, generator=generator, device=x.device).mul_(std).to(x.dtype)
    return add_noise(x, noise, empty=empty)


@on_clips
def random_axis_mask(x: Tensor, generator: Generator = None) -> Tensor:
    """Mask one coordinate of each clip.

    Example:
        random_axis_mask(x)
    """
    return mask_axes(x, draw_chosen(len(x), 3, 1, generator=generator, device=x.device))


@on_clips
def random_joint_mask(
    x: Tensor, generator: Generator = None, *, count: int = 5, per_frame: bool = False
) -> Tensor:
    """Mask `count` joints of each clip, or of each of its frames.

    Example:
        random_joint_mask(x, count=3, per_frame=True)
    """
    N, _, T, V, _ = x.shape
    rows = N * T if per_frame else N
    masked = draw_chosen(rows, V, count, generator=generator, device=x.device)
    return mask_joints(x, masked.view(N, T, V) if per_frame else masked)


@on_clips
def random_limb_mask(x: Tensor, generator: Generator = None, *, layout: str | Layout = "ntu-rgb+d") -> Tensor:
    """Mask a joint of each clip and all that hangs on it.

    Example:
        random_limb_mask(x, layout="ntu-rgb+d")
    """
    return mask_joints(x, draw_limb(len(x), layout, generator=generator, device=x.device))


@on_clips
def random_temporal_crop(x: Tensor, generator: Generator = None) -> Tensor:
    """Crop with the padding of CrosSCLR and AimCLR, a sixth of the clip.

    Example:
        random_temporal_crop(x)
    """
    start = draw_crop_start(len(x), x.shape[2], generator=generator, device=x.device)
    return temporal_crop(x, start, padding=x.shape[2] // 6)


@on_clips
def random_crop_resize(
    x: Tensor, generator: Generator = None, *, shortest: float = 0.5, frames: int | None = None
) -> Tensor:
    """Stretch a window of between `shortest` and all of the clip's frames, anywhere in it, to `frames`.

    Example:
        random_crop_resize(x, shortest=0.5, frames=64)
    """
    T = x.shape[2]
    uniform = draw_uniform((2, len(x)), 0, 1, generator=generator, device=x.device)
    length = (T * (shortest + (1 - shortest) * uniform[0])).clamp(1, T)
    return crop_resize(x, (T - length) * uniform[1], length, frames)


@on_clips
def random_time_reversal(x: Tensor, generator: Generator = None) -> Tensor:
    """Play backwards, or not, with even chances.

    Example:
        random_time_reversal(x)
    """
    return reverse_time(x, _draw_bool(x, 0.5, generator))


@on_clips
def random_blur(
    x: Tensor,
    generator: Generator = None,
    *,
    low: float = 0.1,
    high: float = 2.0,
    normalize: bool = True,
    ends: Literal["mirrored", "zero"] = "mirrored",
) -> Tensor:
    """Blur over time with a standard deviation in [low, high) frames; the rest as in `blur`.

    Source: AimCLR.

    Example:
        random_blur(x, low=0.5, high=1.5)
    """
    sigma = draw_uniform((len(x),), low, high, generator=generator, device=x.device)
    return blur(x, sigma, normalize=normalize, ends=ends)


@on_clips
def random_frame_mask(x: Tensor, generator: Generator = None, *, count: int = 5) -> Tensor:
    """Mask `count` frames of each clip.

    Example:
        random_frame_mask(x, count=10)
    """
    return mask_frames(x, draw_chosen(len(x), x.shape[2], count, generator=generator, device=x.device))


class Compose:
    """Apply steps one after the other, each to a clip at random with its own probability.

    steps: functions of (clips, generator), as the `random_*` above, or pairs (function, probability).

    Example:
        recipe = Compose(random_shear, (functools.partial(random_noise, std=0.02), 0.5))
        view = recipe(x, generator=torch.Generator().manual_seed(0))
    """

    def __init__(self, *steps: Step | tuple[Step, float]):
        self.steps = [step if isinstance(step, tuple) else (step, 1.0) for step in steps]
        for step, probability in self.steps:
            if not callable(step) or not 0 <= probability <= 1:
                raise ValueError(
                    "steps: expected functions, or pairs (function, probability in 0 … 1), "
                    f"found {(step, probability)}"
                )

    def __call__(self, x: Tensor, generator: Generator = None) -> Tensor:
        """Augment clips (N,3,T,V,M); without a generator, parameters come from torch's own."""
        for step, probability in self.steps:
            changed = step(x, generator)
            if probability < 1:
                changed = choose(_draw_bool(x, probability, generator), changed, x)
            x = changed
        return x


def _draw_bool(x, probability, generator):
    return draw_uniform((len(x),), 0, 1, generator=generator, device=x.device) < probability


class Recipe:
    """Augmentations one after the other, each with its probability, for clips of one shape.

    What is drawn is drawn for a whole batch and may be cut; for what leaves clips of this shape as they are
    nothing is. Matrices (shear, rotation, scale) and the crop are not applied but handed on, for
    `ops.derive_modalities` applies them at no cost; so they come after all others, matrices multiplied in
    the order of the list. Of poses in a plane the third number, a score, stays: of a matrix is taken what it
    does within the plane, so that a turn about x or y makes a body narrower, as a camera sees it.

    Args:
        augmentations: of `named`.
        shape: of the clips.
        where: the list's name, for messages.

    Raises InputError where clips of this shape cannot be augmented so.

    Example:
        recipe = Recipe(named([{"name": "shear"}, {"name": "noise"}]), Shape(50, 2, get_layout("ntu-rgb+d")))
        clips, rest = recipe.apply(clips, recipe.draw(len(clips), torch.Generator().manual_seed(0)))
        modalities = ops.derive_modalities(clips, **rest)
    """

    def __init__(
        self, augmentations: Sequence[Augmentation], shape: Shape, where: str = "augmentations"
    ) -> None:
        self.augmentations = [one for one in augmentations if not one.leaves(shape)]
        self.shape = shape
        for number, one in enumerate(augmentations, 1):
            problem = one.problem_for(shape)
            if problem:
                raise InputError(f"{where}, number {number}: {NAMES[type(one)]}: {problem}")
        if sum(isinstance(one, Crop) for one in self.augmentations) > 1:
            raise InputError(f"{where}: expected crop at most once, found it more often")

    def draw(self, n: int, source: torch.Generator) -> Drawn:
        """Draw for n clips, where the source lives: which clips each augmentation takes, and how."""
        drawn: Drawn = []
        for one in self.augmentations:
            chosen = None
            if one.probability < 1:
                uniform = draw_uniform((n,), 0, 1, generator=source, device=source.device)
                chosen = uniform < one.probability
            drawn.append((chosen, one.draw(n, self.shape, source)))
        return drawn

    def apply(self, clips: Tensor, drawn: Drawn) -> tuple[Tensor, dict[str, Tensor]]:
        """Augment clips (N,3,T,V,M) by what was drawn for them.

        Returns:
            The clips, and what `ops.derive_modalities` is to do: "shear" (N,3,3), "crop_start" (N,), or none.
        """
        rest: dict[str, Tensor] = {}
        for one, (chosen, values) in zip(self.augmentations, drawn, strict=True):
            if isinstance(one, Linear):
                matrix = _within_plane(values[0]) if self.shape.planar else values[0]
                matrix = _where(chosen, matrix, torch.eye(3, device=clips.device))
                rest["shear"] = _product(matrix, rest["shear"]) if "shear" in rest else matrix
            elif isinstance(one, Crop):
                padding = torch.full((), self.shape.frames // 6, device=clips.device)
                rest["crop_start"] = _where(chosen, values[0], padding)
            else:
                changed = one.apply(clips, values, self.shape.layout)
                if self.shape.planar and one.moves:
                    changed = torch.cat((changed[:, :2], clips[:, 2:]), 1)
                clips = changed if chosen is None else choose(chosen, changed, clips)
        return clips, rest


def cut(drawn: Drawn, clips: slice) -> Drawn:
    """Take what was drawn for some clips of a batch."""
    return [
        (None if chosen is None else chosen[clips], tuple(value[clips] for value in values))
        for chosen, values in drawn
    ]


def _where(chosen, value, otherwise):
    """`value` (N,…) of the chosen clips, `otherwise` of the others."""
    if chosen is None:
        return value
    return torch.where(chosen.view(-1, *(1,) * (value.dim() - 1)), value, otherwise)


def _within_plane(matrix):
    """What matrices (N,3,3) do to x and y; the third number stays."""
    kept = torch.zeros_like(matrix)
    kept[:, :2, :2] = matrix[:, :2, :2]
    kept[:, 2, 2] = 1
    return kept


def _product(a, b):
    """a b of matrices (N,3,3), as products and sums: neither autocast nor TF32 touches them."""
    return (a[:, :, :, None] * b[:, None]).sum(2)
