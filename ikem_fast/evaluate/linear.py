"""Linear evaluation: how well one linear layer on frozen features tells the actions apart."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from ikem_fast.evaluate.protocol import EvaluateConfig, frozen_features, percent, scores_of, write_report
from ikem_fast.evaluate.report import draw_linear

RESULTS = "linear.json"
PICTURE = "linear.png"


@dataclass(kw_only=True)
class LinearConfig(EvaluateConfig):
    """Settings of linear evaluation. Source of the defaults: arXiv 2309.12009, section 4.2.

    Args:
        epochs: how many.
        batch_size: clips in a step.
        lr: learning rate of SGD, momentum 0.9.
        lr_milestones: epochs after which the learning rate is multiplied by 0.1.
    """

    epochs: int = 100
    batch_size: int = 128
    lr: float = 3.0
    lr_milestones: tuple[int, ...] = (80,)


def evaluate_linear(config):
    """Train linear classifiers on the features of the split "train", score them on "test".

    The features never change, so they are computed once. A set of several modalities has a classifier each,
    trained together on the mean of their outputs, as the published code does.

    Args:
        config: `LinearConfig`.

    Returns:
        What is written to `out`/linear.json: settings, and for each set top-1, top-5 and the accuracy of
        each class in percent, the confusion matrix (row: true class), and the curves over epochs.

    Raises InputError for a dataset, checkpoint, set or device that cannot be used.
    """
    features = frozen_features(config)
    results = train_and_score(features, config)
    report = write_report("Linear evaluation", results, features, config, RESULTS)
    draw_linear(report, Path(config.out) / PICTURE)
    return report


def train_and_score(features, config):
    """Set's name → scores and curves; classifiers of all sets see the same batches."""
    classes = features.dataset.classes
    sets, x_train, y_train = list(features.sets.values()), features.x_train, features.y_train
    classifiers = _Classifiers(sets, x_train, len(classes), config.seed)
    targets = F.one_hot(y_train, len(classes)).float()
    random = torch.Generator().manual_seed(config.seed)

    curves = {name: {"loss": [], "top1": []} for name in features.sets}
    for epoch in range(config.epochs):
        lr = config.lr * 0.1 ** sum(epoch >= milestone for milestone in config.lr_milestones)
        order = torch.randperm(len(y_train), generator=random).to(x_train.device)
        total = torch.zeros(len(sets), device=x_train.device)
        for batch in order.split(config.batch_size):
            total += classifiers.step(x_train.index_select(0, batch), targets.index_select(0, batch), lr)
        scores = classifiers.scores(classifiers.inputs(features.x_test))
        right = scores.argmax(-1) == features.y_test
        for curve, loss, hits in zip(curves.values(), (total / len(y_train)).tolist(), right, strict=True):
            curve["loss"].append(loss)
            curve["top1"].append(percent(hits))
    return {
        name: {**scores_of(scores[i], features.y_test, classes), "curves": curves[name]}
        for i, name in enumerate(features.sets)
    }


class _Classifiers:
    """A linear layer for each set of modalities, on the mean over the set: all in one weight, moved as one.

    The mean of a set's linear maps is one linear map of its features side by side, divided by their number.
    The gradient of the cross entropy is written out (softmax less target), so that a step is a product
    forward and one back for each set and a few operations for all of them; autograd and an optimiser for
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
