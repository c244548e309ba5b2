"""Where the joints of one layout are in another: by their names, and by rules for those that one lacks."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from ikem_fast.errors import InputError
from ikem_fast.skeleton.files import find_layout
from ikem_fast.skeleton.layout import Layout
from ikem_fast.skeleton.registry import get_layout, layout_names

# Names that layouts have for one joint → its name below. Of NTU's two, "spine" is the one at the shoulders.
_SAME = {
    "base of spine": "pelvis", "hip centre": "pelvis", "hip center": "pelvis",
    "middle of spine": "middle spine", "spine": "middle spine", "torso": "middle spine",
    "thorax": "shoulder centre", "upper spine": "shoulder centre", "shoulder center": "shoulder centre",
    "nose": "head",
}  # fmt: skip
_NEAR = {  # joint → those that stand in for it where a layout has it not, the best first
    "neck": ("shoulder centre",),
    "shoulder centre": ("neck",),
    **{f"{side} wrist": (f"{side} hand",) for side in ("left", "right")},
    **{f"{side} hand": (f"{side} index",) for side in ("left", "right")},
    **{f"{side} hand tip": (f"{side} index",) for side in ("left", "right")},
    **{f"{side} ankle": (f"{side} foot",) for side in ("left", "right")},
    **{f"{side} foot": (f"{side} big toe",) for side in ("left", "right")},
    **{f"{side} big toe": (f"{side} foot",) for side in ("left", "right")},
}
_BETWEEN = {  # joint → two in whose middle it is where a layout has neither it nor what is near
    "pelvis": ("left hip", "right hip"),
    "neck": ("left shoulder", "right shoulder"),
    "shoulder centre": ("left shoulder", "right shoulder"),
    "middle spine": ("pelvis", "shoulder centre"),
    "lower spine": ("pelvis", "middle spine"),
    "left collar": ("shoulder centre", "left shoulder"),
    "right collar": ("shoulder centre", "right shoulder"),
}


def joint_weights(source: str | Path | Layout, target: str | Path | Layout) -> np.ndarray:
    """Find where the joints of one layout are in another: (V of target, V of source) float64, rows of sum 1.

    A joint of the target is, in this order:

    1. the source's of the same name; base of spine, hip centre and pelvis are one, as are thorax and shoulder
       centre, spine and middle spine, nose and head;
    2. one that stands in for it: the hand for the wrist, the foot for the ankle, the toe for the foot, neck
       and shoulder centre for each other;
    3. the middle of two: of the hips for the pelvis, of the shoulders for the neck, of pelvis and shoulder
       centre for the spine;
    4. where its parent is, and of a root where its nearest found descendant is.

    Raises InputError where a layout is unknown, or both have no joint in common.

    Example:
        joint_weights("coco", "h36m")[0].nonzero()  # the pelvis: 11 and 12, the hips
    """
    return _joint_weights(find_layout(source), find_layout(target))


@lru_cache(maxsize=64)
def _joint_weights(source, target):
    names = common_names(target)
    places = {name: index for index, name in reversed(list(enumerate(common_names(source))))}
    found = [_weights(name, places, source.num_joints) for name in names]
    if all(row is None for row in found):
        raise InputError(f"layout {target.name!r}: expected joints that {source.name!r} has, found none")
    by_depth = sorted(range(len(names)), key=lambda v: len(_to_root(target, v)))
    for v in reversed(by_depth):  # from the ends: a root takes the place of what hangs on it
        above = target.parents[v]
        if found[above] is None and found[v] is not None and _all_missing(found, _to_root(target, above)):
            found[above] = found[v]
    for v in by_depth:
        if found[v] is None:
            found[v] = found[target.parents[v]]
    some = next(row for row in found if row is not None)  # another tree of a forest
    weights = np.stack([some if row is None else row for row in found])
    weights.flags.writeable = False
    return weights


def _weights(name, places, joints):
    """A row of the result by the first three rules, or None."""
    for one in (name, *_NEAR.get(name, ())):
        if one in places:
            return np.eye(joints)[places[one]]
    halves = [_weights(one, places, joints) for one in _BETWEEN.get(name, ())]
    return None if not halves or any(half is None for half in halves) else sum(halves) / 2


def common_names(layout: Layout) -> list[str]:
    """Name a layout's joints as they are called in every layout."""
    same = _SAME | ({"spine": "shoulder centre"} if "middle of spine" in layout.joints else {})
    return [same.get(name, name) for name in layout.joints]


def _to_root(layout, v):
    """A joint and those above it."""
    path = [v]
    while layout.parents[path[-1]] != path[-1]:
        path.append(layout.parents[path[-1]])
    return path


def _all_missing(found, joints):
    return all(found[v] is None for v in joints)


def is_known_joint(layout: Layout) -> list[bool]:
    """Say of each joint whether any layout that is known by name has one of its name."""
    known = {name for other in layout_names() for name in common_names(get_layout(other))}
    return [name in known for name in common_names(layout)]
