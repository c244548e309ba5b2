"""The smallest data and model that runs are tried on."""

from pathlib import Path

from ikem_fast.train import ModelConfig
from tests.helpers import ONE_BLOCK

TINY = Path(__file__).parents[1] / "version1" / "data"  # four clips: two batches of two an epoch
MODEL = ModelConfig(
    feature_dim=2,
    queue_size=8,
    hidden_channels=2,
    encoder=ONE_BLOCK,
    modalities=("joint", "motion"),
    dropout=0.0,
)
