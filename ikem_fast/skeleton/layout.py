"""A joint layout: names, parents, axis parents, left/right swap, and the graph that the encoder works on.

A layout is data; nothing else in the package knows how many joints there are.
"""

import operator
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, SupportsIndex

import numpy as np

from ikem_fast.errors import printable

# The paper's six, which are derived and learned from where none are named.
MODALITIES = ("joint", "motion", "bone", "acceleration", "rotation_axis", "angular_velocity")

GRAPH_STRATEGIES = ("spatial", "distance")

MAX_JOINTS = 1024
MAX_NAME = 100  # characters of a layout's or a joint's name
MAX_COORDINATE = 1e9  # of a raw clip, whatever the unit; keeps every later product finite in float32


@dataclass(frozen=True)
class Layout:
    """One way of numbering a body's joints (0-based).

    joints: a name per joint, each another.
    parents: bone of v = x_v − x_{parents[v]}. A root has −1 or itself here, and itself once the layout is
        made; several roots make a forest.
    torso: (a, b, c), the joints whose plane's unit normal n((x_a − x_c) × (x_b − x_c)) stands in for the
        first root's bone, which is zero without a torso, as other roots' bones are. Some modalities
        need it, such as rotation_axis.
    shoulders: (right, left), turned onto the x axis by preprocessing; None where that is not wanted.
    swap: the joint that stands in v's place in a mirror image, or None where the layout has no sides.
    axis_parents: rotation axis of v = bone_v × bone_{axis_parents[v]}; the parents, if not given.
    edges: the pairs that the encoder's graph joins; (v, parents[v]), if not given.
    root: the first of the roots: subtracted from all joints by preprocessing.

    Raises ValueError naming the table and the joint, what was expected and what was found; of a circle of
    parents, the joints in it.

    Example:
        Layout("stick", ("hip", "head", "right hand", "left hand"), parents=(-1, 0, 1, 1), torso=(0, 2, 3),
               shoulders=(2, 3))
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    torso: tuple[int, int, int] | None = None
    shoulders: tuple[int, int] | None = None
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
        for table in ("torso", "shoulders", "swap"):
            value = getattr(self, table)
            set_field(table, None if value is None else _integers(value))
        self._check_names()
        self._check_tables()
        set_field("root", self.roots[0])

    def _check_names(self) -> None:
        where = f"layout {printable(self.name)!r}"
        if not 1 <= len(self.joints) <= MAX_JOINTS:
            raise ValueError(f"{where}: joints must hold 1 … {MAX_JOINTS} names, found {len(self.joints)}")
        for v, name in enumerate((self.name, *self.joints), -1):
            if not (isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable()):
                what = "the layout's name" if v < 0 else f"joints: the name of joint {v}"
                raise ValueError(
                    f"{where}: {what} must be a printable text of 1 … {MAX_NAME} characters, "
                    f"found {printable(repr(name))}"
                )
        first = {name: v for v, name in reversed(list(enumerate(self.joints)))}
        for v, name in enumerate(self.joints):
            if first[name] != v:
                raise ValueError(f"{where}: joints must differ, found {name!r} for {first[name]} and {v}")

    def _check_tables(self) -> None:
        joints, where = len(self.joints), f"layout {self.name!r}"
        tables = {
            "parents": (self.parents, joints),
            "axis_parents": (self.axis_parents, joints),
            "torso": (self.torso or (), 3 if self.torso is not None else 0),
            "shoulders": (self.shoulders or (), 2 if self.shoulders is not None else 0),
            "swap": (self.swap or (), joints if self.swap is not None else 0),
            "edges": (tuple(v for edge in self.edges for v in edge), 2 * len(self.edges)),
        }
        for table, (indices, count) in tables.items():
            if len(indices) != count:
                raise ValueError(f"{where}: {table} must hold {count} joints, found {len(indices)}")
            for place, v in enumerate(indices):
                if not 0 <= v < joints:
                    of = f" for {self._named(place)}" if count == joints and table != "edges" else ""
                    raise ValueError(f"{where}: {table} must hold joints 0 … {joints - 1}, found {v}{of}")
            if table in ("torso", "shoulders") and len(set(indices)) != count:
                raise ValueError(
                    f"{where}: {table} must hold {count} different joints, "
                    f"found {', '.join(map(self._named, indices))}"
                )
        for v, other in enumerate(self.swap or ()):
            if self.swap is not None and self.swap[other] != v:
                raise ValueError(
                    f"{where}: swap must be its own inverse, found {self._named(v)} → {self._named(other)} → "
                    f"{self._named(self.swap[other])}"
                )
        if circle := self._circle():
            raise ValueError(
                f"{where}: expected parents that lead to a root (a joint with parent −1 or itself), "
                f"found a circle: {' → '.join(map(self._named, circle))}"
            )

    def _named(self, v: int) -> str:
        """A joint as messages say it."""
        return f"{v} ({self.joints[v]})"

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

    @property
    def plane(self) -> tuple[int, int, int]:
        """The joints whose plane the first root's bone is normal to: the torso, or the root thrice (0)."""
        return self.torso or (self.root, self.root, self.root)

    def tables(self) -> dict[str, Any]:
        """Give the layout as lists and texts, as a file holds it; `layout_of` makes it of them again."""
        plain = {name: value for name, value in asdict(self).items() if name != "root"}
        lists = {name: _as_lists(value) for name, value in plain.items()}
        return {name: value for name, value in lists.items() if value is not None}

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

        The trunk is what leads from the torso and the shoulders, where they are known, to a root, mirrored
        too, and the joints that have no other side; a limb is what hangs together once the trunk is taken
        away.
        """
        swap = self.swap or range(self.num_joints)
        trunk = {v for v in range(self.num_joints) if self.swap and swap[v] == v} | set(self.roots)
        for v in (*(self.torso or ()), *(self.shoulders or ())):
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


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value
