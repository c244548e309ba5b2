"""Ridge: against the formula written out and cross-validation done by fitting anew."""

import numpy as np
import pytest
import torch

from ikem_fast.evaluate.probes.base import Examples
from ikem_fast.evaluate.probes.folds import make_folds
from ikem_fast.evaluate.probes.ridge import STRENGTHS, fit_ridge

CLASSES = 3


def made_up(clips, modalities=2, width=4, noise=1.0):
    """Features whose means differ by class, on odd scales."""
    y = torch.arange(clips) % CLASSES
    centers = torch.randn(CLASSES, modalities, width)
    x = (centers[y] + noise * torch.randn(clips, modalities, width)) * torch.tensor([0.01, 50.0])[:, None] + 7
    return x, y


def written_out(x, y, strength, mean=None, deviation=None):
    """Weights of standardized features and a constant, and the function that scores others."""
    flat = x.flatten(1).double()
    mean = flat.mean(0) if mean is None else mean
    deviation = flat.std(0, correction=0) if deviation is None else deviation

    def design(other):
        columns = (other.flatten(1).double() - mean) / deviation / flat.shape[1] ** 0.5
        return torch.cat([columns, torch.ones(len(other), 1).double()], 1)

    z, targets = design(x), 2 * torch.eye(CLASSES).double()[y] - 1
    weights = torch.linalg.solve(z.mT @ z + strength * torch.eye(z.shape[1]).double(), z.mT @ targets)
    return lambda other: design(other) @ weights


@pytest.mark.parametrize(("clips", "width"), [(40, 4), (12, 30)], ids=["primal", "kernel"])
def test_scores_are_the_formula(clips, width):
    x, y = made_up(clips, width=width)
    fitted = fit_ridge(Examples(x, y, CLASSES), {"both": [0, 1], "second": [1]})
    others = made_up(9, width=width)[0]
    for name, columns in {"both": [0, 1], "second": [1]}.items():
        expected = written_out(x[:, columns], y, fitted[name].chosen["strength"])(others[:, columns])
        torch.testing.assert_close(fitted[name].scores(others).double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("clips", "width"), [(90, 4), (24, 30)], ids=["primal", "kernel"])
@pytest.mark.parametrize("subjects", [None, 4], ids=["unknown", "four subjects"])
def test_the_strength_is_that_of_cross_validation_by_fitting_anew(clips, width, subjects):
    """Standardized by all training clips, as the probe says; everything else without the fold."""
    x, y = made_up(clips, width=width, noise=6.0)
    names = None if subjects is None else np.array([str(clip * subjects // clips) for clip in range(clips)])
    folds = make_folds(y, names)
    flat = x.flatten(1).double()
    statistics = flat.mean(0), flat.std(0, correction=0)
    targets = 2 * torch.eye(CLASSES).double()[y] - 1
    errors, accuracies = [], []
    for strength in STRENGTHS:
        scores = torch.empty_like(targets)
        for fold in folds.unique():
            out = folds == fold
            scores[out] = written_out(x[~out], y[~out], strength, *statistics)(x[out])
        errors.append((scores - targets).square().mean())
        accuracies.append(100 * (scores.argmax(1) == y).double().mean())
    best = min(range(len(STRENGTHS)), key=lambda i: errors[i])
    chosen = fit_ridge(Examples(x, y, CLASSES, names), {"both": [0, 1]})["both"].chosen
    assert chosen["strength"] == STRENGTHS[best]
    assert chosen["validation"] == pytest.approx(accuracies[best])
    assert 0 < best < len(STRENGTHS) - 1, "the errors must have a least for this to say something"


def test_features_that_do_not_vary_count_for_nothing():
    x, y = made_up(30)
    x[:, 0, 1] = 3.0
    x[:, 1, 2] = 50 + 1e-7 * torch.randn(30)
    head = fit_ridge(Examples(x, y, CLASSES), {"both": [0, 1]})["both"].head
    weight = head.weight.view(2, 4, CLASSES)
    assert not weight[0, 1].any() and not weight[1, 2].any() and weight[0, 0].any()


def test_clips_of_one_class_alone_and_a_single_clip():
    for clips in (1, 5):
        x = torch.randn(clips, 1, 3)
        fitted = fit_ridge(Examples(x, torch.ones(clips, dtype=torch.int64), CLASSES), {"a": [0]})["a"]
        assert fitted.scores(torch.randn(4, 1, 3)).argmax(1).tolist() == [1] * 4


def test_half_precision_features_are_judged_like_others():
    x, y = made_up(60, noise=0.1)
    x = (x - 7).bfloat16()
    fitted = fit_ridge(Examples(x, y, CLASSES), {"both": [0, 1]})["both"]
    assert (fitted.scores(x).argmax(1) == y).all()
