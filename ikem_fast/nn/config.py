"""Settings of the models, and the models of their settings."""

from dataclasses import dataclass
from typing import Literal

from ikem_fast.nn.distiller import RelationalDistiller
from ikem_fast.nn.ikem import IKEM
from ikem_fast.skeleton import MODALITIES


@dataclass
class ModelConfig:
    """Sizes of the pretraining model and constants of its losses; see `ikem_fast.nn.IKEM`.

    Args:
        feature_dim: size of the contrasted features.
        queue_size: keys in the memory bank of a modality.
        hidden_channels: width of the encoder's first block.
        hidden_dim: size of the encoder's pooled feature.
        dropout: probability in the encoder.
        momentum: of the key encoders' moving average.
        temperature: of every loss.
        topk: neighbours mined for each query in phase 2.
        context: whether phase 2 contrasts products of similarities too.
        modalities: which, in this order.
        strategy: how the encoder's graph is partitioned.
        exchange_key_updates: modalities whose key encoders are updated in phase 2.
        initialisation: torch's own, with keys as copies; or as published, with keys drawn apart.
        impl: auto takes kernels where they serve; fused wants them; reference computes in plain torch.
    """

    feature_dim: int = 128
    queue_size: int = 32768
    hidden_channels: int = 16
    hidden_dim: int = 256
    dropout: float = 0.5
    momentum: float = 0.999
    temperature: float = 0.07
    topk: int = 1
    context: bool = True
    modalities: tuple[str, ...] = MODALITIES
    strategy: Literal["spatial", "distance"] = "spatial"
    exchange_key_updates: tuple[str, ...] = ("motion", "acceleration", "angular_velocity")
    initialisation: Literal["default", "published"] = "default"
    impl: Literal["auto", "fused", "reference"] = "auto"


def build_model(config: ModelConfig, layout: str) -> IKEM:
    """Build the `nn.IKEM` of its settings for a joint layout."""
    return IKEM(layout=layout, **vars(config))


def build_distiller(
    config: ModelConfig,
    layout: str,
    students: tuple[str, ...],
    *,
    temperature: float = 0.07,
    teacher_mode: str = "eval",
    teacher: IKEM | None = None,
) -> RelationalDistiller:
    """Build the `nn.RelationalDistiller` for a teacher of these settings, or with random weights for one."""
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
        teacher=teacher or build_model(config, layout),
    )
