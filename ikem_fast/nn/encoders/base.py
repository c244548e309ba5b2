"""What an encoder is, which there are, and how one is made.

An encoder is a module that maps clips (N,C,T,V,M) to (output (N,num_classes), pooled feature (N,hidden_dim)).
It says the size of that feature, which follows from its sizes and its pooling: `hidden_dim`. Its last layer
is `fc`, linear from the feature to the output, so that a model can put a head in its place. Its constructor
takes `layout` and `num_classes`, `bodies` if it depends on their number, and sizes of its own by name; it
raises ValueError for one that is out of range (`checks.py`), and for clips of other joints. Any number of
frames will do, from 1; which body comes first does not matter, and a body of zeros does not count
(`pooling.py`), unless a setting puts bodies side by side.

To add one: a file beside this one, a line in ENCODERS, and small sizes of it in the test of this table.
"""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from ikem_fast.nn.encoders.stgcn import STGCN, encode_together
from ikem_fast.nn.encoders.tcn import TCN
from ikem_fast.nn.encoders.transformer import Transformer
from ikem_fast.skeleton import Layout


class Encoder(Protocol):
    """What a model asks of an encoder."""

    fc: nn.Module
    hidden_dim: int

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map x (N,C,T,V,M) to (output (N,num_classes), pooled feature (N,hidden_dim))."""
        ...


ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "stgcn": STGCN,
    "tcn": TCN,
    "transformer": Transformer,
}

GIVEN = ("layout", "bodies", "num_classes")  # what a dataset and a model say, and no user


@dataclass
class EncoderConfig:
    """Which encoder a model has.

    Args:
        name: of the table `ikem_fast.nn.ENCODERS`.
        sizes: settings of this encoder beyond those that a model has for every encoder, by their names.
    """

    name: str = "stgcn"
    sizes: dict[str, Any] = field(default_factory=dict)

    def problem(self) -> str | None:
        """Say what is wrong with the settings, or None."""
        if self.name not in ENCODERS:
            return f"name: expected one of {', '.join(ENCODERS)}, found {self.name!r}"
        return None


def create_encoder(
    name: str, *, layout: str | Layout, bodies: int = 2, num_classes: int, **sizes: object
) -> nn.Module:
    """Make an encoder of the table `ENCODERS`.

    Args:
        name: which.
        layout: name of a joint layout, or a `skeleton.Layout`.
        bodies: M, of a clip.
        num_classes: size of the output.
        sizes: the encoder's own settings; what is left out is as its constructor has it.

    Returns:
        A module that maps (N,C,T,V,M) to (output (N,num_classes), pooled feature (N,hidden_dim)).

    Raises:
        ValueError: there is no encoder of this name, or it has no such setting, or one is out of range.

    Example:
        encoder = create_encoder("stgcn", layout="ntu-rgb+d", bodies=2, num_classes=60, hidden_channels=32)
        output, feature = encoder(torch.randn(8, 3, 50, 25, 2))  # (8, 60), (8, 256)
    """
    accepted = settings_of(name)
    unknown = [size for size in sizes if size not in accepted]
    if unknown:
        raise ValueError(
            f"encoder {name}: expected settings out of {', '.join(accepted)}, found {unknown[0]!r}"
        )
    given = {"layout": layout, "bodies": bodies, "num_classes": num_classes}
    return ENCODERS[name](**{key: value for key, value in given.items() if key in accepted}, **sizes)


def settings_of(name: str) -> tuple[str, ...]:
    """Return the names of an encoder's settings. Raises ValueError where there is no encoder of this name."""
    if name not in ENCODERS:
        raise ValueError(f"encoder: expected one of {', '.join(ENCODERS)}, found {name!r}")
    return tuple(inspect.signature(ENCODERS[name]).parameters)


def defaults_of(name: str) -> dict[str, Any]:
    """Return an encoder's settings that a user may choose, with their defaults.

    Those that follow from a dataset or a model are not among them. Raises ValueError where there is no
    encoder of this name.
    """
    settings_of(name)
    parameters = inspect.signature(ENCODERS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in GIVEN and p.default is not p.empty}


def encoder_maker(
    encoder: str | EncoderConfig | nn.Module | Callable[[], nn.Module] | None,
    head: Callable[[int], nn.Module],
    **shared: object,
) -> Callable[[], nn.Module]:
    """Return a function that makes a model's encoders.

    Args:
        encoder: a module, copied each time; a function that makes one; or one of the table, by name or
            settings.
        head: makes, for a size of the feature, what takes the place of `fc` in an encoder of the table.
        shared: settings that a model has for every encoder; one that does not know them goes without, and
            what is None is as the encoder has it.

    Raises:
        ValueError: settings of the encoder's own are among the shared ones; later: what `create_encoder`
            raises.
    """
    if isinstance(encoder, nn.Module):
        return lambda: copy.deepcopy(encoder)
    if not isinstance(encoder, str | EncoderConfig | None):
        return encoder
    chosen = encoder if isinstance(encoder, EncoderConfig) else EncoderConfig(encoder or EncoderConfig.name)
    twice = [name for name in chosen.sizes if name in shared]
    if twice:
        raise ValueError(f"encoder.sizes: expected {twice[0]!r} as a setting of the model, found it here")

    def make():
        known = {*GIVEN, *settings_of(chosen.name)}
        settings = {name: value for name, value in shared.items() if name in known and value is not None}
        network = create_encoder(chosen.name, **settings, **chosen.sizes)
        network.fc = head(network.hidden_dim)
        return network

    return make


def feature_size(encoder: nn.Module, otherwise: int) -> int:
    """Return the size of an encoder's pooled feature: its `hidden_dim`, or `otherwise` if it does not say."""
    return getattr(encoder, "hidden_dim", otherwise)


def encode_views(encoders: nn.ModuleDict, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Map views (P,N,3,T,V,M) to outputs (P,N,·) and features (P,N,·): each view through its own encoder.

    A view is cast to the dtype of its encoder's parameters, so that models in any dtype take clips in any.
    """
    of_each = list(zip(encoders.values(), views, strict=True))
    given = [view.to(_dtype_of(encoder, view)) for encoder, view in of_each]
    outputs, features = zip(*encode_together([encoder for encoder, _ in of_each], given), strict=True)
    return torch.stack(outputs), torch.stack(features)


def _dtype_of(encoder, view):
    return next((p.dtype for p in encoder.parameters() if p.is_floating_point()), view.dtype)
