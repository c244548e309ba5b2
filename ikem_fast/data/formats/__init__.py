"""The formats that clips come in, one file each, and the table of them."""

from pathlib import Path

from ikem_fast.data.formats.agcn import AGCN
from ikem_fast.data.formats.base import Format
from ikem_fast.data.formats.crossclr import CROSSCLR
from ikem_fast.data.formats.ctrgcn import CTRGCN
from ikem_fast.data.formats.npz import NPZ
from ikem_fast.data.formats.ntu import NTU
from ikem_fast.data.formats.nw_ucla import NW_UCLA
from ikem_fast.data.formats.pyskl import PYSKL
from ikem_fast.data.formats.synthetic import SYNTHETIC
from ikem_fast.data.formats.utd_mhad import UTD_MHAD
from ikem_fast.errors import InputError, printable

FORMATS: dict[str, Format] = {
    format.name: format for format in (NTU, UTD_MHAD, NW_UCLA, CROSSCLR, AGCN, CTRGCN, PYSKL, NPZ, SYNTHETIC)
}


def find_format(path: str | Path) -> tuple[Format, str]:
    """Find out which format a file, a folder or an archive holds, and by what that is seen.

    Raises InputError where it is none, or there are several.

    Example:
        find_format("NTU60_CS.npz")[0].name  # "ctrgcn"
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: expected a file or a folder, found nothing there")
    found = {name: why for name, chosen in FORMATS.items() if (why := chosen.detect(path))}
    if len(found) != 1:
        seen = "; ".join(f"{name} ({printable(why)})" for name, why in found.items())
        raise InputError(
            f"{path}: expected clips of one of {', '.join(FORMATS)}, found {seen or 'none of them'}; say "
            "which it is: ikem-fast prepare FORMAT"
        )
    ((name, why),) = found.items()
    return FORMATS[name], why


__all__ = ["FORMATS", "Format", "find_format"]
