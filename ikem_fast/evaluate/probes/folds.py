"""How training clips are parted for cross-validation: by subject, where that leaves enough to learn from."""

import numpy as np
import torch

MOST_SUBJECTS = 10  # that have a fold each; more share folds
FOLDS = 5
MOST_OF_ONE = 2 / 3  # of the clips, that one subject may have: the others' are to learn from without it


def make_folds(y: torch.Tensor, subjects: np.ndarray | None = None) -> torch.Tensor:
    """Part clips into folds: (N,) int64, the fold of each, from 0 without gaps.

    Of up to 10 subjects each is a fold; more are dealt to 5 folds, the one with most clips first, to the fold
    with fewest. Where subjects are unknown, or one has more than `MOST_OF_ONE` of the clips, each class is
    dealt to 5 folds in turn. The outcome depends on nothing but `y` and `subjects`.

    Args:
        y: (N,) classes.
        subjects: (N,) who was recorded, or None.

    Example:
        make_folds(torch.tensor([0, 0, 1, 1]), np.array(["1", "2", "1", "2"]))  # tensor([0, 1, 0, 1])
    """
    if subjects is not None:
        names, who, clips = np.unique(subjects, return_inverse=True, return_counts=True)
        if clips.max() <= MOST_OF_ONE * len(subjects):
            return torch.tensor(_by_subject(names, who, clips))
    labels = y.cpu().numpy()
    folds, turn = np.empty(len(labels), np.int64), 0
    for label in np.unique(labels):  # on with the next fold where the class before ended: equal sizes
        (where,) = np.nonzero(labels == label)
        folds[where] = (turn + np.arange(len(where))) % min(FOLDS, len(labels))
        turn += len(where)
    return torch.tensor(folds)


def _by_subject(names, who, clips):
    if len(names) <= MOST_SUBJECTS:
        return who.astype(np.int64)
    fold_of, sizes = np.empty(len(names), np.int64), np.zeros(FOLDS, np.int64)
    for subject in np.argsort(-clips, kind="stable"):
        fold_of[subject] = sizes.argmin()
        sizes[fold_of[subject]] += clips[subject]
    return fold_of[who]
