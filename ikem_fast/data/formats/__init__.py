"""The formats that clips come in, one file each, and the table of them."""

from pathlib import Path

from ikem_fast.data.formats.agcn import AGCN
from ikem_fast.data.formats.arrays import ARRAYS
from ikem_fast.data.formats.base import Format
from ikem_fast.data.formats.bvh import BVH
from ikem_fast.data.formats.c3d import C3D
from ikem_fast.data.formats.coco import COCO
from ikem_fast.data.formats.crossclr import CROSSCLR
from ikem_fast.data.formats.ctrgcn import CTRGCN
from ikem_fast.data.formats.mediapipe import MEDIAPIPE
from ikem_fast.data.formats.msr_action3d import MSR_ACTION3D
from ikem_fast.data.formats.npz import NPZ
from ikem_fast.data.formats.ntu import NTU
from ikem_fast.data.formats.nw_ucla import NW_UCLA
from ikem_fast.data.formats.openpose import OPENPOSE
from ikem_fast.data.formats.pku_mmd import PKU_MMD
from ikem_fast.data.formats.pyskl import PYSKL
from ikem_fast.data.formats.sbu import SBU
from ikem_fast.data.formats.smarthome import SMARTHOME
from ikem_fast.data.formats.synthetic import SYNTHETIC
from ikem_fast.data.formats.uav_human import UAV_HUMAN
from ikem_fast.data.formats.utd_mhad import UTD_MHAD
from ikem_fast.data.sources import find_files
from ikem_fast.errors import InputError, printable

FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        NTU, UTD_MHAD, NW_UCLA, SBU, MSR_ACTION3D, PKU_MMD, UAV_HUMAN, SMARTHOME,
        CROSSCLR, AGCN, CTRGCN, PYSKL, OPENPOSE, MEDIAPIPE, COCO, BVH, C3D, ARRAYS, NPZ, SYNTHETIC,
    )
}  # fmt: skip


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
    if not found and (path.is_file() or any(path.iterdir())):
        find_files(path, "")  # which says where an archive or a folder cannot be opened
    for general in (ARRAYS.name, NPZ.name):  # any file of numbers, and any packed one
        if len(found) > 1:
            found.pop(general, None)
    if len(found) != 1:
        seen = "; ".join(f"{name} ({printable(why)})" for name, why in found.items())
        raise InputError(
            f"{path}: expected clips of one of {', '.join(FORMATS)}, found {seen or 'none of them'}; say "
            "which it is: ikem-fast prepare FORMAT"
        )
    ((name, why),) = found.items()
    return FORMATS[name], why


__all__ = ["FORMATS", "Format", "find_format"]
