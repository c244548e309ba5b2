"""Linear classifiers trained by SGD, as published, all sets of modalities side by side."""

import math
from functools import partial

import torch
import torch.nn.functional as F

from ikem_fast.evaluate.probes.base import Examples, Fitted, Head, Sets

RISE = 1.01  # of a loss, by which it has risen and not just wavered


def fit_sgd(
    examples: Examples,
    sets: Sets,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    lr_milestones: tuple[int, ...],
    seed: int,
    watched: Examples | None = None,
) -> dict[str, Fitted]:
    """Train a linear classifier for each set, by SGD with momentum as published; all see the same batches.

    Args:
        examples: training clips.
        sets: the sets.
        epochs, batch_size, lr, lr_milestones, seed: see `LinearConfig`.
        watched: clips whose accuracy after each epoch is kept for the curves; nothing depends on it.

    Returns:
        Set's name → what was learned, with its curves.
    """
    x, y = examples.x, examples.y
    classifiers = _Classifiers(list(sets.values()), x, examples.classes, seed)
    targets = F.one_hot(y, examples.classes).float()
    random = torch.Generator().manual_seed(seed)
    losses, accuracies = [], []
    for epoch in range(epochs):
        rate = lr * 0.1 ** sum(epoch >= milestone for milestone in lr_milestones)
        order = torch.randperm(len(y), generator=random).to(x.device)
        total = torch.zeros(len(sets), device=x.device)
        for batch in order.split(batch_size):
            total += classifiers.step(x.index_select(0, batch), targets.index_select(0, batch), rate)
        losses.append((total / len(y)).tolist())
        if watched is not None:
            right = classifiers.scores(classifiers.inputs(watched.x)).argmax(-1) == watched.y
            accuracies.append((100 * right.double().mean(1)).tolist())
    heads = classifiers.heads()
    return {
        name: Fitted(
            scores=partial(classifiers.scores_of, i),
            head=heads[i],
            curves=([epoch[i] for epoch in losses], [epoch[i] for epoch in accuracies]),
            diverged=divergence([epoch[i] for epoch in losses], examples.classes),
        )
        for i, name in enumerate(sets)
    }


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

    def scores_of(self, i, x):
        """(n,C) float32 scores by classifier `i` of x (n,P,H)."""
        return self.scores(self.inputs(x))[i]

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
