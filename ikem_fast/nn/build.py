"""The models of their settings: the one place where settings become modules."""

from collections.abc import Mapping, Sequence

import torch

from ikem_fast.nn.config import ModelConfig
from ikem_fast.nn.distiller import RelationalDistiller
from ikem_fast.nn.ikem import IKEM


def build_ikem(config: ModelConfig, layout: str) -> IKEM:
    """Make the `nn.IKEM` of these settings for a joint layout."""
    return IKEM(layout=layout, **vars(config))


def build_distiller(
    config: ModelConfig,
    layout: str,
    students: Sequence[str],
    *,
    temperature: float = 0.07,
    teacher_mode: str = "eval",
    teacher: Mapping[str, torch.Tensor] | None = None,
) -> RelationalDistiller:
    """Make the `nn.RelationalDistiller` for a teacher of these settings.

    Args:
        config: the teacher's settings.
        layout: name of a joint layout.
        students: modalities distilled into.
        temperature: of the loss.
        teacher_mode: "eval" or "train", see `nn.RelationalDistiller`.
        teacher: state of the `nn.IKEM` whose query encoders and bank become the teacher's.
    """
    ikem = build_ikem(config, layout)
    if teacher is not None:
        ikem.load_state_dict(teacher)
    return RelationalDistiller(
        feature_dim=config.feature_dim,
        queue_size=config.queue_size,
        hidden_channels=config.hidden_channels,
        hidden_dim=config.hidden_dim,
        dropout=config.dropout,
        temperature=temperature,
        topk=config.topk,
        context=config.context,
        layout=layout,
        modalities=config.modalities,
        students=students,
        strategy=config.strategy,
        impl=config.impl,
        teacher_mode=teacher_mode,
        teacher=ikem,
    )
