"""Preprocessing by the compiled library: one pass over memory, and what torch must know of the op."""

import torch

from ikem_fast.ops import _library
from ikem_fast.ops._support import support_under_transforms


def support_for(raw):
    """The `Support` of the kernels for raw clips."""
    transforms = support_under_transforms()
    return _library.support_on(raw.device.type) if transforms else transforms


def preprocess_clips(raw, starts, lengths, frames, layout):
    """`reference.preprocess_clips` in one pass over memory."""
    return torch.ops.ikem_fast.preprocess_clips(
        raw, starts.contiguous(), lengths.contiguous(), frames, layout.root, *layout.shoulders
    )


def _fake_clips(raw, starts, lengths, frames, root, right, left):
    clips = raw.new_empty((lengths.shape[0], 3, frames, *raw.shape[2:]), dtype=torch.float32)
    return clips, torch.empty_like(lengths)


if _library.LIBRARY is not None:
    torch.library.register_fake("ikem_fast::preprocess_clips", _fake_clips)
