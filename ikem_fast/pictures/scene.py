"""What a moving picture of a clip shows, whatever draws it: bones, and what starts at joints.

A picture's space is upright and as high as the largest body: y up from the floor at 0, x to the right of a
body that looks towards the viewer, along −z. Bodies that preprocessing centered stand beside each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ikem_fast.ops.modalities.base import Mark
from ikem_fast.ops.modalities.definitions import DEFINITIONS
from ikem_fast.skeleton import Layout, get_layout

APART = 0.62  # between two bodies, in heights
LONGEST = 0.34  # height of an arrow that is longer than all but a few
FEW = 98  # percentile of lengths that is drawn so long
STEADY = 5  # frames over which a body's height above the floor is averaged
UPRIGHT = ((0, 1, 2), (1, 1, 1)), ((0, 2, 1), (1, 1, -1))  # y up, or z up: axes and signs


@dataclass(frozen=True)
class Panel:
    """One moving picture of a clip.

    title, caption: above it.
    points: (F,K,3) float32, where the joints of all bodies are; NaN where a body is absent.
    bones: (joint, other joint, side) each: 0 the trunk, 1 left, 2 right; 3, 4, 5 those of a second body.
    mark: how vectors are drawn: "stick" from a joint's parent, "arrow" from the joint, "turn" as an arc
        around it; "trail" has none but the way that hands and feet came.
    starts, vectors: (F,K,3) float32, what is drawn; a vector of NaN is left out.
    ends: joints that leave a trail.
    """

    title: str
    caption: str
    points: np.ndarray
    bones: tuple[tuple[int, int, int], ...]
    mark: Mark = "trail"
    starts: np.ndarray | None = None
    vectors: np.ndarray | None = None
    ends: tuple[int, ...] = ()


_SHORTEST = {"arrow": 0.07, "turn": 0.2}  # of the longest that are drawn: what is shorter is noise, mostly


def body_panel(
    clip: np.ndarray, layout: str | Layout, *, title: str = "", caption: str = "", trails: bool = True
) -> Panel:
    """Make the panel of a clip's bodies alone.

    Args:
        clip: (3,T,V,M), preprocessed.
        layout: of its joints.
        title, caption: above it.
        trails: whether hands and feet leave a trail.

    Example:
        body_panel(dataset["test"].clips[0], dataset.layout, title="waving")
    """
    space = _Space(clip, get_layout(layout))
    return Panel(title, caption, space.points, space.bones, ends=space.ends if trails else ())


def modality_panels(
    clip: np.ndarray, modalities: Mapping[str, np.ndarray], layout: str | Layout
) -> list[Panel]:
    """Make a panel for each modality of a clip.

    Args:
        clip: (3,T,V,M), preprocessed.
        modalities: name → (3,T,V,M), of `ops.derive_modalities`.
        layout: of the joints.

    Raises ValueError for a modality that there is not.

    Example:
        modality_panels(clip, dict(zip(MODALITIES, derived[:, 0].numpy())), "ntu-rgb+d")
    """
    space = _Space(clip, get_layout(layout))
    panels = []
    for name, values in modalities.items():
        if name not in DEFINITIONS:
            raise ValueError(f"modalities: expected some of {', '.join(DEFINITIONS)}, found {name!r}")
        tells, mark = DEFINITIONS[name].tells, DEFINITIONS[name].mark
        starts, vectors = (None, None) if mark == "trail" else space.vectors(np.asarray(values), mark)
        ends = space.ends if mark == "trail" else ()
        title = name.replace("_", " ")
        panels.append(Panel(title, tells, space.points, space.bones, mark, starts, vectors, ends))
    return panels


class _Space:
    """The space of a clip's pictures: where joints are in it, and how vectors are turned into it."""

    def __init__(self, clip, layout):
        clip = np.asarray(clip, dtype=np.float32)
        self.layout, self.clip = layout, clip
        there = (clip != 0).any((0, 2)) & np.isfinite(clip).all((0, 2))  # (T,M)
        self.bodies = [m for m in range(clip.shape[3]) if there[:, m].any()] or [0]
        self.there = there[:, self.bodies]  # (T,B)
        self.axes, self.signs = _upright(clip[..., self.bodies[0]][:, self.there[:, 0]], layout)
        points = self._turned(clip)  # (T,B,V,3)
        points[~self.there] = np.nan
        right, left = layout.shoulders or (layout.root, layout.root)
        if _extent(points[:, 0, right, 0] - points[:, 0, left, 0]) < 0:
            self.signs = self.signs * np.array([-1, 1, -1])
            points[..., [0, 2]] *= -1
        low = _steady(np.nanmin(np.where(np.isnan(points), np.inf, points)[..., 1], 2))
        points[..., 1] -= low[:, :, None]
        tall = points[..., 1][np.isfinite(points[..., 1])]
        wide = np.abs(points[..., [0, 2]][np.isfinite(points[..., [0, 2]])])
        height = np.percentile(tall, 99.5) if tall.size else 1.0
        self.height = float(max(height, np.percentile(wide, 99) if wide.size else 0.0, 1e-6))
        points /= self.height
        points[..., 0] += APART * (np.arange(len(self.bodies)) - (len(self.bodies) - 1) / 2)[:, None]
        self.points = self._flat(points)
        self.bones = tuple(
            (place * layout.num_joints + v, place * layout.num_joints + p, 3 * (place % 2) + _side(layout, v))
            for place in range(len(self.bodies))
            for v, p in enumerate(layout.parents)
            if v != p
        )
        leaves = [v for v in range(layout.num_joints) if v not in layout.parents]
        self.ends = tuple(place * layout.num_joints + v for place in range(len(self.bodies)) for v in leaves)

    def vectors(self, values, mark):
        """(starts, vectors) (F,K,3) of a modality (3,T,V,M): bones as long as they are, others to be seen."""
        turned = self._turned(values.astype(np.float32))
        turned[~self.there] = np.nan
        V, roots = self.layout.num_joints, np.array(self.layout.roots)
        vectors = self._flat(turned)
        starts = self.points
        if mark == "stick":
            parents = [place * V + p for place in range(len(self.bodies)) for p in self.layout.parents]
            starts = self.points[:, parents]
            turned = turned / self.height
            turned[:, :, roots] *= 0.25 * self.height  # a unit normal of no length of its own
            return starts, self._flat(turned)
        length = np.linalg.norm(vectors, axis=-1)
        seen = length[np.isfinite(length) & (length > 0)]
        largest = float(np.percentile(seen, FEW)) if seen.size else 1.0
        vectors = vectors * (LONGEST / max(largest, 1e-12))
        length = np.linalg.norm(vectors, axis=-1, keepdims=True)
        vectors *= np.minimum(1, 1.25 * LONGEST / np.maximum(length, 1e-12))  # a glitch stays in the picture
        return starts, np.where(length > _SHORTEST[mark] * LONGEST, vectors, np.nan).astype(np.float32)

    def _turned(self, values):
        """(3,T,V,M) as (T,B,V,3), upright."""
        return values[self.axes][..., self.bodies].transpose(1, 3, 2, 0) * self.signs.astype(np.float32)

    def _flat(self, points):
        return np.ascontiguousarray(points.reshape(len(points), -1, 3), dtype=np.float32)


def _upright(body, layout):
    """(axes, signs) that bring a body (3,F,V) upright: its shoulders are above its feet, along y or z."""
    feet = [v for v, name in enumerate(layout.joints) if "foot" in name or "ankle" in name]
    high = list(layout.shoulders or [v for v in range(layout.num_joints) if v not in feet] or feet)
    feet = feet or list(range(layout.num_joints))
    rise = np.nanmean(body[:, :, high], (1, 2)) - np.nanmean(body[:, :, feet], (1, 2))
    axes, signs = UPRIGHT[int(abs(rise[2]) > 2 * abs(rise[1]))]
    down = rise[axes[1]] < 0  # image coordinates: turned about x
    return list(axes), np.array(signs) * (np.array([1, -1, -1]) if down else 1)


def _side(layout, v):
    """0 trunk, 1 left, 2 right."""
    name = layout.joints[v].lower()
    if layout.swap is None or layout.swap[v] == v:
        return 0
    return 1 if "left" in name or ("right" not in name and v < layout.swap[v]) else 2


def _steady(low):
    """Average (T,B) over a few frames; absent bodies stand on 0."""
    low = np.where(np.isfinite(low), low, np.nan)
    width = min(STEADY, len(low))
    padded = np.pad(low, ((width // 2, (width - 1) // 2), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=0)
    counted = np.isfinite(windows)
    return np.where(counted, windows, 0).sum(-1) / np.maximum(counted.sum(-1), 1)


def _extent(values):
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else 0.0
