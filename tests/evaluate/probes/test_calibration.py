"""Probabilities say how often a probe is right on clips that it has not seen."""

import math

import pytest
import torch
import torch.nn.functional as F

from ikem_fast.evaluate.probes.base import Examples
from ikem_fast.evaluate.probes.calibration import RANGE, fit_temperature
from ikem_fast.evaluate.probes.fusion import fit_sets
from ikem_fast.evaluate.probes.logistic import fit_logistic
from ikem_fast.evaluate.probes.ridge import fit_ridge


def examples(count=120):
    """Two modalities that tell three classes apart, not too well."""
    random = torch.Generator().manual_seed(0)
    y = torch.arange(count) % 3
    x = torch.randn(count, 2, 6, generator=random)
    x[torch.arange(count), :, y] += 1.5
    return Examples(x, y, 3)


def test_the_temperature_of_a_known_share_is_exact():
    scores, y = torch.tensor([[2.0, 0.0]] * 3), torch.tensor([0, 0, 1])
    assert fit_temperature(scores, y) == pytest.approx(2 / math.log(2), rel=1e-6)


@pytest.mark.parametrize("right", [True, False])
def test_scores_that_are_always_right_or_always_wrong_end_at_the_range(right):
    scores, y = torch.tensor([[1.0, 0.0]] * 3), torch.tensor([0 if right else 1] * 3)
    assert fit_temperature(scores, y) == pytest.approx(RANGE[0] if right else RANGE[1], rel=1e-6)


@pytest.mark.parametrize("fit", [fit_ridge, fit_logistic])
def test_left_out_scores_are_those_of_fits_without_the_fold(fit):
    train = examples()
    fitted = fit(train, {"joint": [0]})["joint"]
    right = 100 * (fitted.left_out.argmax(1) == train.y).double().mean().item()
    assert fitted.left_out.shape == (120, 3) and right == pytest.approx(fitted.chosen["validation"])
    seen = 100 * (fitted.scores(train.x).argmax(1) == train.y).double().mean().item()
    assert right != pytest.approx(seen), "scores of clips that were fitted to are other ones"


@pytest.mark.parametrize("fusion", ["concatenate", "mean", "three-stream"])
def test_calibration_lowers_the_cross_entropy_of_clips_not_seen(fusion):
    both = examples(600)
    part = lambda rows: Examples(both.x[rows], both.y[rows], 3)  # noqa: E731
    train, test = part(slice(0, 120)), part(slice(120, 600))
    fitted = fit_sets(fit_ridge, train, {"joint+motion": [0, 1]}, fusion)["joint+motion"]
    temperature, scores = fit_temperature(fitted.left_out, train.y), fitted.scores(test.x)
    of = {
        t: F.cross_entropy(scores / t, test.y).item()
        for t in (temperature, temperature * 3, temperature / 3, 1)
    }
    assert min(of, key=of.get) == temperature
    probabilities = (scores / temperature).softmax(1)
    sure, right = probabilities.max(1).values.mean(), (scores.argmax(1) == test.y).float().mean()
    assert abs(sure - right) < 0.05
