"""Where the origin of a clip's coordinates lies, as a preparation chooses it."""

import numpy as np

from ikem_fast.data.preparation import Preprocessing
from ikem_fast.skeleton import Layout


def centered(x: np.ndarray, layout: Layout, choice: Preprocessing) -> np.ndarray:
    """Subtract from a clip (3,T,V,M) what `choice.center` names; a score in the third place stays."""
    posed = x
    if choice.center == "frame":
        posed = x - x[:, :, layout.root, None]
    elif choice.center in ("clip", "pair"):
        there = bodies_there(x)
        posed = np.where(there, x - _origin(x, there, layout, choice), 0)
    return np.concatenate((posed[:2], x[2:])) if choice.planar else posed


def bodies_there(x: np.ndarray) -> np.ndarray:
    """Say which bodies of which frames of a clip (3,T,V,M) are there: (T,1,M)."""
    return (x != 0).any(axis=(0, 2))[:, None]


def has_pair(there: np.ndarray) -> np.ndarray:
    """Say which frames have the first two bodies, by which bodies are there: (T,)."""
    return there[:, 0, :2].all(axis=1) & (there.shape[2] > 1)


def _origin(x, there, layout, choice):
    """What is subtracted from the whole clip: (3,1,1,1)."""
    if choice.center == "pair" and (frames := np.flatnonzero(has_pair(there))).size:
        return x[:, frames[0], layout.root, :2].mean(axis=1)[:, None, None, None]
    return x[:, :1, layout.root, None, :1]
