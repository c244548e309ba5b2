"""Fixtures of the tests of prediction: a tiny run that was evaluated."""

import pytest

from ikem_fast.data.formats.synthetic import prepare_synthetic
from ikem_fast.evaluate import LinearConfig, evaluate_linear
from ikem_fast.train import ModelConfig, PretrainConfig, pretrain
from tests.helpers import ONE_BLOCK


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run's folder with a checkpoint, an evaluation with its bundle below it, and the data beside it."""
    folder = tmp_path_factory.mktemp("predicted")
    prepare_synthetic(folder / "data", clips_per_class=3, frames=8)
    model = ModelConfig(
        feature_dim=4,
        queue_size=12,
        hidden_channels=2,
        encoder=ONE_BLOCK,
        modalities=("joint", "motion", "bone"),
    )
    common = {"data": folder / "data", "device": "cpu"}
    pretrain(PretrainConfig(out=folder / "run", epochs=1, batch_size=12, model=model, **common))
    evaluate_linear(
        LinearConfig(checkpoint=folder / "run", out=folder / "run" / "linear", baselines=False, **common)
    )
    return folder / "run"


@pytest.fixture(scope="session")
def bundle(run):
    """The folder of its bundle."""
    return run / "linear" / "bundle"
