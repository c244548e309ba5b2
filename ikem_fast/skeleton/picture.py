"""A layout as a picture: where its joints are on a body that stands, as far as their names are known."""

from pathlib import Path

import numpy as np

from ikem_fast.files import replacing
from ikem_fast.skeleton.correspondence import common_names
from ikem_fast.skeleton.layout import Layout

STEP = 0.12  # from a joint to one on it whose name says nothing
FAN = np.pi / 5  # between several of those
_MIDDLE = {
    "head": (0, 1.65), "neck": (0, 1.5), "shoulder centre": (0, 1.42), "middle spine": (0, 1.18),
    "lower spine": (0, 1.06), "pelvis": (0, 0.95),
}  # fmt: skip
_LEFT = {  # a body seen from the front: its left is on the right
    "inner eye": (0.025, 1.7), "eye": (0.045, 1.71), "outer eye": (0.065, 1.7), "ear": (0.09, 1.66),
    "mouth": (0.03, 1.6), "collar": (0.08, 1.43), "shoulder": (0.19, 1.4), "elbow": (0.32, 1.15),
    "wrist": (0.42, 0.92), "hand": (0.45, 0.84), "hand tip": (0.48, 0.76), "thumb": (0.39, 0.8),
    "index": (0.46, 0.77), "pinky": (0.5, 0.79), "hip": (0.1, 0.92), "knee": (0.13, 0.5),
    "ankle": (0.15, 0.1), "foot": (0.19, 0.03), "heel": (0.13, 0.03), "big toe": (0.22, 0.0),
    "small toe": (0.27, 0.02),
}  # fmt: skip
_PLACES = {
    **_MIDDLE,
    **{f"left {name}": (x, y) for name, (x, y) in _LEFT.items()},
    **{f"right {name}": (-x, y) for name, (x, y) in _LEFT.items()},
}


def draw_layout(layout: Layout, path: Path) -> None:
    """Draw a layout as a PNG: joints with numbers and names, bones, and dashed the edges that are no bones.

    Roots are squares, the torso's corners are filled, the shoulders are joined by a thick line.

    Raises OSError where the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    places = sketch(layout)
    figure = Figure(figsize=(8, 11), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for v, parent in enumerate(layout.parents):
        axis.plot(*places[[v, parent]].T, color="0.45", linewidth=2, zorder=1)
    bones = {frozenset(bone) for bone in enumerate(layout.parents)}
    for edge in layout.edges:
        if frozenset(edge) not in bones:
            axis.plot(*places[list(edge)].T, color="0.7", linewidth=1, linestyle="--", zorder=1)
    if layout.shoulders is not None:
        axis.plot(*places[list(layout.shoulders)].T, color="tab:orange", linewidth=3, alpha=0.5, zorder=1)
    for v, name in enumerate(layout.joints):
        axis.scatter(
            places[v, 0], places[v, 1], s=60, zorder=2, edgecolor="tab:blue",
            marker="s" if v in layout.roots else "o",
            color="tab:blue" if v in (layout.torso or ()) else "white",
        )  # fmt: skip
        outward = -1 if places[v, 0] < 0 else 1
        axis.annotate(
            f"{v} {name}", places[v], xytext=(6 * outward, 4), textcoords="offset points", fontsize=8,
            ha="right" if outward < 0 else "left", parse_math=False,
        )  # fmt: skip
    axis.set_title(f"{layout.name}: {layout.num_joints} joints", parse_math=False)
    axis.set_aspect("equal")
    axis.margins(0.2)
    axis.set_axis_off()
    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=100)


def sketch(layout: Layout) -> np.ndarray:
    """Place the joints on a body that stands, seen from the front: (V, 2).

    A joint whose name says nothing goes on from its parent; a root of that kind lies between what hangs on
    it.
    """
    names = common_names(layout)
    places = {v: np.array(_PLACES[name], float) for v, name in enumerate(names) if name in _PLACES}
    children: dict[int, list[int]] = {v: [] for v in range(layout.num_joints)}
    for v, parent in enumerate(layout.parents):
        if v != parent:
            children[parent].append(v)
    for number, root in enumerate(layout.roots):
        if root not in places:
            known = [places[v] for v in children[root] if v in places]
            places[root] = np.mean(known, axis=0) if known else np.array([0.6 * number, 1.0])
        queue = [root]
        while queue:
            here = queue.pop()
            _place_children(here, children[here], layout.parents[here], places)
            queue += children[here]
    return np.stack([places[v] for v in range(layout.num_joints)])


def _place_children(here, children, parent, places):
    """Give those without a place one, in the direction in which the joint itself lies from its parent."""
    ahead = places[here] - places[parent]
    angle = np.arctan2(ahead[1], ahead[0]) if ahead.any() else np.pi / 2
    unplaced = [v for v in children if v not in places]
    for place, v in enumerate(unplaced):
        turned = angle + (place - (len(unplaced) - 1) / 2) * FAN
        places[v] = places[here] + STEP * np.array([np.cos(turned), np.sin(turned)])
