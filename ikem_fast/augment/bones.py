"""Which bones a joint hangs on."""

import functools

import torch
from torch import Tensor

from ikem_fast.skeleton import Layout
from ikem_fast.tables import index_table


@functools.lru_cache(maxsize=16)
def carried(layout: Layout, device: torch.device) -> Tensor:
    """Tell which joints a bone carries: (V,V) bool, [v,a] where v is a or hangs on it, and a is no root."""
    return index_table(_carried(layout), device).bool()


@functools.cache
def _carried(layout):
    def bones_above(joint):
        while joint not in layout.roots:
            yield joint
            joint = layout.parents[joint]

    joints = range(layout.num_joints)
    return tuple(tuple(int(a in bones) for a in joints) for bones in (set(bones_above(v)) for v in joints))
