"""Labels spread to clips without: which directions count, and that no other label is seen."""

import numpy as np
import torch

from ikem_fast.evaluate.probes.base import Examples
from ikem_fast.evaluate.probes.spread import in_proportion, spread_labels

STILL, MOVED = 4, 60  # features that tell the classes apart, and such as augmentations move
LABELED = [0, 1, 2]


def clouds(clips, seed=0):
    """Three classes in few quiet features; many loud ones tell nothing."""
    random = torch.Generator().manual_seed(seed)
    y = torch.arange(clips) % 3
    told = torch.randn(3, STILL, generator=torch.Generator().manual_seed(5))[y]
    told = told + 0.3 * torch.randn(clips, STILL, generator=random)
    return Examples(torch.cat([told, torch.randn(clips, MOVED, generator=random)], 1)[:, None], y, 3)


def deviation(moved):
    return torch.cat([torch.full((STILL,), 0.3), torch.full((MOVED,), moved)])[None]


def right(spread, test):
    return (spread["all"].scores(test.x).argmax(1) == test.y).double().mean()


def test_what_augmentations_move_counts_less():
    train, test = clouds(90), clouds(300, seed=1)
    heard = spread_labels(train, {"all": [0]}, LABELED, deviation(0.3))
    deaf = spread_labels(train, {"all": [0]}, LABELED, deviation(10.0))
    assert right(deaf, test) > 0.9 > 0.7 > right(heard, test)


def test_clips_without_labels_help():
    gains = []
    for seed in range(3):
        train, test = clouds(90, seed), clouds(300, seed + 10)
        few = Examples(train.x[LABELED], train.y[LABELED], 3)
        beside, alone = (
            right(spread_labels(one, {"all": [0]}, LABELED, deviation(1.0)), test) for one in (train, few)
        )
        gains.append(beside - alone)
    assert min(gains) > 0.05


def test_other_labels_are_not_looked_at():
    train = clouds(30)
    hidden = train.y.clone()
    hidden[3:] = 0
    seen, unseen = (
        spread_labels(one, {"all": [0]}, LABELED, deviation(2.0))["all"].head.weight
        for one in (train, Examples(train.x, hidden, 3))
    )
    assert torch.equal(seen, unseen)


def test_probabilities_are_in_proportion():
    scores = torch.from_numpy(np.random.default_rng(0).normal(size=(200, 4)))
    scores[:, 0] += 5
    share = torch.tensor([0.1, 0.2, 0.3, 0.4]).double()
    likely = in_proportion(scores, share)
    assert torch.allclose(likely.mean(0), share, atol=1e-3) and torch.allclose(
        likely.sum(1), torch.ones(200).double()
    )
    nobody = in_proportion(scores, torch.tensor([0.5, 0.5, 0.0, 0.0]).double())
    assert (nobody[:, 2:] == 0).all() and nobody.isfinite().all()


def test_more_clips_than_features_and_fewer_agree_on_what_is_told():
    """The regression is solved in the smaller of both."""
    train = clouds(90)
    narrow = Examples(train.x[:, :, :STILL], train.y, 3)
    found = spread_labels(narrow, {"all": [0]}, LABELED, deviation(1.0)[:, :STILL])["all"]
    assert (found.scores(narrow.x).argmax(1) == train.y).double().mean() > 0.9
