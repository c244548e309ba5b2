"""What is said at the end of a preparation: the clips of each split, and warnings about what may be wrong.

Every warning is a line of `warnings_about`, whatever it is about, so that each is said once and tests see it.
"""

import sys

import numpy as np

from ikem_fast.data.checks import doubts_about, examples
from ikem_fast.data.dataset import DESCRIPTION, Dataset
from ikem_fast.data.preprocess import Skipped
from ikem_fast.errors import InputError, printable

IN_SKIP_LIST = Skipped("in the skip list")
MOST_LEFT_OUT = 0.5  # of the clips: where more are unusable, preparing them is not a success
LISTED = 20  # clips left out that are printed; the rest are in the description


def left_out(dataset: Dataset) -> list[tuple[str, str]]:
    """List (name, reason) of the clips left out as unusable: all but those of the user's own skip list."""
    return [(name, reason) for name, reason in dataset.skipped if reason != IN_SKIP_LIST.reason]


def report(dataset: Dataset) -> None:
    """Print the clips of each split and how many were not wanted, then each warning, on stderr."""
    counts = ", ".join(f"{len(split)} {name}" for name, split in dataset.splits.items())
    print(f"{dataset.folder}: {counts} clips of {len(dataset.classes)} classes")
    listed = len(dataset.skipped) - len(left_out(dataset))
    if listed:
        print(f"left out as listed: {listed}")
    for warning in warnings_about(dataset):
        print(f"warning: {warning}", file=sys.stderr)


def check_share(dataset: Dataset) -> None:
    """Raise InputError if most clips were left out as unusable; the folder is whole all the same."""
    unusable, usable = len(left_out(dataset)), sum(map(len, dataset.splits.values()))
    if unusable > MOST_LEFT_OUT * (unusable + usable):
        raise InputError(
            f"{dataset.folder}: expected at least {1 - MOST_LEFT_OUT:.0%} of the clips to be usable, found "
            f"{usable} of {unusable + usable}; the folder holds those, but look at the reasons first"
        )


def warnings_about(dataset: Dataset) -> list[str]:
    """List what a prepared dataset should be looked at for, each with what was found."""
    warnings = []
    unusable, usable = left_out(dataset), sum(map(len, dataset.splits.values()))
    if unusable:
        lines = [f"  {printable(name)}: {printable(reason)}" for name, reason in unusable[:LISTED]]
        if len(unusable) > LISTED:
            lines.append(f"  … and {len(unusable) - LISTED} more, listed in {dataset.folder / DESCRIPTION}")
        counts = f"{len(unusable)} of {len(unusable) + usable} clips were left out:"
        warnings.append("\n".join([counts, *lines]))
    empty = [name for name, split in dataset.splits.items() if not len(split)]
    if empty:
        warnings.append(f"there is no clip in {' and '.join(empty)}")
    labels = np.unique(np.concatenate([split.labels for split in dataset.splits.values()]))
    missing = [name for label, name in enumerate(dataset.classes) if label not in labels]
    if missing:
        warnings.append(
            f"{len(missing)} of {len(dataset.classes)} classes have no clip: {examples(missing)}; labels "
            f"are kept as they are and count from 0, and those found are {_ranges(labels.tolist())}"
        )
    return [*warnings, *doubts_about(dataset)]


def _ranges(numbers):
    """[1, 2, 3, 7] as "1 … 3, 7"."""
    ranges = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    shown = [str(first) if first == last else f"{first} … {last}" for first, last in ranges]
    return ", ".join(shown[:20]) + (" and more" if len(shown) > 20 else "")
