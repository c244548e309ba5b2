"""Joint layouts: those that are known by name, those of a file, and where one's joints are in another."""

from ikem_fast.skeleton.correspondence import joint_weights
from ikem_fast.skeleton.files import different, find_layout, layout_of, load_layout, stored_layout
from ikem_fast.skeleton.layout import GRAPH_STRATEGIES, MAX_COORDINATE, MODALITIES, Layout
from ikem_fast.skeleton.registry import get_layout, layout_names, register_layout
from ikem_fast.skeleton.table import KINECT_V1, NTU_RGBD, NTU_RGBD_CHAIN

__all__ = [
    "GRAPH_STRATEGIES",
    "KINECT_V1",
    "MAX_COORDINATE",
    "MODALITIES",
    "NTU_RGBD",
    "NTU_RGBD_CHAIN",
    "Layout",
    "different",
    "find_layout",
    "get_layout",
    "joint_weights",
    "layout_names",
    "layout_of",
    "load_layout",
    "register_layout",
    "stored_layout",
]
