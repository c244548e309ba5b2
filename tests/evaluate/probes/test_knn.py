"""Votes of the nearest clips, on made-up features."""

import pytest
import torch
import torch.nn.functional as F

from ikem_fast.evaluate.probes.base import Examples
from ikem_fast.evaluate.probes.folds import make_folds
from ikem_fast.evaluate.probes.knn import COUNTS, fit_knn


def test_votes_are_those_written_out():
    """Two modalities: the mean of their cosines; k=3 of a bank of seven."""
    queries, bank, labels = torch.randn(5, 2, 4), torch.randn(7, 2, 4), torch.arange(7) % 3
    fitted = fit_knn(Examples(bank, labels, 3), {"both": [0, 1]}, k=3, temperature=0.1)["both"]
    assert fitted.chosen == {} and fitted.head is None
    for query, row in zip(queries, fitted.scores(queries), strict=True):
        cosine = torch.stack([F.cosine_similarity(query, key, dim=-1).mean() for key in bank])
        expected = torch.zeros(3)
        for i in cosine.argsort(descending=True)[:3]:
            expected[labels[i]] += torch.exp((cosine[i] - 1) / 0.1)
        torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-7)


def test_one_neighbour_is_the_nearest(monkeypatch):
    monkeypatch.setattr("ikem_fast.evaluate.probes.knn.QUERIES", 4)  # several parts, the last one smaller
    x, y = torch.randn(30, 1, 16), torch.arange(30)
    fitted = fit_knn(Examples(x, y, 30), {"a": [0]}, k=1)["a"]
    assert torch.equal(fitted.scores(x + 0.01 * torch.randn(x.shape)).argmax(1), y)


def test_the_number_is_that_of_cross_validation_by_leaving_folds_out():
    y = torch.arange(60) % 3
    x = torch.randn(3, 1, 6)[y] + 1.2 * torch.randn(60, 1, 6)
    folds, accuracy = make_folds(y), []
    for k in COUNTS:
        right = 0
        for fold in folds.unique():
            out = folds == fold
            alone = fit_knn(Examples(x[~out], y[~out], 3), {"a": [0]}, k=k)["a"]
            right += int((alone.scores(x[out]).argmax(1) == y[out]).sum())
        accuracy.append(100 * right / 60)
    chosen = fit_knn(Examples(x, y, 3), {"a": [0]})["a"].chosen
    assert chosen == {"k": COUNTS[accuracy.index(max(accuracy))], "validation": pytest.approx(max(accuracy))}
    assert min(accuracy) < max(accuracy)


def test_few_clips_allow_few_neighbors():
    fitted = fit_knn(Examples(torch.randn(4, 1, 3), torch.tensor([0, 0, 1, 1]), 2), {"a": [0]})["a"]
    assert fitted.chosen["k"] in (1, 3)
    one = fit_knn(Examples(torch.randn(1, 1, 3), torch.tensor([1]), 2), {"a": [0]})["a"]
    assert one.scores(torch.randn(2, 1, 3)).argmax(1).tolist() == [1, 1]


def test_standardized_features_have_no_common_mean_or_scale():
    y = torch.arange(40) % 2
    x = torch.stack([100 + torch.randn(40), 1000 * torch.randn(40), 0.1 * (2.0 * y - 1)], 1)[:, None]
    right = {}
    for standardize in (False, True):
        fitted = fit_knn(Examples(x, y, 2), {"a": [0]}, k=5, standardize=standardize)["a"]
        right[standardize] = (fitted.scores(x).argmax(1) == y).double().mean()
    assert right[True] > 0.9 > right[False]
