"""What a layout should be looked at for, though it can be used."""

import re
from collections.abc import Iterator

from ikem_fast.skeleton.correspondence import is_known_joint
from ikem_fast.skeleton.layout import Layout

SIDES = {"left": "right", "right": "left"}
_SIDE = re.compile(r"(?<![a-z])(left|right)(?![a-z])", re.IGNORECASE)


def doubts(layout: Layout) -> list[str]:
    """List what is missing in a layout, with what needs it, and what its names make doubtful.

    Example:
        doubts(Layout("stick", ("hip", "head"), (-1, 0)))  # ["torso: not given; …", …]
    """
    return [*_missing(layout), *_sides(layout), *_graph(layout), *_names(layout)]


def mirrored_name(joint: str) -> str:
    """Say what a joint is called on the other side; the name itself where it has no side.

    Example:
        mirrored_name("left hand")  # "right hand"
    """
    return _SIDE.sub(lambda side: SIDES[side[0].lower()], joint)


def swap_by_names(layout: Layout) -> list[tuple[str, str]]:
    """List the pairs of joints that are called alike but for left and right."""
    return [
        (joint, mirrored_name(joint))
        for joint in layout.joints
        if mirrored_name(joint) != joint
        and mirrored_name(joint) in layout.joints[layout.joints.index(joint) :]
    ]


def _missing(layout: Layout) -> Iterator[str]:
    if layout.torso is None:
        yield "torso: not given; the root's bone is 0, and there is no rotation_axis and no angular_velocity"
    if layout.shoulders is None:
        yield "shoulders: not given; prepare with --align none, which leaves clips turned as they are"
    if layout.swap is None:
        pairs = ", ".join(f"[{a}, {b}]" for a, b in swap_by_names(layout))
        yield "swap: not given; flips need it" + (f"; by the names it would be [{pairs}]" if pairs else "")


def _sides(layout: Layout) -> Iterator[str]:
    for v, other in enumerate(layout.swap or ()):
        name, expected = layout.joints[v], mirrored_name(layout.joints[v])
        if expected in layout.joints and layout.joints[other] != expected:
            yield f"swap: {name!r} stands for {layout.joints[other]!r}, by its name for {expected!r}"
    if layout.shoulders is not None:
        right, left = (layout.joints[v] for v in layout.shoulders)
        if "left" in right.lower() or "right" in left.lower():
            yield f"shoulders: expected the right one, then the left, found {right!r}, then {left!r}"


def _graph(layout: Layout) -> Iterator[str]:
    if len(layout.roots) > 1:
        names = ", ".join(repr(layout.joints[v]) for v in layout.roots)
        yield f"parents: {len(layout.roots)} roots ({names}); the first is the center, the bones of all are 0"
    lost = [layout.joints[v] for v, hops in enumerate(layout.hops()) if hops == layout.num_joints]
    if lost:
        yield f"edges: no way from {', '.join(map(repr, lost[:5]))} to a root; the encoder sees them alone"


def _names(layout: Layout) -> Iterator[str]:
    unknown = [joint for joint, known in zip(layout.joints, is_known_joint(layout), strict=True) if not known]
    if unknown:
        yield (
            f"joints: no other layout has {', '.join(map(repr, unknown[:5]))}"
            + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
            + "; in another layout they are found nowhere"
        )
