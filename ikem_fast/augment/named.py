"""Augmentations by name, as settings have them: what each draws, and what it does with it.

To add one: a class below, a line in AUGMENTATIONS.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ikem_fast.augment import draw, space, time
from ikem_fast.errors import InputError
from ikem_fast.settings import check, setting
from ikem_fast.skeleton import Layout


@dataclass(frozen=True)
class Shape:
    """What augmentations are drawn for: frames T, bodies M, and the layout of V joints.

    planar: whether poses are in a plane, their third number a score or 0.
    """

    frames: int
    bodies: int
    layout: Layout
    planar: bool = False


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Settings of one augmentation, and what it does.

    probability: with which each clip is augmented.
    """

    moves: ClassVar[bool] = False  # joints in space, which the score of a pose in a plane is no part of
    probability: float = setting(1.0, least=0, most=1)

    def problem_for(self, shape: Shape) -> str | None:
        """Say why clips of this shape cannot be augmented so, or None."""
        return None

    def leaves(self, shape: Shape) -> bool:
        """Say whether clips of this shape stay as they are, whatever would be drawn."""
        return False

    def draw(self, n: int, shape: Shape, source: torch.Generator) -> tuple[Tensor, ...]:
        """Draw parameters of n clips where the source lives, each (n,…)."""
        return ()

    def apply(self, x: Tensor, drawn: tuple[Tensor, ...], layout: Layout) -> Tensor:
        """Augment clips (N,3,T,V,M) by what was drawn for them."""
        raise NotImplementedError


class Linear(Augmentation):
    """An augmentation that is a matrix for each clip: `draw` gives (n,3,3), x' = M x."""

    def apply(self, x: Tensor, drawn: tuple[Tensor, ...], layout: Layout) -> Tensor:
        """Augment clips by their matrices."""
        return space.shear(x, drawn[0])


@dataclass(frozen=True, kw_only=True)
class Shear(Linear):
    """Shear with off-diagonals in [−amplitude, amplitude]."""

    amplitude: float = setting(0.5, least=0, most=10)

    def draw(self, n, shape, source):
        return (draw.draw_shear(n, self.amplitude, generator=source, device=source.device),)


@dataclass(frozen=True, kw_only=True)
class Rotation(Linear):
    """Turn about axes by up to ±limit, in radians: about one at random, or about all three."""

    limit: float = setting(math.pi / 6, least=0, most=math.pi)
    axes: Literal["one", "all"] = "one"

    def draw(self, n, shape, source):
        if self.axes == "one":
            angles = draw.draw_rotation(n, self.limit, generator=source, device=source.device)
        else:
            angles = draw.draw_uniform(
                (n, 3), -self.limit, self.limit, generator=source, device=source.device
            )
        return (space.rotation_matrix(angles),)


@dataclass(frozen=True, kw_only=True)
class Scale(Linear):
    """Scale by a factor in [low, high)."""

    low: float = setting(0.8, above=0, most=100)
    high: float = setting(1.2, above=0, most=100)

    def problem(self):
        return _ordered(self.low, self.high)

    def draw(self, n, shape, source):
        factor = draw.draw_uniform((n, 1, 1), self.low, self.high, generator=source, device=source.device)
        return (factor * torch.eye(3, device=source.device),)


@dataclass(frozen=True, kw_only=True)
class Crop(Augmentation):
    """Take a window of T frames out of the clip padded by a sixth of it, mirrored, on both sides."""

    def draw(self, n, shape, source):
        return (draw.draw_crop_start(n, shape.frames, generator=source, device=source.device),)

    def apply(self, x, drawn, layout):
        return time.temporal_crop(x, drawn[0], x.shape[2] // 6)


@dataclass(frozen=True, kw_only=True)
class Flip(Augmentation):
    """Mirror left to right."""

    probability: float = setting(0.5, least=0, most=1)

    def problem_for(self, shape):
        return (
            None
            if shape.layout.swap
            else f"expected a layout with left and right, found {shape.layout.name!r}"
        )

    def apply(self, x, drawn, layout):
        return space.flip(x, torch.ones(len(x), dtype=torch.bool, device=x.device), layout)


@dataclass(frozen=True, kw_only=True)
class SwapBodies(Augmentation):
    """Exchange the first two bodies, and have each take the other's place."""

    probability: float = setting(0.5, least=0, most=1)

    def leaves(self, shape):
        return shape.bodies < 2

    def draw(self, n, shape, source):
        half_turn = [-1.0, 1.0, 1.0 if shape.planar else -1.0]
        return (torch.tensor(half_turn, device=source.device).expand(n, 3),)

    def apply(self, x, drawn, layout):
        return space.swap_bodies(x, drawn[0], layout)


@dataclass(frozen=True, kw_only=True)
class Noise(Augmentation):
    """Add Gaussian noise of standard deviation `std`, in the coordinates' unit, to joints that are there."""

    moves = True
    std: float = setting(0.01, least=0, most=1000)

    def draw(self, n, shape, source):
        size = (n, 3, shape.frames, shape.layout.num_joints, shape.bodies)
        return (draw.draw_normal(size, generator=source, device=source.device).mul_(self.std),)

    def apply(self, x, drawn, layout):
        return torch.addcmul(x, drawn[0], space.joints_there(x).to(x.dtype))


@dataclass(frozen=True, kw_only=True)
class AxisMask(Augmentation):
    """Mask one coordinate."""

    def draw(self, n, shape, source):
        return (draw.draw_chosen(n, 3, 1, generator=source, device=source.device),)

    def apply(self, x, drawn, layout):
        return space.mask_axes(x, drawn[0])


@dataclass(frozen=True, kw_only=True)
class JointMask(Augmentation):
    """Mask `count` joints in every frame."""

    count: int = setting(5, least=1)

    def problem_for(self, shape):
        joints = shape.layout.num_joints
        return (
            None
            if self.count <= joints
            else f"expected a count of at most {joints} joints, found {self.count}"
        )

    def draw(self, n, shape, source):
        joints = shape.layout.num_joints
        return (draw.draw_chosen(n, joints, self.count, generator=source, device=source.device),)

    def apply(self, x, drawn, layout):
        return space.mask_joints(x, drawn[0])


@dataclass(frozen=True, kw_only=True)
class LimbMask(Augmentation):
    """Mask a joint at random, other than a root, with all that hangs on it."""

    def problem_for(self, shape):
        limbs = any(parent not in (-1, joint) for joint, parent in enumerate(shape.layout.parents))
        return None if limbs else f"expected a layout with limbs, found {shape.layout.name!r}"

    def draw(self, n, shape, source):
        return (draw.draw_limb(n, shape.layout, generator=source, device=source.device),)

    def apply(self, x, drawn, layout):
        return space.mask_joints(x, drawn[0])


@dataclass(frozen=True, kw_only=True)
class BoneLengths(Augmentation):
    """Multiply the length of each bone by a factor in [1 − amplitude, 1 + amplitude]: another person's."""

    moves = True
    amplitude: float = setting(0.3, least=0, below=1)

    def draw(self, n, shape, source):
        size, low, high = (n, shape.layout.num_joints), 1 - self.amplitude, 1 + self.amplitude
        return (draw.draw_uniform(size, low, high, generator=source, device=source.device),)

    def apply(self, x, drawn, layout):
        return space.stretch_bones(x, drawn[0], layout)


@dataclass(frozen=True, kw_only=True)
class JointOffset(Augmentation):
    """Move each joint by a constant: Gaussian of standard deviation `std`, in units of the clip's size."""

    moves = True
    std: float = setting(0.1, least=0, most=10)

    def draw(self, n, shape, source):
        size = (n, 3, shape.layout.num_joints)
        return (draw.draw_normal(size, generator=source, device=source.device).mul_(self.std),)

    def apply(self, x, drawn, layout):
        return space.offset_joints(x, drawn[0])


@dataclass(frozen=True, kw_only=True)
class TimeWarp(Augmentation):
    """Play faster here and slower there, by up to `amplitude` of the speed in each of two waves."""

    amplitude: float = setting(0.5, least=0, most=1)

    def draw(self, n, shape, source):
        bound = self.amplitude
        return (draw.draw_uniform((n, 2), -bound, bound, generator=source, device=source.device),)

    def apply(self, x, drawn, layout):
        return time.warp_time(x, drawn[0])


@dataclass(frozen=True, kw_only=True)
class CropResize(Augmentation):
    """Stretch a window of between `shortest` and all of the clip's frames, anywhere in it."""

    shortest: float = setting(0.5, above=0, most=1)

    def draw(self, n, shape, source):
        uniform = draw.draw_uniform((n, 2), 0, 1, generator=source, device=source.device)
        length = (shape.frames * (self.shortest + (1 - self.shortest) * uniform[:, 0])).clamp(1, shape.frames)
        return (shape.frames - length) * uniform[:, 1], length

    def apply(self, x, drawn, layout):
        return time.crop_resize(x, *drawn)


@dataclass(frozen=True, kw_only=True)
class TimeReversal(Augmentation):
    """Play backwards."""

    probability: float = setting(0.5, least=0, most=1)

    def apply(self, x, drawn, layout):
        return time.reverse_time(x, torch.ones(len(x), dtype=torch.bool, device=x.device))


@dataclass(frozen=True, kw_only=True)
class Blur(Augmentation):
    """Blur over time with a standard deviation in [low, high) frames."""

    low: float = setting(0.1, least=0, most=100)
    high: float = setting(2.0, least=0, most=100)

    def problem(self):
        return _ordered(self.low, self.high)

    def draw(self, n, shape, source):
        return (draw.draw_uniform((n,), self.low, self.high, generator=source, device=source.device),)

    def apply(self, x, drawn, layout):
        return time.blur(x, drawn[0])


@dataclass(frozen=True, kw_only=True)
class FrameMask(Augmentation):
    """Mask `count` frames."""

    count: int = setting(5, least=1)

    def problem_for(self, shape):
        few = self.count <= shape.frames
        return None if few else f"expected a count of at most {shape.frames} frames, found {self.count}"

    def draw(self, n, shape, source):
        return (draw.draw_chosen(n, shape.frames, self.count, generator=source, device=source.device),)

    def apply(self, x, drawn, layout):
        return time.mask_frames(x, drawn[0])


AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "shear": Shear,
    "crop": Crop,
    "rotation": Rotation,
    "scale": Scale,
    "flip": Flip,
    "swap_bodies": SwapBodies,
    "noise": Noise,
    "axis_mask": AxisMask,
    "joint_mask": JointMask,
    "limb_mask": LimbMask,
    "bone_lengths": BoneLengths,
    "joint_offset": JointOffset,
    "crop_resize": CropResize,
    "time_warp": TimeWarp,
    "time_reversal": TimeReversal,
    "blur": Blur,
    "frame_mask": FrameMask,
}
NAMES = {kind: name for name, kind in AUGMENTATIONS.items()}


def named(entries: Sequence[Mapping[str, Any]], where: str = "augmentations") -> list[Augmentation]:
    """Make the augmentations that a list in settings names.

    Args:
        entries: {"name": of `AUGMENTATIONS`, setting: value, …} each.
        where: the list's name, for messages.

    Raises InputError for a name, a setting or a value that there is not.

    Example:
        named([{"name": "shear", "amplitude": 1.0}, {"name": "flip", "probability": 0.3}])
    """
    made = []
    for number, entry in enumerate(entries, 1):
        at = f"{where}, number {number}"
        name = entry.get("name") if isinstance(entry, Mapping) else entry
        kind = AUGMENTATIONS.get(name) if isinstance(name, str) else None
        if kind is None or not isinstance(entry, Mapping):
            raise InputError(
                f"{at}: expected settings with a name out of {', '.join(AUGMENTATIONS)}, found {entry!r}"
            )
        given = {key: value for key, value in entry.items() if key != "name"}
        known = [field.name for field in fields(kind)]
        unknown = [key for key in given if key not in known]
        if unknown:
            raise InputError(f"{at}: {name} has the settings {', '.join(known)}, found {unknown[0]!r}")
        one = kind(**given)
        check(one, prefix=f"{at}: {name}: ")
        made.append(one)
    return made


def completed(entries: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Write every setting of a list of named augmentations out, those left at their defaults too.

    Example:
        completed([{"name": "crop"}])  # ({"name": "crop", "probability": 1.0},)
    """
    return tuple({"name": NAMES[type(one)], **asdict(one)} for one in named(entries))


def _ordered(low, high):
    return None if low <= high else f"low: expected at most high, which is {high}, found {low}"
