"""Training on labels: what is learned, on which clips, with which rates."""

import numpy as np
import pytest
import torch
from torch import nn

from ikem_fast.augment import Recipe, Shape, named
from ikem_fast.data import Split
from ikem_fast.errors import InputError
from ikem_fast.evaluate.supervised import (
    TrainingConfig,
    classify,
    feature_width,
    share_of_rate,
    train_classifier,
)
from ikem_fast.settings import check
from ikem_fast.skeleton import get_layout

CPU = torch.device("cpu")


class Flat(nn.Module):
    """An encoder of 7 numbers, whose class depends on where the body is; it keeps the clips it saw."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm, self.seen = nn.Linear(3 * 4 * 15, 7), nn.BatchNorm1d(7), []

    def forward(self, x):
        self.seen.append(x.detach())
        feature = torch.relu(self.norm(self.layer(x.flatten(1))))
        return feature[:, :2], feature


def split_of(clips):
    labels = np.arange(clips) % 3
    x = np.random.default_rng(0).normal(size=(clips, 3, 4, 15, 1)).astype(np.float32)
    x[:, 0] += 2.0 * labels[:, None, None, None]
    names = np.array([str(i) for i in range(clips)])
    return Split(x, np.full(clips, 4, np.int32), labels, names)


def train(encoders, split, *, augmentations=(), where=None, **settings):
    config = TrainingConfig(**{"steps": 60, "batch_size": 8, "lr": 0.01, **settings})
    recipe = Recipe(named(augmentations), Shape(4, 1, get_layout("sbu")))
    return train_classifier(encoders, split, recipe, 3, config, where=where, seed=0, device=CPU)


def test_labels_are_learned_by_encoders_of_any_width():
    split, encoders = split_of(30), nn.ModuleDict({"joint": Flat(), "bone": Flat()})
    assert feature_width(encoders, split, "sbu", CPU) == 7
    before = encoders["joint"].layer.weight.clone()
    scores = classify(train(encoders, split), split, "sbu", device=CPU)
    assert scores.shape == (30, 2, 3)
    assert (scores[:, 0].argmax(1).numpy() == split.labels).mean() > 0.9
    assert not torch.equal(encoders["joint"].layer.weight, before)


def test_the_same_seed_gives_the_same_encoders():
    split = split_of(12)
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        encoders = nn.ModuleDict({"joint": Flat()})
        found.append(
            classify(
                train(encoders, split, steps=5, augmentations=[{"name": "shear"}]), split, "sbu", device=CPU
            )
        )
    assert torch.equal(*found)


@pytest.mark.parametrize(("clips", "batch", "size"), [(10, 4, 4), (3, 8, 3)])
def test_every_clip_is_seen_once_before_any_is_seen_again(clips, batch, size):
    split, encoders = split_of(clips), nn.ModuleDict({"joint": Flat()})
    split.clips[:] = np.arange(clips)[:, None, None, None, None]
    train(encoders, split, steps=5, batch_size=batch)
    batches = [x[:, 0, 0, 0, 0].tolist() for x in encoders["joint"].seen if len(x) == size][:5]
    seen = [clip for one in batches for clip in one]
    assert sorted(seen[:clips]) == list(range(clips))


def test_only_labels_that_are_named_are_learned_from():
    split, encoders = split_of(12), nn.ModuleDict({"joint": Flat()})
    split.clips[:] = np.arange(12)[:, None, None, None, None]
    train(encoders, split, steps=5, batch_size=2, where=np.array([3, 7, 8]))
    learned = {clip for x in encoders["joint"].seen if len(x) == 2 for clip in x[:, 0, 0, 0, 0].tolist()}
    assert learned == {3, 7, 8}


def test_an_augmentation_that_there_is_not_is_named():
    with pytest.raises(InputError, match=r"augmentations, number 1.*'blink'"):
        check(TrainingConfig(augmentations=({"name": "blink"},)))


def test_the_rate_rises_and_falls():
    rates = [share_of_rate(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5) and rates[-1] < 0.001
    assert share_of_rate(0, 1) == 1.0
