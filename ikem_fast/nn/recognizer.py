"""Frozen encoders and linear classifiers on their features: from preprocessed clips to probabilities."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ikem_fast import ops
from ikem_fast.nn.encoders.base import encode_views
from ikem_fast.ops._support import Implementation
from ikem_fast.skeleton import Layout


class LinearHead(nn.Module):
    """Classify the features of S modalities, side by side: the softmax of scores over a temperature.

    Args:
        weight: (S·H,C) float32; scores are features @ weight / S + bias.
        bias: (C,) float32.
        temperature: what scores are divided by, > 0.

    Example:
        LinearHead(torch.randn(512, 27), torch.zeros(27), 0.1)(torch.randn(8, 2, 256))  # (8, 27)
    """

    weight: Tensor
    bias: Tensor
    temperature: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, temperature: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (N,S,H) to probabilities (N,C), which sum to 1."""
        scores = features.flatten(1) @ self.weight / features.shape[1] + self.bias
        return torch.softmax(scores / self.temperature, 1)


class Recognizer(nn.Module):
    """Recognize actions by frozen encoders of some modalities and a linear classifier for sets of them.

    Args:
        encoders: modality → encoder; what stands on its pooled feature is not used.
        layout: name of the joint layout of clips, or a `skeleton.Layout`.
        heads: set of modalities, joined by "+" → its classifier; empty for encoders without any.

    Example:
        recognizer = Recognizer(encoders, "ntu-rgb+d", {"joint+bone": LinearHead(weight, bias)})
        probabilities, features = recognizer(torch.randn(8, 3, 50, 25, 2), torch.full((8,), 90))
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module] | nn.ModuleDict,
        layout: str | Layout,
        heads: Mapping[str, LinearHead],
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(dict(encoders.items()))
        self.heads = nn.ModuleDict(dict(heads))
        self.layout = layout
        self.requires_grad_(False).eval()

    @property
    def largest(self) -> str | None:
        """The set of most modalities that there is a classifier for, None where there is none."""
        return max(self.heads, key=lambda name: name.count("+"), default=None)

    def modalities_of(self, name: str | None) -> tuple[str, ...]:
        """Return the modalities of a set; all of them for None."""
        return tuple(self.encoders) if name is None else tuple(name.split("+"))

    def features(
        self,
        clips: Tensor,
        frames: Tensor | None = None,
        modalities: tuple[str, ...] | None = None,
        impl: Implementation = "auto",
    ) -> Tensor:
        """Compute the pooled features of preprocessed clips.

        Args:
            clips: (N,3,T,V,M) float32.
            frames: (N,) true frame counts; T where left out.
            modalities: which; all, in their order, if not given.
            impl: who derives the modalities.

        Returns:
            (N,S,H) float32.
        """
        chosen = modalities or tuple(self.encoders)
        views = ops.derive_modalities(clips, frames, modalities=chosen, layout=self.layout, impl=impl)
        _, features = encode_views(nn.ModuleDict({name: self.encoders[name] for name in chosen}), views)
        return features.transpose(0, 1)

    def forward(
        self,
        clips: Tensor,
        frames: Tensor | None = None,
        of: str | None = None,
        impl: Implementation = "auto",
    ) -> tuple[Tensor, Tensor]:
        """Map preprocessed clips (N,3,T,V,M) to probabilities (N,C) and features (N,S,H).

        Args:
            clips, frames, impl: see `features`.
            of: the set that answers; the one of most modalities, if not given.

        Raises KeyError where there is no classifier for this set.
        """
        name = of or self.largest
        features = self.features(clips, frames, self.modalities_of(name), impl)
        return self.heads[name or ""](features), features
