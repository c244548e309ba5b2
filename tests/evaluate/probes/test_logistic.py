"""Logistic regression: the minimum of what it says it minimizes."""

import pytest
import torch
import torch.nn.functional as F

from ikem_fast.evaluate.probes.base import Examples
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
