"""The compiled op library `ikem_fast._C` (csrc/): loading it, and what torch must know about its ops.

The library is loaded once, when this module is first imported, and never compiled. Where it is missing or
cannot be loaded the package works without it, and `status` has the reason.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import torch

from ikem_fast.ops import reference
from ikem_fast.skeleton import MODALITIES

_PACKAGE = Path(__file__).resolve().parents[1]
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_CUDA_JOINTS = 512  # kMaxJoints in csrc/modalities_kernel.cuh
_OPS = ("derive_modalities", "preprocess_clips", "block_output")  # one of each file that registers ops


def _recorded(part):
    """What setup.py wrote down about a part of the build."""
    try:
        return json.loads((_PACKAGE / "_build.json").read_text())[part]
    except (OSError, ValueError, KeyError):
        return "no build was recorded"


def _load():
    """Path of the library and None, or (None, why there is no library)."""
    library = _PACKAGE / "_C.abi3.so"
    if not library.exists():
        return None, f"{library} is missing ({_recorded('_C')})"
    try:
        torch.ops.load_library(library)
    except OSError as e:
        reason = e.__cause__ or e  # torch names the file, the cause says what is wrong with it
        return None, f"{library} cannot be loaded: {reason}"
    missing = [name for name in _OPS if not hasattr(torch.ops.ikem_fast, name)]
    if missing:
        return None, f"{library} is of another version, without {', '.join(missing)}: build the package again"
    return library, None


def _devices():
    """Types of device that the library has kernels for."""
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return tuple(d for d in ("cpu", "cuda") if has_kernel("ikem_fast::derive_modalities", d.upper()))


LIBRARY, PROBLEM = _load()
DEVICES = () if LIBRARY is None else _devices()


def status():
    """What is compiled in, for people: {"library": path or None, "cpu": …, "cuda": …}; "ok", or why not."""
    return {
        "library": None if LIBRARY is None else str(LIBRARY),
        "cpu": problem_on("cpu") or "ok",
        "cuda": problem_on("cuda") or "ok",
    }


def problem_on(device_type):
    """Why there are no kernels for a type of device; None where there are."""
    if device_type in DEVICES:
        return None
    return PROBLEM or f"{LIBRARY} has no kernels for {device_type} ({_recorded(device_type)})"


def problem_with(x, out_dtype):
    """Why `derive_modalities` has no kernel for clips x and a result of out_dtype; None where it has one."""
    for name, dtype in (("x", x.dtype), ("out_dtype", out_dtype)):
        if dtype not in _DTYPES:
            return f"{name}: the kernels know {', '.join(map(str, _DTYPES))}, found {dtype}"
    if x.device.type == "cuda" and x.shape[3] > _CUDA_JOINTS:
        return f"x: the CUDA kernel takes up to {_CUDA_JOINTS} joints, found {x.shape[3]}"
    return problem_on(x.device.type)


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
        layout.torso,
        out_dtype,
    )


def preprocess_clips(raw, starts, lengths, frames, layout):
    """`reference.preprocess_clips` in one pass over memory."""
    return torch.ops.ikem_fast.preprocess_clips(
        raw, starts.contiguous(), lengths.contiguous(), frames, layout.root, *layout.shoulders
    )


def _fake_clips(raw, starts, lengths, frames, root, right, left):
    clips = raw.new_empty((lengths.shape[0], 3, frames, *raw.shape[2:]), dtype=torch.float32)
    return clips, torch.empty_like(lengths)


def _fake(x, frames, shear, crop_start, modalities, parents, axis_parents, torso, out_dtype):
    return x.new_empty((len(modalities), *x.shape), dtype=out_dtype)


def _setup_context(ctx, inputs, output):
    x, frames, shear, crop_start, modalities, parents, axis_parents, torso, ctx.out_dtype = inputs
    ctx.save_for_backward(x, frames, shear, crop_start)
    ctx.modalities = [MODALITIES[m] for m in modalities]
    ctx.layout = SimpleNamespace(
        parents=parents,
        axis_parents=axis_parents,
        torso=torso,
        root=next(v for v, parent in enumerate(parents) if v == parent),
        num_joints=len(parents),
    )


def _backward(ctx, grad):
    x, frames, shear, crop_start = ctx.saved_tensors
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        out = reference.derive_modalities(
            x, frames, ctx.modalities, ctx.layout, shear, crop_start, ctx.out_dtype
        )
    return torch.autograd.grad(out, x, grad)[0], *(None,) * 8


if LIBRARY is not None:
    torch.library.register_fake("ikem_fast::derive_modalities", _fake)
    torch.library.register_fake("ikem_fast::preprocess_clips", _fake_clips)
    torch.library.register_autograd("ikem_fast::derive_modalities", _backward, setup_context=_setup_context)
