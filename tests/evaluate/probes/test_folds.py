"""Folds: whole subjects, even classes, nothing random."""

import numpy as np
import torch

from ikem_fast.evaluate.probes.folds import make_folds


def test_each_of_few_subjects_is_a_fold():
    subjects = np.array(["b", "a", "b", "c", "a"])
    assert make_folds(torch.zeros(5, dtype=torch.int64), subjects).tolist() == [1, 0, 1, 2, 0]


def test_many_subjects_share_five_folds_of_like_sizes():
    subjects = np.array([f"s{i % 23}" for i in range(400)])
    folds = make_folds(torch.zeros(400, dtype=torch.int64), subjects)
    assert folds.unique().tolist() == [0, 1, 2, 3, 4]
    assert all(len(set(folds[torch.tensor(subjects == name)].tolist())) == 1 for name in set(subjects))
    assert folds.bincount().max() - folds.bincount().min() <= 18, "more than a subject's clips"


def test_without_subjects_or_with_nearly_one_alone_each_class_is_dealt_to_five_folds():
    y = torch.arange(3).repeat_interleave(torch.tensor([11, 4, 6]))
    for subjects in (None, np.array(["one"] * 21), np.array(["one"] * 15 + ["two"] * 6)):
        folds = make_folds(y, subjects)
        for label in range(3):
            shares = folds[y == label].bincount(minlength=5)
            assert shares.max() - shares.min() <= 1
        assert folds.bincount().max() - folds.bincount().min() <= 1


def test_a_subject_may_have_two_thirds_of_the_clips():
    subjects = np.array(["one"] * 14 + ["two"] * 7)
    assert make_folds(torch.zeros(21, dtype=torch.int64), subjects).tolist() == [0] * 14 + [1] * 7


def test_fewer_clips_than_folds():
    assert make_folds(torch.tensor([0, 1, 0])).tolist() == [0, 2, 1]
    assert make_folds(torch.tensor([2])).tolist() == [0]
