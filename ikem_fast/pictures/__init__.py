"""Moving pictures of clips: what is shown (`scene`), as images (`raster`), on interactive pages (`page`)."""

from ikem_fast.pictures.page import write_page
from ikem_fast.pictures.raster import THEMES, write_gif, write_mp4, write_strip
from ikem_fast.pictures.scene import Panel, body_panel, modality_panels

__all__ = [
    "THEMES",
    "Panel",
    "body_panel",
    "modality_panels",
    "write_gif",
    "write_mp4",
    "write_page",
    "write_strip",
]
