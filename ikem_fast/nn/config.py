"""Settings of the models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ikem_fast.errors import InputError
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

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "ModelConfig":
        """Make the settings that a checkpoint or a file holds, those of version 1 too.

        Raises InputError for a setting that there is not.
        """
        try:
            return cls(**upgraded(settings))
        except TypeError as error:
            raise InputError(f"model: expected known settings, found another: {error}") from None

    def problem(self) -> str | None:
        """Say what is wrong among settings that are each right for themselves, or None."""
        if self.topk > self.queue_size:
            return f"topk: expected at most queue_size = {self.queue_size}, found {self.topk}"
        return None


def upgraded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a model under their present names."""
    return dict(settings)
