"""Sets of several modalities judged by the scores of each."""

from functools import partial

import pytest
import torch

from ikem_fast.evaluate.probes.base import Examples
from ikem_fast.evaluate.probes.fusion import fit_sets, fusion_weights
from ikem_fast.evaluate.probes.knn import fit_knn
from ikem_fast.evaluate.probes.ridge import fit_ridge

SETS = {"joint": [0], "joint+motion+bone": [0, 1, 2]}


@pytest.fixture
def examples():
    y = torch.arange(40) % 4
    return Examples(torch.randn(4, 3, 5)[y] + torch.randn(40, 3, 5), y, 4)


@pytest.mark.parametrize(
    ("fusion", "weights"),
    [("mean", [1 / 3] * 3), ("three-stream", [0.375, 0.375, 0.25]), ("four-stream", [0.4, 0.2, 0.4])],
)
@pytest.mark.parametrize("probe", [fit_ridge, partial(fit_knn, k=3)], ids=["ridge", "knn"])
def test_scores_are_the_weighted_mean(fusion, weights, probe, examples):
    alone = probe(examples, {"a": [0], "b": [1], "c": [2]})
    fitted = fit_sets(probe, examples, SETS, fusion)
    x = torch.randn(6, 3, 5)
    expected = sum(w * one.scores(x) for w, one in zip(weights, alone.values(), strict=True))
    torch.testing.assert_close(fitted["joint+motion+bone"].scores(x), expected)
    torch.testing.assert_close(fitted["joint"].scores(x), alone["a"].scores(x))


def test_the_head_of_fused_scores_gives_them(examples):
    fitted = fit_sets(fit_ridge, examples, SETS, "four-stream")["joint+motion+bone"]
    x = torch.randn(6, 3, 5)
    torch.testing.assert_close(fitted.head.scores(x), fitted.scores(x), rtol=1e-4, atol=1e-5)


def test_concatenation_leaves_it_to_the_probe(examples):
    x = torch.randn(6, 3, 5)
    fitted = fit_sets(fit_ridge, examples, SETS, "concatenate")
    for name, one in fit_ridge(examples, SETS).items():
        torch.testing.assert_close(fitted[name].scores(x), one.scores(x))


def test_modalities_that_are_not_named_share_the_rest():
    assert fusion_weights(["joint", "acceleration"], "four-stream") == [2 / 3, 1 / 3]
    assert fusion_weights(["bone", "acceleration"], "three-stream") == [0.5, 0.5]
