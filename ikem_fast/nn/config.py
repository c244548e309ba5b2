"""Settings of the models: every default written once, every setting with what it may be."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from ikem_fast.errors import InputError
from ikem_fast.nn.encoders import stgcn
from ikem_fast.nn.encoders.base import EncoderConfig, defaults_of
from ikem_fast.ops._support import Implementation
from ikem_fast.ops.modalities.definitions import DEFINITIONS
from ikem_fast.settings import setting
from ikem_fast.skeleton import MODALITIES

RENAMED = {"initialisation": "initialization"}  # settings of version 1 → what they are called now


@dataclass
class ModelConfig:
    """Settings of the pretraining model and constants of its losses; see `ikem_fast.nn.IKEM`.

    Args:
        feature_dim: size of the contrasted features.
        queue_size: keys in the memory bank of a modality.
        hidden_channels: width of the encoder, of its first block where it widens; left out, its own default.
        hidden_dim: width of the encoder's last block, if it can be chosen; left out, its own default.
        dropout: probability of dropout in the encoder; left out, its own default.
        momentum: momentum of the key encoders' moving average.
        temperature: temperature of every loss.
        topk: neighbors mined for each query in phase 2.
        context: whether phase 2 contrasts products of similarities too.
        modalities: which modalities the model has, in this order.
        strategy: how the encoder's graph is partitioned.
        exchange_key_updates: modalities whose key encoders are updated in phase 2.
        initialization: torch's own, with keys as copies; or as published, with keys drawn apart.
        head: what stands on the feature: two layers as published, or with a batch normalization between.
        impl: auto takes kernels where they serve; fused wants them; reference computes in plain torch.
        encoder: which encoder, and settings of its own.
    """

    feature_dim: int = setting(128, least=1)
    queue_size: int = setting(32768, least=1)
    hidden_channels: int | None = setting(None, least=1)
    hidden_dim: int | None = setting(None, least=1)
    dropout: float | None = setting(None, least=0, below=1)
    momentum: float = setting(0.999, least=0, most=1)
    temperature: float = setting(0.07, above=0)
    topk: int = setting(1, least=1)
    context: bool = True
    modalities: tuple[str, ...] = setting(MODALITIES, choices=tuple(DEFINITIONS))
    strategy: Literal["spatial", "distance"] = stgcn.STRATEGY
    exchange_key_updates: tuple[str, ...] = setting(
        ("motion", "acceleration", "angular_velocity"), choices=tuple(DEFINITIONS), empty=True
    )
    initialization: Literal["default", "published"] = "default"
    head: Literal["published", "normalized"] = "published"
    impl: Implementation = "auto"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "ModelConfig":
        """Make the settings that a checkpoint or a file holds, those of version 1 too.

        Raises InputError for a setting that there is not.

        Example:
            config = ModelConfig.of(load_checkpoint("runs/teacher")["model_config"])
        """
        settings = upgraded(settings)
        encoder = settings.pop("encoder", None)
        try:
            if encoder is not None:
                settings["encoder"] = EncoderConfig(**encoder)
            return cls(**settings)
        except TypeError as error:
            raise InputError(f"model: expected known settings, found another: {error}") from None

    def complete(self) -> "ModelConfig":
        """Fill in, as the encoder has them, the settings that were left out: what a checkpoint keeps.

        Raises ValueError where there is no encoder of this name.

        Example:
            ModelConfig(encoder=EncoderConfig("tcn")).complete().hidden_channels  # 128
        """
        defaults = defaults_of(self.encoder.name)
        shared = {entry.name for entry in fields(self)}
        left_out: dict[str, Any] = {
            name: defaults.get(name) for name in shared if getattr(self, name) is None
        }
        own = {name: value for name, value in defaults.items() if name not in shared}
        return replace(self, **left_out, encoder=replace(self.encoder, sizes=own | self.encoder.sizes))

    def problem(self) -> str | None:
        """Say what is wrong among settings that are each right for themselves, or None.

        Example:
            ModelConfig(topk=9, queue_size=8).problem()  # "topk: expected at most queue_size = 8, found 9"
        """
        if self.topk > self.queue_size:
            return f"topk: expected at most queue_size = {self.queue_size}, found {self.topk}"
        return None


def upgraded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a model under their present names."""
    return {RENAMED.get(name, name): value for name, value in settings.items()}


DEFAULTS = ModelConfig()
