"""Transfer: encoders of one layout on clips of another."""

import numpy as np
import pytest

from ikem_fast.data import DatasetWriter
from ikem_fast.errors import InputError
from ikem_fast.evaluate import LinearConfig, TransferConfig, evaluate_linear, evaluate_transfer, read_results
from ikem_fast.nn.encoders.base import EncoderConfig
from ikem_fast.train import DistillConfig, ModelConfig, PretrainConfig, distill, pretrain


def other_dataset(folder, layout, joints, bodies=1):
    """Random clips."""
    random, sources = np.random.default_rng(0), [str(i) for i in range(12)]
    with DatasetWriter(
        folder, name="other", layout=layout, classes=["a", "b"], num_frames=8, num_bodies=bodies,
        prepared={}, sources=sources, name_length=2,
    ) as writer:  # fmt: skip
        for i, name in enumerate(sources):
            clip = random.normal(size=(3, 8, joints, bodies)) + i % 2
            writer.add("test" if i % 3 == 2 else "train", clip.astype(np.float32), 8, i % 2, name)
        return writer.finish().folder


def test_clips_of_another_layout_are_evaluated(small, tmp_path):
    data = other_dataset(tmp_path / "data", "kinect-v1", 20)
    settings = {**small, "data": data, "out": tmp_path, "untrained_seeds": 1, "sets": "joint"}
    results = evaluate_transfer(TransferConfig(**settings))
    assert read_results(tmp_path / "transfer.json") == results
    assert results.evaluation == "Transfer from synthetic" and results.dataset == "other"
    assert results.clips == {"train": 8, "test": 4}
    assert {path.name for path in tmp_path.glob("transfer*")} == {
        "transfer.json", "transfer.npz", "transfer.png", "transfer_scores.npz"
    }  # fmt: skip
    with pytest.raises(InputError, match="expected a model for the layout"):
        evaluate_linear(LinearConfig(**settings))


def test_bodies_side_by_side_are_as_many_as_in_training(tmp_path):
    """Transfer fits them; elsewhere nothing is guessed."""
    pair, alone = (other_dataset(tmp_path / f"{n}", "kinect-v1", 20, bodies=n) for n in (2, 1))
    encoder = EncoderConfig("tcn", {"together": True, "blocks": 1})
    model = ModelConfig(
        modalities=("joint", "motion"), hidden_channels=8, feature_dim=8, queue_size=16, encoder=encoder
    )
    short = {"max_steps": 1, "batch_size": 4, "device": "cpu"}
    run = pretrain(PretrainConfig(data=pair, out=tmp_path / "run", model=model, **short))
    settings = {"checkpoint": run, "data": alone, "baselines": False, "sets": "joint"}
    message = (
        r"as many bodies as those of .*/1, 1, found one whose encoders have 2 side by side; prepare with"
    )
    with pytest.raises(InputError, match=message):
        evaluate_linear(LinearConfig(**settings, out=tmp_path / "linear"))
    with pytest.raises(InputError, match=message):
        distill(
            DistillConfig(data=alone, teacher=run, out=tmp_path / "student", students=("joint",), **short)
        )
    assert evaluate_transfer(TransferConfig(**settings, out=tmp_path / "transfer")).clips["test"] == 4
    evaluate_linear(LinearConfig(**{**settings, "data": pair}, out=tmp_path / "linear"))


def test_the_same_layout_is_linear_evaluation(small, tmp_path):
    settings = {**small, "out": tmp_path, "baselines": False}
    assert (
        evaluate_transfer(TransferConfig(**settings)).sets == evaluate_linear(LinearConfig(**settings)).sets
    )
