"""The modalities by the compiled library: one pass over memory, and what torch must know of the op."""

from types import SimpleNamespace

import torch

from ikem_fast.ops import _library
from ikem_fast.ops._support import Support, support_under_transforms
from ikem_fast.ops.modalities import reference
from ikem_fast.skeleton import MODALITIES  # in the order of csrc/modalities/modalities.h

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_CUDA_JOINTS = 512  # kMaxJoints in csrc/modalities/modalities_kernel.cuh


def support_for(x, modalities, out_dtype):
    """The `Support` of the kernels for some modalities of clips x and a result of out_dtype."""
    if others := [name for name in modalities if name not in MODALITIES]:
        return Support(f"modalities: the kernels derive {', '.join(MODALITIES)}, found {others[0]!r}")
    for name, dtype in (("x", x.dtype), ("out_dtype", out_dtype)):
        if dtype not in _DTYPES:
            return Support(f"{name}: the kernels know {', '.join(map(str, _DTYPES))}, found {dtype}")
    if x.device.type == "cuda" and x.shape[3] > _CUDA_JOINTS:
        return Support(f"x: the CUDA kernel takes up to {_CUDA_JOINTS} joints, found {x.shape[3]}")
    transforms = support_under_transforms()
    return _library.support_on(x.device.type) if transforms else transforms


def derive_modalities(x, frames, modalities, layout, shear, crop_start, out_dtype):
    """`reference.derive_modalities` in one pass over memory. The gradient is recomputed by the reference."""
    if frames is not None:
        frames = frames.to(torch.float32 if frames.is_floating_point() else torch.int64).contiguous()
    return torch.ops.ikem_fast.derive_modalities(
        x.contiguous(),
        frames,
        None if shear is None else shear.to(torch.float32).contiguous(),
        None if crop_start is None else crop_start.to(torch.int64).contiguous(),
        [MODALITIES.index(name) for name in modalities],
        layout.parents,
        layout.axis_parents,
        layout.plane,
        out_dtype,
    )


def _fake(x, frames, shear, crop_start, modalities, parents, axis_parents, torso, out_dtype):
    return x.new_empty((len(modalities), *x.shape), dtype=out_dtype)


def _setup_context(ctx, inputs, output):
    x, frames, shear, crop_start, modalities, parents, axis_parents, torso, ctx.out_dtype = inputs
    ctx.save_for_backward(x, frames, shear, crop_start)
    ctx.modalities = [MODALITIES[m] for m in modalities]
    ctx.layout = SimpleNamespace(
        parents=parents,
        axis_parents=axis_parents,
        plane=torso,
        root=next(v for v, parent in enumerate(parents) if v == parent),
        num_joints=len(parents),
    )


def _backward(ctx, grad):
    x, frames, shear, crop_start = ctx.saved_tensors
    twice = torch.is_grad_enabled()  # the gradient will be differentiated: it must hang on x itself
    with torch.enable_grad():
        x = x if twice else x.detach().requires_grad_()
        out = reference.derive_modalities(
            x, frames, ctx.modalities, ctx.layout, shear, crop_start, ctx.out_dtype
        )
        return torch.autograd.grad(out, x, grad, create_graph=twice)[0], *(None,) * 8


if _library.LIBRARY is not None:
    torch.library.register_fake("ikem_fast::derive_modalities", _fake)
    torch.library.register_autograd("ikem_fast::derive_modalities", _backward, setup_context=_setup_context)
