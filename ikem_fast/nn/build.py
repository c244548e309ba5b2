"""The models of their settings: the one place where settings become modules."""

import contextlib
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ikem_fast.errors import InputError
from ikem_fast.nn.config import DEFAULTS, ModelConfig
from ikem_fast.nn.distiller import RelationalDistiller
from ikem_fast.nn.encoders.base import encoder_maker
from ikem_fast.nn.ikem import IKEM
from ikem_fast.skeleton import Layout


def build_ikem(config: ModelConfig, layout: str | Layout, *, bodies: int = 2) -> IKEM:
    """Make the `nn.IKEM` of these settings.

    Args:
        config: its settings.
        layout: name of a joint layout, or a `skeleton.Layout`.
        bodies: M, of a clip.

    Raises InputError for a setting that the model or its encoder refuses.

    Example:
        model = build_ikem(ModelConfig(queue_size=1024), "ntu-rgb+d")
    """
    with _naming_the_model():
        return IKEM(
            momentum=config.momentum,
            exchange_key_updates=config.exchange_key_updates,
            initialization=config.initialization,
            temperature=config.temperature,
            **_shared(config, layout, bodies),
        )


def build_distiller(
    config: ModelConfig,
    layout: str | Layout,
    students: Sequence[str],
    *,
    temperature: float = DEFAULTS.temperature,
    teacher_mode: str = "eval",
    teacher: Mapping[str, torch.Tensor] | None = None,
    initialize: str = "random",
    bodies: int = 2,
) -> RelationalDistiller:
    """Make the `nn.RelationalDistiller` for a teacher of these settings.

    Args:
        config: the teacher's settings; the students' encoders are of the same kind.
        layout: name of a joint layout, or a `skeleton.Layout`.
        students: modalities distilled into.
        temperature: temperature of the loss.
        teacher_mode: "eval" or "train", see `nn.RelationalDistiller`.
        teacher: state of the `nn.IKEM` whose query encoders and bank become the teacher's.
        initialize: "random" or "teacher", where the students start.
        bodies: M, of a clip.

    Raises InputError for a setting that the model or its encoder refuses.

    Example:
        model = build_distiller(ModelConfig(), "ntu-rgb+d", ("joint",), temperature=0.07)
    """
    ikem = build_ikem(config, layout, bodies=bodies)
    if teacher is not None:
        ikem.load_state_dict(teacher)
    return RelationalDistiller(
        students=students,
        teacher_mode=teacher_mode,
        teacher=ikem,
        initialize=initialize,
        temperature=temperature,
        **_shared(config, layout, bodies),
    )


def build_encoders(
    config: ModelConfig, layout: str | Layout, modalities: Sequence[str], *, bodies: int = 2
) -> nn.ModuleDict:
    """Make encoders alone of these settings, one a modality: nothing but their feature comes out of them.

    Args:
        config: settings of a model.
        layout: name of a joint layout, or a `skeleton.Layout`.
        modalities: which.
        bodies: M, of a clip.

    Raises InputError for a setting that the encoder refuses.

    Example:
        encoders = build_encoders(ModelConfig(), "ntu-rgb+d", ("joint", "bone"))
    """
    shared = _shared(config, layout, bodies)
    names = ("hidden_channels", "hidden_dim", "dropout", "layout", "bodies", "strategy")
    with _naming_the_model():
        make = encoder_maker(
            config.encoder,
            lambda size: nn.Identity(),
            num_classes=config.feature_dim,
            **{name: shared[name] for name in names},
        )
        return nn.ModuleDict({name: make() for name in modalities})


@contextlib.contextmanager
def _naming_the_model():
    """Say of settings that a constructor refuses, such as an encoder's own, whose they are."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"model: {error}") from None


def _shared(config, layout, bodies):
    """What the constructors of both models take."""
    names = ("feature_dim", "queue_size", "hidden_channels", "hidden_dim", "dropout", "topk", "context")
    settings = {
        name: getattr(config, name) for name in (*names, "modalities", "strategy", "head", "impl", "encoder")
    }
    return settings | {"layout": layout, "bodies": bodies}
