"""Training: settings, the loop, checkpoints; `pretrain` and `distill` are the two kinds of run."""

from ikem_fast.nn.config import ModelConfig
from ikem_fast.runtime.checkpoint import load_checkpoint
from ikem_fast.train.config import DistillConfig, PretrainConfig
from ikem_fast.train.distill import distill
from ikem_fast.train.pretrain import pretrain

__all__ = [
    "DistillConfig",
    "ModelConfig",
    "PretrainConfig",
    "distill",
    "load_checkpoint",
    "pretrain",
]
