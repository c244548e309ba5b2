"""`ikem-fast layouts`: the joint layouts that there are, and the check of one of a user's own."""

from pathlib import Path

from ikem_fast.skeleton import find_layout, get_layout, layout_names
from ikem_fast.skeleton.checks import doubts
from ikem_fast.skeleton.registry import ALIASES


def layouts(check: Path | None = None, out: Path | None = None) -> None:
    """List the joint layouts, or check one and draw it.

    Args:
        check: A YAML file with a layout, or the name of one that there is.
        out: The picture to draw of it (PNG), if any.
    """
    if check is None:
        _list()
    else:
        _check(find_layout(str(check)), out)


def _list():
    from rich.console import Console
    from rich.table import Table

    table = Table("layout", "joints", "root", "also called", "lacks", box=None)
    for name in layout_names():
        layout = get_layout(name)
        also = ", ".join(alias for alias, of in sorted(ALIASES.items()) if of == name)
        lacks = [part for part in ("torso", "shoulders", "swap") if getattr(layout, part) is None]
        table.add_row(name, str(layout.num_joints), layout.joints[layout.root], also, ", ".join(lacks))
    Console().print(table)


def _check(layout, out):
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    named = lambda v: Text(f"{v} {layout.joints[v]}")  # noqa: E731
    table = Table("joint", "parent", "in a mirror", "turns against", box=None)
    for v, parent in enumerate(layout.parents):
        table.add_row(
            named(v),
            "(root)" if parent == v else named(parent),
            "" if layout.swap is None else named(layout.swap[v]),
            named(layout.axis_parents[v]),
        )
    Console().print(table)
    for what in ("torso", "shoulders"):
        joints = getattr(layout, what)
        if joints is not None:
            print(f"{what}: {', '.join(layout.joints[v] for v in joints)}")
    print(f"{layout.name}: a layout of {layout.num_joints} joints that can be used")
    for doubt in doubts(layout):
        print(f"note: {doubt}")
    if out is not None:
        from ikem_fast.skeleton.picture import draw_layout

        draw_layout(layout, out)
        print(out)
