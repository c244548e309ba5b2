"""Batched augmentations of clips: plain functions of explicit parameters, on the clips' own device.

Clips are (N,3,T,V,M): coordinates, frames, joints, bodies; every clip of a batch has parameters of its own.
Whatever has another shape is a ValueError that names the argument, what was expected and what was found.

- `shear`, `rotate`, `flip`, … apply parameters that are given. They draw nothing and are differentiable.
- `draw_*` draw parameters from a `torch.Generator`, so that a run can be repeated and resumed. A generator
  on the CPU serves clips on any device and gives them the same parameters there.
- `random_*` do both, and `Compose` chains them into a recipe.
- `AUGMENTATIONS` names them for settings: `named` reads a list of them, `Recipe` draws and applies it.

Shear, rotation, scaling (a matrix for each clip) and `temporal_crop` cost nothing extra when they are given
to `ikem_fast.ops.derive_modalities` instead.
"""

from ikem_fast.augment.draw import (
    draw_chosen,
    draw_crop_start,
    draw_integers,
    draw_limb,
    draw_normal,
    draw_rotation,
    draw_shear,
    draw_uniform,
)
from ikem_fast.augment.named import AUGMENTATIONS, Shape, named
from ikem_fast.augment.recipes import (
    Compose,
    Recipe,
    random_axis_mask,
    random_blur,
    random_crop_resize,
    random_flip,
    random_frame_mask,
    random_joint_mask,
    random_limb_mask,
    random_noise,
    random_rotation,
    random_scale,
    random_shear,
    random_temporal_crop,
    random_time_reversal,
)
from ikem_fast.augment.space import (
    add_noise,
    flip,
    mask_axes,
    mask_joints,
    offset_joints,
    rotate,
    rotation_matrix,
    scale,
    shear,
    stretch_bones,
    swap_bodies,
)
from ikem_fast.augment.time import (
    BLUR_TAPS,
    blur,
    crop_resize,
    mask_frames,
    reverse_time,
    temporal_crop,
    warp_time,
)

__all__ = [
    "AUGMENTATIONS",
    "BLUR_TAPS",
    "Compose",
    "Recipe",
    "Shape",
    "add_noise",
    "blur",
    "crop_resize",
    "draw_chosen",
    "draw_crop_start",
    "draw_integers",
    "draw_limb",
    "draw_normal",
    "draw_rotation",
    "draw_shear",
    "draw_uniform",
    "flip",
    "mask_axes",
    "mask_frames",
    "mask_joints",
    "named",
    "offset_joints",
    "random_axis_mask",
    "random_blur",
    "random_crop_resize",
    "random_flip",
    "random_frame_mask",
    "random_joint_mask",
    "random_limb_mask",
    "random_noise",
    "random_rotation",
    "random_scale",
    "random_shear",
    "random_temporal_crop",
    "random_time_reversal",
    "reverse_time",
    "rotate",
    "rotation_matrix",
    "scale",
    "shear",
    "stretch_bones",
    "swap_bodies",
    "temporal_crop",
    "warp_time",
]
