"""The modalities in plain torch: the definition in readable form, and the truth that kernels are held to."""

import torch
import torch.nn.functional as F

from ikem_fast import augment
from ikem_fast.ops._precision import compute_dtype, outside_autocast
from ikem_fast.tables import index_table


@outside_autocast
def derive_modalities(x, frames, modalities, layout, shear, crop_start, out_dtype):
    """x (N,3,T,V,M) → (P,N,3,T,V,M). Paper section 3.1; formulas in docs/method.md."""
    x = x.to(compute_dtype(x))
    if crop_start is not None:
        x = augment.temporal_crop(x, crop_start, padding=x.shape[2] // 6)
    if shear is not None:
        x = augment.shear(x, shear.to(x.dtype))

    T = x.shape[2]
    speed = (T / frames.to(x.dtype) if frames is not None else x.new_ones(x.shape[0])).view(-1, 1, 1, 1, 1)
    parents, axis = (index_table(table, x) for table in (layout.parents, layout.axis_parents))

    def derivative(y):
        """Forward difference per original frame; the last frame, which has no successor, is 0."""
        return F.pad(y[:, :, 1:] - y[:, :, :-1], (0, 0, 0, 0, 0, 1)) * speed

    def bone():
        a, b, c = layout.plane
        normal = _cross(x[..., a, :] - x[..., c, :], x[..., b, :] - x[..., c, :])
        # In float64, to the last bit: the children's rotation axes are crossed with it.
        normal = _unit(normal.double()).to(x.dtype)
        bones = x - x[..., parents, :]
        is_root = torch.arange(layout.num_joints, device=x.device) == layout.root
        return torch.where(is_root[:, None], normal.unsqueeze(-2), bones)

    def rotation_axis():
        bones = bone()
        return _cross(bones, bones[..., axis, :])

    def angular_velocity():
        u = _unit(bone())
        w = u[..., axis, :]
        sine = _length(_cross(u, w))
        cosine = (u * w).sum(1, keepdim=True)
        # A zero bone has no direction and turns by nothing; atan2 has no gradient at (0, 0).
        undefined = (sine == 0) & (cosine == 0)
        angle = torch.atan2(sine, torch.where(undefined, torch.ones_like(cosine), cosine))
        return derivative(angle) * _unit(rotation_axis())

    def acceleration():
        second = derivative(derivative(x))
        second[:, :, max(T - 2, 0) :].zero_()
        return second

    derive = {
        "joint": lambda: x,
        "motion": lambda: derivative(x),
        "bone": bone,
        "acceleration": acceleration,
        "rotation_axis": rotation_axis,
        "angular_velocity": angular_velocity,
    }
    return torch.stack([derive[name]() for name in modalities]).to(out_dtype)


def _unit(v):
    """Vectors of unit length along dim 1; zero vectors stay 0, with gradient 0."""
    length = _length(v)
    return torch.where(length == 0, 0, v / length.clamp(min=1e-12))


def _length(v):
    """Lengths along dim 1, with derivatives of any order: 0 where a vector is 0."""
    square = (v * v).sum(1, keepdim=True)
    zero = square == 0
    return torch.where(zero, 0, torch.where(zero, 1, square).sqrt())


def _cross(a, b):
    """a × b along dim 1, each product rounded by itself, so that parallel vectors give exactly 0.

    torch.linalg.cross fuses one product of each difference where the CPU can: b × b is then not 0.
    """
    (ax, ay, az), (bx, by, bz) = a.unbind(1), b.unbind(1)
    return torch.stack((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx), 1)
