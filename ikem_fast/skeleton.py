"""Joint layouts: names, parents, axis parents, left/right swap, and the graph that the encoder works on.

A layout is data. To add one, write a `Layout` below (or call `register_layout` from your own code);
nothing else in the package knows how many joints there are.
"""

import operator
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import SupportsIndex

import numpy as np

MODALITIES = ("joint", "motion", "bone", "acceleration", "rotation_axis", "angular_velocity")

GRAPH_STRATEGIES = ("spatial", "distance")

MAX_COORDINATE = 1e9  # of a raw clip, whatever the unit; keeps every later product finite in float32


@dataclass(frozen=True)
class Layout:
    """One way of numbering a body's joints (0-based).

    joints: a name per joint.
    parents: bone of v = x_v − x_{parents[v]}. A root has −1 or itself here, and itself once the layout is
        made; several roots make a forest.
    torso: (a, b, c), the joints whose plane's unit normal n((x_a − x_c) × (x_b − x_c)) stands in for the
        first root's bone, which would otherwise be zero, as other roots' bones are.
    axis_parents: rotation axis of v = bone_v × bone_{axis_parents[v]}; the parents, if not given.
    edges: the pairs that the encoder's graph joins; (v, parents[v]), if not given.
    swap: the joint that stands in v's place in a mirror image, or None where the layout has no sides.
    shoulders: (right, left), turned onto the x axis by preprocessing.
    root: the first of the roots: subtracted from all joints by preprocessing.

    Raises ValueError naming the table, what was expected and what was found; of a circle of parents, the
    joints in it.

    Example:
        Layout("stick", ("hip", "head", "right hand", "left hand"), parents=(-1, 0, 1, 1), torso=(0, 2, 3),
               shoulders=(2, 3))
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    torso: tuple[int, int, int]
    shoulders: tuple[int, int]
    swap: tuple[int, ...] | None = None
    axis_parents: tuple[int, ...] = ()
    edges: tuple[tuple[int, int], ...] = ()
    root: int = field(init=False)

    def __post_init__(self) -> None:
        set_field = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731 (frozen dataclass)
        set_field("joints", tuple(self.joints))
        set_field("parents", tuple(v if p == -1 else p for v, p in enumerate(_integers(self.parents))))
        set_field("axis_parents", _integers(self.axis_parents) or self.parents)
        links = tuple((v, p) for v, p in enumerate(self.parents) if v != p)
        set_field("edges", tuple(map(_integers, self.edges)) or links)
        set_field("torso", _integers(self.torso))
        set_field("shoulders", _integers(self.shoulders))
        set_field("swap", None if self.swap is None else _integers(self.swap))
        self._check()
        set_field("root", self.roots[0])

    def _check(self) -> None:
        joints, where = len(self.joints), f"layout {self.name!r}"
        tables = {
            "parents": (self.parents, joints),
            "axis_parents": (self.axis_parents, joints),
            "torso": (self.torso, 3),
            "shoulders": (self.shoulders, 2),
            "swap": (self.swap or (), joints if self.swap else 0),
            "edges": (tuple(v for edge in self.edges for v in edge), 2 * len(self.edges)),
        }
        for table, (indices, count) in tables.items():
            if len(indices) != count:
                raise ValueError(f"{where}: {table} must hold {count} joints, found {len(indices)}")
            if any(not 0 <= v < joints for v in indices):
                raise ValueError(f"{where}: {table} must hold joints 0 … {joints - 1}, found {list(indices)}")
        if self.swap is not None and [self.swap[v] for v in self.swap] != list(range(joints)):
            raise ValueError(f"{where}: swap must be its own inverse, found {list(self.swap)}")
        if circle := self._circle():
            names = " → ".join(f"{v} ({self.joints[v]})" for v in circle)
            raise ValueError(
                f"{where}: expected parents that lead to a root (a joint with parent −1 or itself), "
                f"found a circle: {names}"
            )

    def _circle(self) -> list[int]:
        """Joints that are each other's parents, the first one again at the end; empty if there are none."""
        for start in range(self.num_joints):
            path = [start]
            while self.parents[path[-1]] not in path:
                path.append(self.parents[path[-1]])
            again = self.parents[path[-1]]
            if again != path[-1]:
                return [*path[path.index(again) :], again]
        return []

    @property
    def roots(self) -> tuple[int, ...]:
        """The joints that are their own parents, in order."""
        return tuple(v for v, parent in enumerate(self.parents) if v == parent)

    @property
    def num_joints(self) -> int:
        """V."""
        return len(self.joints)

    def hops(self) -> np.ndarray:
        """Count the edges between each joint and the nearest root: (V,) int, V where none leads to one."""
        neighbors: dict[int, set[int]] = {v: set() for v in range(self.num_joints)}
        for a, b in self.edges:
            neighbors[a].add(b)
            neighbors[b].add(a)
        hops, queue = dict.fromkeys(self.roots, 0), deque(self.roots)
        while queue:
            here = queue.popleft()
            for there in sorted(neighbors[here] - hops.keys()):
                hops[there] = hops[here] + 1
                queue.append(there)
        return np.array([hops.get(v, self.num_joints) for v in range(self.num_joints)])

    def parts(self) -> tuple[tuple[int, ...], ...]:
        """Find the parts of a body: the trunk first, then each limb, joints in order.

        The trunk is what leads from the torso and the shoulders to a root, mirrored too, and the joints that
        have no other side; a limb is what hangs together once the trunk is taken away.
        """
        swap = self.swap or range(self.num_joints)
        trunk = {v for v in range(self.num_joints) if self.swap and swap[v] == v} | set(self.roots)
        for v in (*self.torso, *self.shoulders):
            while v not in trunk:
                trunk |= {v, swap[v]}
                v = self.parents[v]
        limbs: dict[int, list[int]] = {}
        for v in sorted(set(range(self.num_joints)) - trunk):
            top = v
            while self.parents[top] not in trunk:
                top = self.parents[top]
            limbs.setdefault(top, []).append(v)
        return (tuple(sorted(trunk)), *map(tuple, limbs.values()))

    def adjacency(self, strategy: str = "spatial") -> np.ndarray:
        """Make ST-GCN's three partitions of the graph: (3, V, V) float32, A[k, v, w] weighs v in w's sum.

        Edges both ways and self loops, each column divided by its degree; partition 0 holds the self loops,
        1 the edges from joints as far from their root or farther, 2 the edges from joints nearer to it.

        strategy: "spatial" counts distances as the published code does, up to one hop only, so that all
        joints beyond the root's neighbors are equally far (what published checkpoints were trained with);
        "distance" uses true distances.

        Raises ValueError for another strategy.
        """
        if strategy not in GRAPH_STRATEGIES:
            raise ValueError(f"strategy: expected one of {GRAPH_STRATEGIES}, found {strategy!r}")
        distance = self.hops() if strategy == "distance" else np.minimum(self.hops(), 2)
        linked = np.zeros((self.num_joints, self.num_joints))
        for a, b in self.edges:
            linked[a, b] = linked[b, a] = 1
        weight = linked + np.eye(self.num_joints)
        weight /= weight.sum(axis=0, keepdims=True)
        nearer = distance[:, None] < distance[None, :]
        itself = np.eye(self.num_joints, dtype=bool)
        partitions = [itself, ~itself & ~nearer, ~itself & nearer]
        return np.stack([weight * partition for partition in partitions]).astype(np.float32)


def _integers(table: Iterable[SupportsIndex]) -> tuple[int, ...]:
    return tuple(map(operator.index, table))


_LAYOUTS: dict[str, Layout] = {}


def register_layout(layout: Layout) -> Layout:
    """Make `layout` known by its name, and return it.

    Raises ValueError if the name is another layout's; the same tables may be registered again.
    """
    if _LAYOUTS.setdefault(layout.name, layout) != layout:
        raise ValueError(f"layout {layout.name!r} is registered already, with other tables")
    return layout


def get_layout(layout: str | Layout) -> Layout:
    """Find the `Layout` of a name, or return a `Layout` as it is. Raises ValueError naming the known ones."""
    if isinstance(layout, Layout):
        return layout
    if layout not in _LAYOUTS:
        raise ValueError(f"layout: expected one of {', '.join(sorted(_LAYOUTS))}, found {layout!r}")
    return _LAYOUTS[layout]


def layout_names() -> tuple[str, ...]:
    """List the names of all registered layouts, sorted."""
    return tuple(sorted(_LAYOUTS))


_NTU_JOINTS = (
    "base of spine", "middle of spine", "neck", "head",
    "left shoulder", "left elbow", "left wrist", "left hand",
    "right shoulder", "right elbow", "right wrist", "right hand",
    "left hip", "left knee", "left ankle", "left foot",
    "right hip", "right knee", "right ankle", "right foot",
    "spine", "left hand tip", "left thumb", "right hand tip", "right thumb",
)  # fmt: skip
_NTU_CHAIN = (1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 20, 22, 7, 24, 11)
_NTU_STAR = (*_NTU_CHAIN[:21], 7, 7, 11, 11)
_NTU_SWAP = (0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22)

# What IKEM uses: bones with star hands, rotation axes of their own at the hands, the chain-hands graph.
NTU_RGBD = register_layout(Layout(
    name="ntu-rgb+d",
    joints=_NTU_JOINTS,
    parents=_NTU_STAR,
    axis_parents=(*_NTU_STAR[:21], 7, 21, 11, 23),
    torso=(1, 4, 8),
    shoulders=(8, 4),
    swap=_NTU_SWAP,
    edges=tuple((v, p) for v, p in enumerate(_NTU_CHAIN) if v != p),
))  # fmt: skip

# The bones of CrosSCLR, CMD and CTR-GCN.
NTU_RGBD_CHAIN = register_layout(Layout(
    name="ntu-rgb+d-chain", joints=_NTU_JOINTS, parents=_NTU_CHAIN, torso=(1, 4, 8), shoulders=(8, 4),
    swap=_NTU_SWAP,
))  # fmt: skip

KINECT_V1 = register_layout(Layout(
    name="kinect-v1",
    joints=(
        "hip centre", "spine", "shoulder centre", "head",
        "left shoulder", "left elbow", "left wrist", "left hand",
        "right shoulder", "right elbow", "right wrist", "right hand",
        "left hip", "left knee", "left ankle", "left foot",
        "right hip", "right knee", "right ankle", "right foot",
    ),
    parents=(1, 2, 2, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18),
    torso=(1, 4, 8),
    shoulders=(8, 4),
    swap=(0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15),
))  # fmt: skip

# Kinect v1 again, as UTD-MHAD numbers it: the four joints of the spine from the head down.
UTD_MHAD = register_layout(Layout(
    name="utd-mhad",
    joints=("head", "shoulder centre", "spine", "hip centre", *KINECT_V1.joints[4:]),
    parents=(1, 1, 1, 2, 1, 4, 5, 6, 1, 8, 9, 10, 3, 12, 13, 14, 3, 16, 17, 18),
    torso=(2, 4, 8),
    shoulders=(8, 4),
    swap=KINECT_V1.swap,
))  # fmt: skip

SBU = register_layout(Layout(
    name="sbu",
    joints=(
        "head", "neck", "torso", "left shoulder", "left elbow", "left hand", "right shoulder", "right elbow",
        "right hand", "left hip", "left knee", "left foot", "right hip", "right knee", "right foot",
    ),
    parents=(1, 1, 1, 1, 3, 4, 1, 6, 7, 2, 9, 10, 2, 12, 13),
    torso=(2, 3, 6),
    shoulders=(6, 3),
    swap=(0, 1, 2, 6, 7, 8, 3, 4, 5, 12, 13, 14, 9, 10, 11),
))  # fmt: skip

COCO = register_layout(Layout(
    name="coco",
    joints=(
        "nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder",
        "left elbow", "right elbow", "left wrist", "right wrist", "left hip", "right hip",
        "left knee", "right knee", "left ankle", "right ankle",
    ),
    parents=(0, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 0, 0, 11, 12, 13, 14),
    torso=(11, 5, 6),
    shoulders=(6, 5),
    swap=(0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15),
))  # fmt: skip

OPENPOSE = register_layout(Layout(
    name="openpose",
    joints=(
        "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow",
        "left wrist", "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle",
        "right eye", "left eye", "right ear", "left ear",
    ),
    parents=(0, 0, 1, 2, 3, 1, 5, 6, 2, 8, 9, 5, 11, 12, 0, 0, 14, 15),
    torso=(8, 5, 2),
    shoulders=(2, 5),
    swap=(0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16),
))  # fmt: skip

H36M = register_layout(Layout(
    name="h36m",
    joints=(
        "pelvis", "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle", "spine",
        "thorax", "neck", "head", "left shoulder", "left elbow", "left wrist",
        "right shoulder", "right elbow", "right wrist",
    ),
    parents=(0, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
    torso=(7, 11, 14),
    shoulders=(14, 11),
    swap=(0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13),
))  # fmt: skip

SMPL = register_layout(Layout(
    name="smpl",
    joints=(
        "pelvis", "left hip", "right hip", "lower spine", "left knee", "right knee", "middle spine",
        "left ankle", "right ankle", "upper spine", "left foot", "right foot", "neck",
        "left collar", "right collar", "head", "left shoulder", "right shoulder",
        "left elbow", "right elbow", "left wrist", "right wrist", "left hand", "right hand",
    ),
    parents=(0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21),
    torso=(3, 16, 17),
    shoulders=(17, 16),
    swap=(0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22),
))  # fmt: skip


# Names that layouts have for one joint → its name below. Of NTU's two, "spine" is the one at the shoulders.
_SAME = {
    "base of spine": "pelvis", "hip centre": "pelvis",
    "middle of spine": "middle spine", "spine": "middle spine", "torso": "middle spine",
    "thorax": "shoulder centre", "upper spine": "shoulder centre", "nose": "head",
}  # fmt: skip
_NEAR = {  # joint → one that stands in for it where a layout has but one of both
    "neck": "shoulder centre", "shoulder centre": "neck",
    "left wrist": "left hand", "right wrist": "right hand",
    "left ankle": "left foot", "right ankle": "right foot",
}  # fmt: skip


def joint_sources(source: str | Layout, target: str | Layout) -> tuple[int, ...]:
    """Find where the joints of one layout are in another: for each of the target's, the source's index.

    A joint is found by its name, which may differ between layouts as base of spine, hip centre and pelvis
    do; a wrist, an ankle or a neck may be found in the hand, the foot or between the shoulders. What is
    missing is where its parent is, and a missing root where its nearest found descendant is.

    Raises ValueError where the layouts have no joint in common.

    Example:
        joint_sources("ntu-rgb+d", "kinect-v1")[:4]  # (0, 1, 20, 3)
    """
    source, target = get_layout(source), get_layout(target)
    places = {name: index for index, name in reversed(list(enumerate(_common_names(source))))}
    names = _common_names(target)
    found = [places.get(name, places.get(_NEAR.get(name, ""))) for name in names]
    if all(place is None for place in found):
        raise ValueError(f"layout {target.name!r}: expected joints that {source.name!r} has, found none")
    by_depth = sorted(range(len(names)), key=lambda v: len(_to_root(target, v)))
    for v in reversed(by_depth):  # from the ends: a root takes the place of what hangs on it
        above = target.parents[v]
        if found[above] is None and found[v] is not None and _all_missing(found, _to_root(target, above)):
            found[above] = found[v]
    for v in by_depth:
        if found[v] is None:
            found[v] = found[target.parents[v]]
    if None in found:  # another tree of a forest
        found = [next(place for place in found if place is not None) if at is None else at for at in found]
    return tuple(place for place in found if place is not None)


def _common_names(layout):
    """A layout's joints, under names that mean the same in every layout."""
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
