"""Rings of past keys, one for each modality, all turning together."""

import torch
import torch.nn.functional as F
from torch import nn

from ikem_fast import ops


class MemoryBank(nn.Module):
    """Hold the last `size` keys of each modality; row r of every modality comes from the same clip.

    Buffers:
        rows: (P,K,D) float32, unit rows; random until keys have filled it.
        pointer: () int64, the row that the next key replaces; lives on the device, so that no step waits.

    Example:
        bank = MemoryBank(num_modalities=6, size=32768, dim=128)
        bank.enqueue(torch.randn(6, 64, 128))
    """

    rows: torch.Tensor
    pointer: torch.Tensor

    def __init__(self, num_modalities: int, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(num_modalities, size, dim), dim=-1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def enqueue(self, keys: torch.Tensor) -> None:
        """Replace the oldest rows by keys (P,N,D), normalised here; the ring wraps at its end.

        Raises ValueError where N > K (a key would be replaced by another of its own batch).
        """
        P, K, D = self.rows.shape
        if keys.dim() != 3 or keys.shape[0] != P or keys.shape[2] != D or keys.shape[1] > K:
            raise ValueError(
                f"keys: expected shape (P={P}, N ≤ {K} (the bank's size), D={D}), found {tuple(keys.shape)}"
            )
        ops.enqueue_(self.rows, F.normalize(keys.to(self.rows.dtype), dim=-1), self.pointer)
