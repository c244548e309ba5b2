"""Results for people. Each way of showing them knows `Results` alone."""

from collections.abc import Sequence

import numpy as np

from ikem_fast.errors import printable
from ikem_fast.evaluate.results import Results


def occurring(classes: Sequence[str], counts: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Take of a confusion matrix (C,C) the classes that clips are of or are taken for.

    Example:
        occurring(["sit", "walk", "run"], np.diag([2, 0, 1]))[0]  # ["sit", "run"]
    """
    there = np.flatnonzero(counts.sum(0) + counts.sum(1))
    return [classes[place] for place in there], counts[np.ix_(there, there)]


def scored_on(results: Results) -> str:
    """Say which clips were scored on, where it is not all test clips: "" if it is.

    Example:
        scored_on(results)  # "held-out training subjects 5,7"
    """
    said = []
    if results.settings.get("holdout"):
        said.append("held-out training subjects " + printable(results.settings["holdout"]))
    if results.settings.get("drop_copies"):
        said.append("none that is a training clip's copy")
    return "; ".join(said)


def set_label(name: str) -> str:
    """Write a set's name for people: long ones by their number."""
    before, colon, modalities = name.replace("_", " ").rpartition(": ")
    parts = modalities.split("+")
    return before + colon + (" + ".join(parts) if len(parts) <= 3 else f"all {len(parts)} modalities")
