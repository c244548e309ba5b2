"""The functions behind `ikem-fast prepare`, by name; `formats` has them in a table."""

from ikem_fast.data.formats.npz import prepare_npz
from ikem_fast.data.formats.ntu import prepare_ntu
from ikem_fast.data.formats.nw_ucla import prepare_nw_ucla
from ikem_fast.data.formats.synthetic import prepare_synthetic
from ikem_fast.data.formats.utd_mhad import prepare_utd_mhad

__all__ = ["prepare_npz", "prepare_ntu", "prepare_nw_ucla", "prepare_synthetic", "prepare_utd_mhad"]
