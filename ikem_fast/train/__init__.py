"""Training: settings, the loop, and what there is to train: `pretrain` and `distill`."""

from ikem_fast.nn.config import ModelConfig
from ikem_fast.runtime.checkpoint import load_checkpoint
from ikem_fast.train.config import DistillConfig, PretrainConfig
from ikem_fast.train.tasks.distill import distill
from ikem_fast.train.tasks.pretrain import pretrain

__all__ = [
    "DistillConfig",
    "ModelConfig",
    "PretrainConfig",
    "distill",
    "load_checkpoint",
    "pretrain",
]
