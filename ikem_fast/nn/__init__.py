"""Encoders, pretraining model, distiller, and the memory bank they contrast with."""

from ikem_fast.nn.distiller import RelationalDistiller
from ikem_fast.nn.encoders.base import ENCODERS, create_encoder
from ikem_fast.nn.encoders.stgcn import STGCN
from ikem_fast.nn.encoders.tcn import TCN
from ikem_fast.nn.encoders.transformer import Transformer
from ikem_fast.nn.ikem import IKEM
from ikem_fast.nn.memory_bank import MemoryBank
from ikem_fast.nn.published import load_published_state_dict, published_state_dict

__all__ = [
    "ENCODERS",
    "IKEM",
    "STGCN",
    "TCN",
    "MemoryBank",
    "RelationalDistiller",
    "Transformer",
    "create_encoder",
    "load_published_state_dict",
    "published_state_dict",
]
