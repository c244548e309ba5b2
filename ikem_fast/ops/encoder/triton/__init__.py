"""The blocks of encoders as Triton kernels, for CUDA tensors (and CPU tensors under the interpreter).

`products` multiplies matrices (over the graph, over time, and back), `weights` sums their gradients over all
rows, `passes` does what is between them, on activations as `rows` reads them; `launch` launches each, and
`block` puts them together and their gradients.
"""

import torch

from ikem_fast.ops._support import YES, Support
from ikem_fast.ops._triton import INTERPRETED
from ikem_fast.ops.encoder.triton.block import fused_blocks

__all__ = ["INTERPRETED", "fused_blocks", "numbers", "support_for"]

MAX_JOINTS = {2: 64, 4: 32}  # by bytes of a number: what shared memory holds of the graph's gradients
MAX_NUMBERS = 2**31  # that kernels count


def numbers(x, blocks):
    """Those of the largest activations that blocks make of x (B,C,T,V)."""
    B, _, T, V = x.shape
    return B * T * V * max(block.tcn[3].num_features for block in blocks)


def support_for(x, blocks, dtype):
    """The `Support` of the kernels for x (B,C,T,V), computed in dtype, and blocks as STGCN builds them."""
    joints, most, widest = x.shape[3], MAX_JOINTS[dtype.itemsize], numbers(x, blocks)
    if widest >= MAX_NUMBERS:
        return Support(f"the kernels count up to 2³¹ numbers and there are {widest}")
    if joints > most:
        return Support(f"the kernels take up to {most} joints in {dtype} and there are {joints}")
    norms = (norm for block in blocks for norm in block.modules() if isinstance(norm, torch.nn.BatchNorm2d))
    if any(norm.momentum is None for norm in norms):
        return Support("the kernels know no running average over all batches (momentum None)")
    return YES
