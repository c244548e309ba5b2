"""Logistic regression: the minimum of what it says it minimizes."""

import pytest
import torch
import torch.nn.functional as F

from ikem_fast.evaluate.probes.base import Examples
from ikem_fast.evaluate.probes.folds import make_folds
from ikem_fast.evaluate.probes.logistic import STRENGTHS, fit_logistic


@pytest.mark.parametrize(("clips", "width"), [(60, 4), (15, 20)], ids=["primal", "kernel"])
def test_the_gradient_vanishes_at_what_is_found(clips, width):
    y = torch.arange(clips) % 3
    x = (torch.randn(3, 2, width)[y] + 1.5 * torch.randn(clips, 2, width)) * 40 + 3
    fitted = fit_logistic(Examples(x, y, 3), {"both": [0, 1]})["both"]
    flat = x.flatten(1).double()
    scale = flat.std(0, correction=0) * flat.shape[1] ** 0.5
    weight = (fitted.head.weight.double() / 2 * scale[:, None]).requires_grad_()  # of standardized features
    bias = (fitted.head.bias.double() + flat.mean(0) @ (weight.detach() / scale[:, None])).requires_grad_()
    z = (flat - flat.mean(0)) / scale
    loss = F.cross_entropy(z @ weight + bias, y) + fitted.chosen["strength"] / 2 * weight.square().sum()
    loss.backward()
    assert weight.grad.abs().max() < 1e-4 and bias.grad.abs().max() < 1e-4
    assert loss < 0.9 * F.cross_entropy(torch.zeros(clips, 3), y)


def test_noise_asks_for_the_strongest_and_order_for_less():
    y = torch.arange(60) % 3
    noise = fit_logistic(Examples(torch.randn(60, 1, 5), y, 3), {"a": [0]})["a"]
    assert noise.chosen["validation"] < 70
    x = torch.eye(3)[y][:, None] + 0.2 * torch.randn(60, 1, 3)
    clear = fit_logistic(Examples(x, y, 3), {"a": [0]})["a"]
    assert clear.chosen["validation"] > 90 and clear.chosen["strength"] in STRENGTHS
    assert (clear.scores(x).argmax(1) == y).double().mean() > 0.9


def minimum(z, y, strength):
    """Weights and constants of standardized features at the least loss, written out."""
    start = torch.zeros(z.shape[1] + 1, 3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([start], max_iter=300, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = F.cross_entropy(z @ start[:-1] + start[-1], y) + strength / 2 * start[:-1].square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return start.detach()


def test_the_strength_is_the_one_that_is_least_wrong_about_clips_left_out():
    y = torch.arange(90) % 3
    x = torch.randn(3, 1, 6)[y] + 2.0 * torch.randn(90, 1, 6)
    z = x[:, 0].double()
    z = (z - z.mean(0)) / z.std(0, correction=0) / 6**0.5
    folds = make_folds(y)
    losses = dict.fromkeys(STRENGTHS, 0.0)
    for strength in STRENGTHS:
        for fold in folds.unique():
            out = folds == fold
            weights = minimum(z[~out], y[~out], strength)
            scores = z[out] @ weights[:-1] + weights[-1]
            losses[strength] += F.cross_entropy(scores, y[out], reduction="sum").item()
    best = min(losses, key=losses.get)
    assert fit_logistic(Examples(x, y, 3), {"a": [0]})["a"].chosen["strength"] == best
    assert best not in (STRENGTHS[0], STRENGTHS[-1]), "there must be a least for this to say something"
