"""Streams by the compiled library: one read of x; linear, and so is the gradient, as often as wanted."""

import torch

from ikem_fast.ops import _library
from ikem_fast.ops._support import Support, support_under_transforms

_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def support_for(x):
    """The `Support` of the kernels for x."""
    if x.device.type != "cpu" or x.dtype not in _DTYPES:
        return Support(f"the kernels are for floating-point numbers on a CPU, found {x.dtype} on {x.device}")
    transforms = support_under_transforms()
    return _library.support_on("cpu") if transforms else transforms


def streams(x, parents, bones, motions):
    """As in `reference`."""
    bone, motion = torch.ops.ikem_fast.streams(x, parents, bones, motions)
    return bone if bones else None, motion if motions else None


def _fake(x, parents, bone, motion):
    return tuple(x.new_empty(x.shape if wanted else (0,)) for wanted in (bone, motion))


def _fake_backward(joint, bone, motion, parents):
    like = next(one for one in (joint, bone, motion) if one is not None)
    return like.new_empty(like.shape)


def _setup_context(ctx, inputs, output):
    _, ctx.parents, ctx.bone, ctx.motion = inputs
    ctx.set_materialize_grads(False)


def _backward(ctx, bone, motion):
    given = [grad if wanted else None for grad, wanted in ((bone, ctx.bone), (motion, ctx.motion))]
    if given == [None, None]:
        return None, None, None, None
    return torch.ops.ikem_fast.streams_backward(None, *given, ctx.parents), None, None, None


def _setup_backward(ctx, inputs, output):
    *given, ctx.parents = inputs
    ctx.given = [one is not None for one in given]


def _twice(ctx, grad):
    joint, bone, motion = ctx.given
    bones, motions = torch.ops.ikem_fast.streams(grad, ctx.parents, bone, motion)
    return grad if joint else None, bones if bone else None, motions if motion else None, None


if _library.LIBRARY is not None:
    torch.library.register_fake("ikem_fast::streams", _fake)
    torch.library.register_fake("ikem_fast::streams_backward", _fake_backward)
    torch.library.register_autograd("ikem_fast::streams", _backward, setup_context=_setup_context)
    torch.library.register_autograd("ikem_fast::streams_backward", _twice, setup_context=_setup_backward)
