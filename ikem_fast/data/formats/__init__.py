"""The formats that clips come in, one file each, and the table of them."""

from ikem_fast.data.formats.base import Format
from ikem_fast.data.formats.npz import NPZ
from ikem_fast.data.formats.ntu import NTU
from ikem_fast.data.formats.nw_ucla import NW_UCLA
from ikem_fast.data.formats.synthetic import SYNTHETIC
from ikem_fast.data.formats.utd_mhad import UTD_MHAD

FORMATS: dict[str, Format] = {format.name: format for format in (NTU, UTD_MHAD, NW_UCLA, NPZ, SYNTHETIC)}

__all__ = ["FORMATS", "Format"]
