"""Features of frozen encoders: of which clips, by which statistics, and how far augmentations move them."""

import numpy as np
import pytest
import torch

from ikem_fast.augment import Recipe, Shape, named
from ikem_fast.data import DatasetWriter, open_dataset
from ikem_fast.errors import InputError
from ikem_fast.evaluate import SemiConfig
from ikem_fast.evaluate.config import EvaluateConfig
from ikem_fast.evaluate.features import (
    BATCH_SIZES,
    augmented_deviation,
    estimate_statistics,
    frozen_features,
    load_encoders,
    open_splits,
    raw_features,
)
from ikem_fast.nn.encoders.base import EncoderConfig
from ikem_fast.train import ModelConfig, PretrainConfig, pretrain

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


def test_a_last_batch_of_one_clip_is_no_batch_to_take_statistics_of(tiny_dataset, tmp_path, monkeypatch):
    """Heads with a normalization met it in training mode: 257 clips, 64 at a time, could not be evaluated."""
    model = ModelConfig(
        feature_dim=4, queue_size=12, hidden_channels=2, modalities=("joint", "motion"), head="normalized",
        encoder=EncoderConfig("tcn", {"blocks": 1}),
    )  # fmt: skip
    out, short = tmp_path / "run", {"max_steps": 1, "batch_size": 12, "device": "cpu"}
    run = pretrain(PretrainConfig(data=tiny_dataset, out=out, model=model, **short))
    dataset = open_dataset(tiny_dataset)
    clips = len(dataset["train"])
    statistics = []
    for kept in (slice(None), slice(clips - 1)):
        monkeypatch.setitem(BATCH_SIZES, "cpu", clips - 1)
        encoders = load_encoders(run, dataset)
        estimate_statistics(
            encoders, dataset["train"].take(np.arange(clips)[kept]), dataset.skeleton, device=CPU
        )
        statistics.append(encoders.state_dict())
    assert all(torch.equal(value, statistics[1][name]) for name, value in statistics[0].items())


def test_test_clips_that_are_training_clips_are_scored_where_nothing_else_is_said(tmp_path):
    def written(name, test):
        with DatasetWriter(
            tmp_path / name, name="a", layout="sbu", classes=["a"], num_frames=4, num_bodies=1,
            sources=["train", *map(str, range(len(test)))], name_length=5, prepared={"from": "a test"},
        ) as writer:  # fmt: skip
            for source, seed in (("train", 0), *((str(k), seed) for k, seed in enumerate(test))):
                clip = np.random.default_rng(seed).normal(size=(3, 4, 15, 1)).astype(np.float32)
                writer.add("train" if source == "train" else "test", clip, 4, 0, source)
            writer.finish()
        return tmp_path / name

    data = written("some", [0, 1, 0])
    assert len(open_splits(EvaluateConfig(data=data, out=tmp_path))["test"]) == 3
    left = open_splits(EvaluateConfig(data=data, out=tmp_path, drop_copies=True))
    assert left["test"].names.tolist() == ["1"] and len(left["train"]) == 1
    with pytest.raises(InputError, match="no training clip's copy, found 2 copies alone"):
        open_splits(EvaluateConfig(data=written("all", [0, 0]), out=tmp_path, drop_copies=True))
