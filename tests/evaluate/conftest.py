"""Fixtures of the tests of evaluation: few short clips, and encoders for them."""

import pytest

from ikem_fast.data.formats.synthetic import prepare_synthetic
from ikem_fast.train import ModelConfig, PretrainConfig, pretrain
from tests.helpers import ONE_BLOCK

MODALITIES = ("joint", "motion", "bone")


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory):
    """A prepared dataset of simulated people, three clips of each action, eight frames each."""
    folder = tmp_path_factory.mktemp("evaluated") / "data"
    prepare_synthetic(folder, clips_per_class=3, frames=8)
    return folder


@pytest.fixture(scope="session")
def small(tiny_dataset, tmp_path_factory):
    """Settings that evaluations of encoders share: the dataset, and a checkpoint of three narrow encoders."""
    model = ModelConfig(
        feature_dim=4, queue_size=12, hidden_channels=2, encoder=ONE_BLOCK, modalities=MODALITIES
    )
    out = tmp_path_factory.mktemp("evaluated") / "teacher"
    checkpoint = pretrain(
        PretrainConfig(data=tiny_dataset, out=out, epochs=1, batch_size=12, device="cpu", model=model)
    )
    return {"data": tiny_dataset, "checkpoint": checkpoint, "device": "cpu"}
