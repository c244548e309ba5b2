"""Dropout as a public op: check the arguments, choose who computes."""

import torch.nn.functional as F
from torch import Tensor

from ikem_fast.ops._checks import check_choice
from ikem_fast.ops._support import IMPLEMENTATIONS, Implementation, takes_fused
from ikem_fast.ops.dropout import native


def dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    impl: Implementation = "auto",
) -> Tensor:
    """Zero elements at random, as `torch.nn.functional.dropout` does: the same ones, by the same seed.

    On a CPU torch draws for one element after another, some 20 ns each, on one thread. Here the same draws of
    the same generator take a tenth of that, and a byte an element is kept for the backward pass in place of
    four.

    Args:
        input: of any shape.
        p: the probability of an element to be zeroed, in 0 … 1.
        training: whether anything is zeroed.
        inplace: whether input is changed.
        impl: "auto", "fused" (float32 on a CPU, contiguous in any memory format) or "reference", which is
            torch's own.

    Returns:
        A tensor of the shape and dtype of input; input itself where nothing is zeroed. Differentiable as
        often as wanted.

    Raises:
        ValueError: p is out of range.
        RuntimeError: impl="fused" and there is no kernel for this; the message says why.

    Example:
        torch.nn.functional.dropout = ops.dropout  # modules of torch.nn.Dropout take it too

    Source: Hinton et al., Improving neural networks by preventing co-adaptation of feature detectors (2012).
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p: expected a probability in 0 … 1, found {p!r}")
    check_choice("impl", impl, IMPLEMENTATIONS)
    if training and 0 < p < 1 and takes_fused(impl, native.support_for(input)):
        return native.dropout(input, p, inplace)
    return _torch_dropout(input, p, training, inplace)


_torch_dropout = F.dropout  # torch's, also where it was replaced by the op
