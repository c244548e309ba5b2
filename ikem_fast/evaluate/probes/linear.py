"""Linear classifiers on frozen features, all sets of modalities trained side by side."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ikem_fast.evaluate.features import FrozenFeatures
from ikem_fast.evaluate.results import Curves, SetResult, percent, score

RISE = 1.01  # of a loss, by which it has risen and not just wavered


@dataclass(frozen=True)
class Head:
    """A trained linear classifier of S modalities: scores = (features side by side) @ weight / S + bias.

    weight: (S·H,C) float32. bias: (C,) float32.
    """

    weight: torch.Tensor
    bias: torch.Tensor


def train_classifiers(
    features: FrozenFeatures,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    lr_milestones: tuple[int, ...],
    seed: int,
) -> tuple[dict[str, SetResult], dict[str, Head]]:
    """Train a linear classifier for each set on "train", score it on "test"; all see the same batches.

    Args:
        features: of both splits.
        epochs, batch_size, lr, lr_milestones, seed: see `LinearConfig`.

    Returns:
        Set's name → its result, and → its head.
    """
    classes = features.dataset.classes
    sets, x_train, y_train = list(features.sets.values()), features.x_train, features.y_train
    classifiers = _Classifiers(sets, x_train, len(classes), seed)
    targets = F.one_hot(y_train, len(classes)).float()
    random = torch.Generator().manual_seed(seed)

    curves = {name: Curves([], []) for name in features.sets}
    for epoch in range(epochs):
        rate = lr * 0.1 ** sum(epoch >= milestone for milestone in lr_milestones)
        order = torch.randperm(len(y_train), generator=random).to(x_train.device)
        total = torch.zeros(len(sets), device=x_train.device)
        for batch in order.split(batch_size):
            total += classifiers.step(x_train.index_select(0, batch), targets.index_select(0, batch), rate)
        scores = classifiers.scores(classifiers.inputs(features.x_test))
        right = scores.argmax(-1) == features.y_test
        for curve, loss, hits in zip(curves.values(), (total / len(y_train)).tolist(), right, strict=True):
            curve.loss.append(loss)
            curve.top1.append(percent(hits))
    results = {
        name: score(
            scores[i], features.y_test, classes, curves[name], divergence(curves[name].loss, len(classes))
        )
        for i, name in enumerate(features.sets)
    }
    return results, dict(zip(features.sets, classifiers.heads(), strict=True))


def divergence(losses: list[float], classes: int) -> str | None:
    """Say how a training went astray, if it did, by its loss (mean cross entropy) in each epoch.

    It did if a loss is not finite, or if the last is above the first, or above that of a guess among the
    classes, ln `classes`.
    """
    chance = math.log(classes)
    unfinished = [epoch for epoch, loss in enumerate(losses, 1) if not math.isfinite(loss)]
    if unfinished:
        return f"the training loss is not finite from epoch {unfinished[0]} on"
    first, last = losses[0], losses[-1]
    if last > RISE * first:
        return f"the training loss rose from {first:.2f} in the first epoch to {last:.2f} in the last"
    if last > RISE * chance:
        return f"the training loss ended at {last:.2f}, above the {chance:.2f} of a guess"
    return None


class _Classifiers:
    """A linear layer for each set of modalities, on the mean over the set: all in one weight, moved as one.

    The mean of a set's linear maps is one linear map of its features side by side, divided by their number.
    The gradient of the cross entropy is written out (softmax less target), so that a step is a product
    forward and one back for each set and a few operations for all of them; autograd and an optimizer for
    each set took longer than the arithmetic. Master weights are float32; products take the features' dtype.
    """

    def __init__(self, sets, like, classes, seed):
        width = like.shape[2]
        self.sets = sets
        self.rows = [width * len(columns) for columns in sets]
        drawn = [
            torch.empty(rows, classes).normal_(0, 0.01, generator=torch.Generator().manual_seed(seed))
            for rows in self.rows
        ]
        self.weight = torch.cat(drawn).to(like.device)
        self.bias = torch.zeros(len(sets), 1, classes, device=like.device)
        self.momenta = [torch.zeros_like(self.weight), torch.zeros_like(self.bias)]

    def inputs(self, x):
        """x (n,P,H) → each set's features side by side, (n,·)."""
        return [x[:, _positions(columns)].flatten(1) for columns in self.sets]

    def scores(self, inputs):
        """(S,n,C) float32."""
        weights = self.weight.to(inputs[0].dtype).split(self.rows)
        products = [
            x @ weight / len(columns) for x, weight, columns in zip(inputs, weights, self.sets, strict=True)
        ]
        return torch.stack(products).float() + self.bias

    def heads(self):
        """The `Head` of each set."""
        weights = self.weight.cpu().split(self.rows)
        return [Head(weight, bias) for weight, bias in zip(weights, self.bias.cpu().squeeze(1), strict=True)]

    def step(self, x, targets, lr):
        """SGD with momentum 0.9 on a batch. Returns (S,) losses, summed over its clips."""
        inputs = self.inputs(x)
        chances = self.scores(inputs).log_softmax(-1)
        losses = -(chances * targets).sum((1, 2))
        slopes = (chances.exp() - targets) / len(x)
        gradients = torch.cat([
            x.mT @ (slope / len(columns)).to(x.dtype)
            for x, slope, columns in zip(inputs, slopes, self.sets, strict=True)
        ])  # fmt: skip
        for value, momentum, gradient in zip(
            (self.weight, self.bias), self.momenta, (gradients, slopes.sum(1, keepdim=True)), strict=True
        ):
            value.sub_(momentum.mul_(0.9).add_(gradient), alpha=lr)
        return losses


def _positions(columns):
    """As a slice where they follow one another: a view needs no copy."""
    consecutive = columns == list(range(columns[0], columns[0] + len(columns)))
    return slice(columns[0], columns[-1] + 1) if consecutive else columns
