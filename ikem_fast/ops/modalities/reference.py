"""The modalities in plain torch: the definitions in readable form, and the truth that kernels are held to."""

import torch

from ikem_fast import augment
from ikem_fast.ops._precision import compute_dtype, outside_autocast
from ikem_fast.ops.modalities.definitions import DEFINITIONS
from ikem_fast.ops.modalities.kinematics import Bodies


@outside_autocast
def derive_modalities(x, frames, modalities, layout, shear, crop_start, out_dtype):
    """x (N,3,T,V,M) → (P,N,3,T,V,M). Paper section 3.1; formulas in docs/method.md."""
    x = x.to(compute_dtype(x))
    if crop_start is not None:
        x = augment.temporal_crop(x, crop_start, padding=x.shape[2] // 6)
    if shear is not None:
        x = augment.shear(x, shear.to(x.dtype))
    speed = x.shape[2] / frames.to(x.dtype) if frames is not None else x.new_ones(x.shape[0])
    bodies = Bodies(x, speed.view(-1, 1, 1, 1, 1), layout)
    return torch.stack([DEFINITIONS[name].derive(bodies) for name in modalities]).to(out_dtype)
