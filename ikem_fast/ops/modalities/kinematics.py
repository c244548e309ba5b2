"""What modalities are defined with: moving bodies, differences in time, bones, and vectors along dim 1."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ikem_fast.skeleton import Layout
from ikem_fast.tables import index_table


@dataclass(frozen=True)
class Bodies:
    """Moving bodies of one layout.

    x: (N,3,T,V,M) coordinates.
    speed: (N,1,1,1,1) frames of the result in one of the clip's own, T / frames.
    layout: of the joints.
    """

    x: Tensor
    speed: Tensor
    layout: Layout

    def derivative(self, y: Tensor) -> Tensor:
        """Forward difference of (N,C,T,V,M) per original frame; the last frame, with no successor, is 0."""
        return F.pad(y[:, :, 1:] - y[:, :, :-1], (0, 0, 0, 0, 0, 1)) * self.speed

    def bones(self) -> Tensor:
        """From each joint's parent to it; the first root carries the torso's unit normal, if there is one."""
        x, layout = self.x, self.layout
        a, b, c = layout.plane
        normal = cross(x[..., a, :] - x[..., c, :], x[..., b, :] - x[..., c, :])
        # In float64, to the last bit: the children's rotation axes are crossed with it.
        normal = unit(normal.double()).to(x.dtype)
        bones = x - x[..., index_table(layout.parents, x), :]
        is_root = torch.arange(layout.num_joints, device=x.device) == layout.root
        return torch.where(is_root[:, None], normal.unsqueeze(-2), bones)

    def along_axes(self, bones: Tensor) -> Tensor:
        """Of each joint's bone, the one that it bends against: that of its axis parent."""
        return bones[..., index_table(self.layout.axis_parents, bones), :]


def unit(v: Tensor) -> Tensor:
    """Vectors of unit length along dim 1; zero vectors stay 0, with gradient 0."""
    size = length(v)
    return torch.where(size == 0, 0, v / size.clamp(min=1e-12))


def length(v: Tensor) -> Tensor:
    """Lengths along dim 1, with derivatives of any order: 0 where a vector is 0."""
    square = (v * v).sum(1, keepdim=True)
    zero = square == 0
    return torch.where(zero, 0, torch.where(zero, 1, square).sqrt())


def cross(a: Tensor, b: Tensor) -> Tensor:
    """a × b along dim 1, each product rounded by itself, so that parallel vectors give exactly 0.

    torch.linalg.cross fuses one product of each difference where the CPU can: b × b is then not 0.
    """
    (ax, ay, az), (bx, by, bz) = a.unbind(1), b.unbind(1)
    return torch.stack((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx), 1)
