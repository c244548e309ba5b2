"""Streams of a clip as a public op: check the arguments, choose who computes."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ikem_fast.ops._checks import check_choice, check_modalities
from ikem_fast.ops._support import IMPLEMENTATIONS, Implementation, takes_fused
from ikem_fast.ops.modalities.api import derive_modalities
from ikem_fast.ops.streams import native, reference
from ikem_fast.skeleton import Layout, get_layout

NAMES = ("joint", "bone", "motion")


def streams(
    x: Tensor,
    parents: Sequence[int] | str | Layout,
    names: Sequence[str] = NAMES,
    *,
    root: Literal["zero", "torso"] = "zero",
    channels: int = 3,
    impl: Implementation = "auto",
) -> tuple[Tensor, ...]:
    """Make the streams of clips that others train on: joints, bones and motion.

    - joint: x itself.
    - bone: x_v − x_{parent(v)}; a root's is 0.
    - motion: x_{t+1} − x_t; the last frame's is 0.

    `derive_modalities` has IKEM's definitions: motion per original frame, a root with the torso's normal.

    Args:
        x: (N,C,T,V,M), any C; or (N,T,M·V·C), as CTR-GCN's files have it. Any floating dtype is kept.
        parents: the parent of each of V joints from 0 on, −1 or itself for a root; or a layout or its name.
        names: which streams, in this order.
        root: "zero"; or "torso", the unit normal of the torso, for which parents is a layout and x
            (N,3,T,V,M).
        channels: C of (N,T,M·V·C).
        impl: "auto", "fused" (on a CPU) or "reference".

    Returns:
        A tensor of the shape and dtype of x for each name. Linear in x but for the normal; differentiable.

    Example:
        clips = torch.randn(8, 3, 50, 25, 2)
        joint, bone, motion = streams(clips, "ntu-rgb+d")

    Raises:
        TypeError, ValueError: an argument has another type, shape or range; the message names it.
        RuntimeError: impl="fused" and there is no native kernel for this device or dtype.

    Source: two-stream AGCN (Shi et al. 2019); the streams of CrosSCLR, AimCLR, HiCLR, CMD and UmURL.
    """
    layout, joints = None, parents
    if isinstance(joints, str | Layout):
        layout = get_layout(joints)
        joints = layout.parents
    table: list[int] = [-1 if parent == v else parent for v, parent in enumerate(joints)]
    check_modalities(names, NAMES)
    check_choice("root", root, ("zero", "torso"))
    check_choice("impl", impl, IMPLEMENTATIONS)
    if any(not -1 <= parent < len(table) for parent in table):
        raise ValueError(f"parents: expected joints −1 … {len(table) - 1}, found {list(joints)}")
    rows, columns = _rows(x, table, channels)
    if root == "torso" and (layout is None or x.dim() != 5):
        raise ValueError("root: 'torso' expects parents that are a layout, or its name, and x (N,3,T,V,M)")
    ops = native if takes_fused(impl, native.support_for(x)) else reference
    bones = "bone" in names and root == "zero"
    made = dict(zip(NAMES[1:], ops.streams(rows, columns, bones, "motion" in names), strict=True))
    if "bone" in names and layout is not None and root == "torso":
        (made["bone"],) = derive_modalities(
            x, modalities=("bone",), layout=layout, out_dtype=x.dtype, impl=impl
        )
    return tuple(x if name == "joint" else made[name].view(x.shape) for name in names)


def _rows(x: Tensor, table: list[int], channels: int) -> tuple[Tensor, list[int]]:
    """Give x as (sequences, frames, width) and the parent of each column, −1 for a root's."""
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        found = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
        raise TypeError(f"x: expected a floating-point tensor (N,C,T,V,M) or (N,T,M·V·C), found {found}")
    V = len(table)
    if x.dim() == 5 and x.shape[3] == V:
        rows, outer, inner = x.flatten(3).flatten(0, 1), 1, x.shape[4]
    elif x.dim() == 3 and x.shape[2] % (V * channels) == 0:
        rows, outer, inner = x, x.shape[2] // (V * channels), channels
    else:
        raise ValueError(
            f"x: expected shape (N, C, T, V={V}, M) or (N, T, M·V·C with V={V}, C={channels}), "
            f"found {tuple(x.shape)}"
        )
    columns = [
        -1 if parent == -1 else (body * V + parent) * inner + i
        for body in range(outer)
        for parent in table
        for i in range(inner)
    ]
    return rows, columns
