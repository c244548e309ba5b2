"""Results for people. Each way of showing them knows `Results` alone."""

from collections.abc import Sequence

import numpy as np


def occurring(classes: Sequence[str], counts: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Take of a confusion matrix (C,C) the classes that clips are of or are taken for.

    Example:
        occurring(["sit", "walk", "run"], np.diag([2, 0, 1]))[0]  # ["sit", "run"]
    """
    there = np.flatnonzero(counts.sum(0) + counts.sum(1))
    return [classes[place] for place in there], counts[np.ix_(there, there)]


def set_label(name: str) -> str:
    """Write a set's name for people: long ones by their number."""
    before, colon, modalities = name.replace("_", " ").rpartition(": ")
    parts = modalities.split("+")
    return before + colon + (" + ".join(parts) if len(parts) <= 3 else f"all {len(parts)} modalities")
