"""Dropout whose mask costs little on a CPU too."""

import torch
import torch.nn.functional as F
from torch import nn


class Dropout(nn.Module):
    """Zero each element with probability p in training, and scale the rest by 1 / (1 − p).

    On a CPU torch draws one Bernoulli number at a time, which took a quarter of an encoder's step; here each
    64 random bits decide four elements, so p is rounded to a multiple of 2⁻¹⁶. Elsewhere it is torch's.
    """

    def __init__(self, p):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout: expected a probability in [0, 1), found {p!r}")
        self.p = p

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        keep = round((1 - self.p) * 2**16)
        mask = bits.view(torch.int16)[: x.numel()].view(x.shape) < keep - 2**15
        return (x * mask).mul_(2**16 / keep)

    def extra_repr(self):
        return f"p={self.p}"
