"""The layouts that are known by a name."""

from ikem_fast.skeleton.layout import Layout

_LAYOUTS: dict[str, Layout] = {}

# Names that datasets and other projects have for one of them.
ALIASES = {
    "kinect-v2": "ntu-rgb+d",
    "pku-mmd": "ntu-rgb+d",
    "nw-ucla": "kinect-v1",
    "coco-17": "coco",
    "uav-human": "coco",
    "openpose-18": "openpose",
    "h36m-17": "h36m",
    "smpl-24": "smpl",
}


def register_layout(layout: Layout) -> Layout:
    """Make `layout` known by its name, and return it.

    Raises ValueError if the name is another layout's; the same tables may be registered again.

    Example:
        register_layout(Layout("hand", ("wrist", "thumb", "finger"), parents=(-1, 0, 0)))
    """
    if layout.name in ALIASES or _LAYOUTS.setdefault(layout.name, layout) != layout:
        raise ValueError(f"layout {layout.name!r} is registered already, with other tables")
    return layout


def get_layout(layout: str | Layout) -> Layout:
    """Find the `Layout` of a name, or return a `Layout` as it is.

    Raises ValueError naming the known ones.

    Example:
        get_layout("kinect-v1").joints  # 20 names
    """
    if isinstance(layout, Layout):
        return layout
    name = ALIASES.get(layout, layout)
    if name not in _LAYOUTS:
        raise ValueError(
            f"layout: expected one of {', '.join(layout_names())}, or a Layout of one's own "
            f"(skeleton.load_layout reads it from a file), found {layout!r}"
        )
    return _LAYOUTS[name]


def layout_names() -> tuple[str, ...]:
    """List the names of all registered layouts, sorted.

    Example:
        "ntu-rgb+d" in layout_names()
    """
    return tuple(sorted(_LAYOUTS))
