"""How far augmentations move features."""

import pytest
import torch

from ikem_fast.augment import Recipe, Shape, named
from ikem_fast.evaluate import SemiConfig
from ikem_fast.evaluate.features import augmented_deviation, frozen_features, open_splits, raw_features

CPU = torch.device("cpu")


@pytest.mark.parametrize("raw", [True, False], ids=["coordinates", "encoders"])
def test_augmentations_that_do_nothing_move_no_feature_and_others_do(small, tmp_path, raw):
    config = SemiConfig(**small, out=tmp_path)
    dataset = open_splits(config)
    features = frozen_features(config, dataset, CPU)
    if raw:
        features = raw_features(dataset, features.modalities, None, CPU)

    def moved(**entry):
        shape = Shape(dataset.num_frames, dataset.num_bodies, dataset.skeleton)
        return augmented_deviation(config, features, Recipe(named([entry]), shape), CPU)

    still, turned = moved(name="scale", low=1.0, high=1.0), moved(name="rotation")
    assert still.shape == features.train.x.shape[1:] and still.max() < 1e-5
    assert (turned.amax(1) > 1e-3).all() and torch.equal(turned, moved(name="rotation"))
    assert moved(name="rotation", limit=0.1).mean() < turned.mean()
